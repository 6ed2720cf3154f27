//! Recorded events per second, durable, deduplicated and rolled up, against a bare binary COPY of the same rows in the
//! same batches: `cargo run --release -p weir-usage --example record_rate [batch size ...]`.
//!
//! The bare COPY goes through the same encoder and one connection into a table without any index, one commit per batch;
//! the server has fsync on for both. Rounds alternate, medians are printed; the last line is JSON.

// A measurement that can't go on says where by panicking, and what it found goes to standard output.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use deadpool_postgres::Pool;
use futures::SinkExt as _;
use weir_config::MasterKey;
use weir_database::{copy, migrate, service_url};
use weir_testing::PostgresServer;
use weir_types::{ApiKeyId, OrganizationId, ReservationId, SystemClock, UserId};
use weir_usage::app::{Answer, Feed, Recorder};
use weir_usage::config::{Config, Recording};
use weir_usage::domain::{Disposition, Entry, Event, Outcome};
use weir_usage::storage::Store;
use weir_usage::storage::rows::{COLUMNS, CopyRows};
use weir_usage::{MIGRATION, NAME};

const ROUNDS: usize = 7;
const ROWS: usize = 40_000;
const ORGANIZATIONS: usize = 50;
const USERS: usize = 20;
const MODELS: [&str; 4] = ["gpt-4.1-mini", "gpt-4.1", "claude-sonnet-4-5", "text-embedding-3-small"];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).map(|size| size.parse().unwrap()).collect();
    let sizes = if sizes.is_empty() { vec![100, 1000, 5000] } else { sizes };
    let server = PostgresServer::start().await.unwrap();
    let master = MasterKey::generate().unwrap();
    migrate(&server.url().into(), &master, &[MIGRATION]).await.unwrap();
    let pool = pool(service_url(&server.url().into(), &master, NAME));
    let client = pool.get().await.unwrap();
    client.batch_execute("create table usage.bare (like usage.events)").await.unwrap();
    println!("{:>8} {:>16} {:>16} {:>8}", "batch", "bare COPY ev/s", "recorded ev/s", "ratio");
    let mut report = Vec::new();
    for size in sizes {
        let (mut bare, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            client.batch_execute("checkpoint").await.ok();
            bare.push(copy_bare(&pool, batches(size)).await);
            ours.push(record(&pool, batches(size)).await);
        }
        let (bare, ours) = (median(bare), median(ours));
        println!("{size:>8} {bare:>16.0} {ours:>16.0} {:>7.1}%", 100.0 * ours / bare);
        report.push(serde_json::json!({
            "batch": size, "bare_copy_per_second": bare.round(), "recorded_per_second": ours.round(), "ratio": ours / bare
        }));
    }
    let grouped = record_grouped(&pool).await;
    println!("64 callers with 50 events each at a time, grouped into transactions: {grouped:.0} events/s");
    println!("{}", serde_json::json!({ "usage_record_rate": report, "grouped_per_second": grouped.round() }));
}

fn pool(url: weir_config::Secret) -> Pool {
    let config = weir_database::Config {
        url,
        max_connections: 4,
        min_connections: 0,
        acquire_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(60),
        max_lifetime: Duration::from_secs(600),
        statement_timeout: Duration::from_secs(30),
        statement_cache_capacity: 100,
    };
    copy::deadpool(&config, NAME).unwrap()
}

fn recorder(pool: &Pool) -> Recorder {
    let day = Duration::from_secs(24 * 3600);
    let recording = Recording {
        max_batch: 5000,
        linger: Duration::from_millis(5),
        linger_below: 1000,
        queue: 20_000,
        commit_timeout: Duration::from_secs(10),
    };
    let config = Config { late_by: 400 * day, ahead_by: day, feed_poll: Duration::from_millis(200), recording };
    let store = Store::new(pool.clone(), Duration::from_secs(30));
    let (recorder, writer) = Recorder::new(&config, store.clone(), Feed::new(store), Arc::new(SystemClock));
    tokio::spawn(writer.run());
    recorder
}

/// New events of 50 tenants with 20 users each.
fn batches(size: usize) -> Vec<Vec<Event>> {
    let tenants: Vec<(OrganizationId, Vec<(UserId, ApiKeyId)>)> = (0..ORGANIZATIONS)
        .map(|_| (OrganizationId::new_v7(), (0..USERS).map(|_| (UserId::new_v7(), ApiKeyId::new_v7())).collect()))
        .collect();
    let event = |at: usize| {
        let (organization, users) = &tenants[(at * 7919) % ORGANIZATIONS];
        let (user, api_key) = users[(at * 104_729 / ORGANIZATIONS) % USERS];
        let tokens = i64::try_from(at % 4000).unwrap();
        Event {
            id: ReservationId::new_v7(),
            source: "ai-broker".to_owned(),
            organization: *organization,
            user: Some(user),
            api_key: Some(api_key),
            provider: "openai".to_owned(),
            model: MODELS[(at / 13) % MODELS.len()].to_owned(),
            operation: "chat.completions".to_owned(),
            event_time: Utc::now(),
            input_tokens: tokens,
            cached_input_tokens: tokens / 4,
            output_tokens: tokens / 5,
            quantities: [].into(),
            cost_nano_usd: tokens * 900,
            price_version: "2026-11-01".to_owned(),
            estimated: false,
            outcome: Outcome::Complete,
            latency_ms: 1234,
            first_byte_ms: 210,
            request_id: ReservationId::new_v7().to_string(),
        }
    };
    let rows: Vec<usize> = (0..ROWS.min(size * 100)).collect();
    rows.chunks(size).map(|chunk| chunk.iter().map(|at| event(*at)).collect()).collect()
}

async fn copy_bare(pool: &Pool, batches: Vec<Vec<Event>>) -> f64 {
    let client = pool.get().await.unwrap();
    client.batch_execute("truncate usage.bare").await.unwrap();
    let statement = client.prepare(&format!("copy usage.bare ({COLUMNS}) from stdin binary")).await.unwrap();
    let batches: Vec<Vec<Entry>> =
        batches.into_iter().map(|batch| batch.into_iter().map(Entry::new).collect()).collect();
    let (started, mut count, mut position) = (Instant::now(), 0, 0);
    for batch in &batches {
        let mut rows = CopyRows::with_capacity(batch.len());
        for entry in batch {
            position += 1;
            rows.push(entry, position, 1);
        }
        let mut sink = std::pin::pin!(client.copy_in(&statement).await.unwrap());
        sink.send(rows.finish()).await.unwrap();
        count += sink.as_mut().finish().await.unwrap();
    }
    count as f64 / started.elapsed().as_secs_f64()
}

async fn record(pool: &Pool, batches: Vec<Vec<Event>>) -> f64 {
    let recorder = recorder(pool);
    let (started, mut count) = (Instant::now(), 0);
    for batch in batches {
        count += recorded(&recorder, batch).await;
    }
    count as f64 / started.elapsed().as_secs_f64()
}

async fn record_grouped(pool: &Pool) -> f64 {
    let recorder = recorder(pool);
    let mut calls: Vec<Vec<Vec<Event>>> = (0..64).map(|_| Vec::new()).collect();
    for (at, batch) in (0..4).flat_map(|_| batches(50).into_iter()).take(64 * 12).enumerate() {
        calls[at % 64].push(batch);
    }
    let started = Instant::now();
    let callers = calls.into_iter().map(|own| {
        let recorder = recorder.clone();
        async move {
            let mut count = 0;
            for batch in own {
                count += recorded(&recorder, batch).await;
            }
            count
        }
    });
    let count: usize = futures::future::join_all(callers).await.into_iter().sum();
    count as f64 / started.elapsed().as_secs_f64()
}

async fn recorded(recorder: &Recorder, batch: Vec<Event>) -> usize {
    let answers = recorder.record(batch.into_iter().map(Ok).collect(), None).await.unwrap();
    assert!(answers.iter().all(|answer| *answer == Answer::Taken(Disposition::Recorded)));
    answers.len()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
