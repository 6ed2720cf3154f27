//! Recorded events per second, durable, deduplicated and rolled up, against a bare binary COPY of the same rows in the
//! same batches: `cargo run --release -p weir-usage --example record_rate`.
//!
//! The bare COPY goes through the same encoder into a table without any index, batch after batch on one
//! connection, one commit each; the service has one connection too, and as many senders as the row says. The server has
//! fsync on for both. Rounds alternate, medians are printed; the last line is JSON.

// A measurement that can't go on says where by panicking, and what it found goes to standard output.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use deadpool_postgres::Pool;
use futures::SinkExt as _;
use weir_config::{Loader, MasterKey, Problem, Validate};
use weir_database::{copy, migrate, service_url};
use weir_testing::PostgresServer;
use weir_types::{ApiKeyId, OrganizationId, ReservationId, SystemClock, UserId};
use weir_usage::app::{Answer, Feed, Recorder};
use weir_usage::domain::{Disposition, Entry, Event, Outcome};
use weir_usage::storage::Store;
use weir_usage::storage::rows::{COLUMNS, CopyRows};
use weir_usage::{Config, DEFAULTS, MIGRATION, NAME};

const ROUNDS: usize = 7;
const ROWS: usize = 40_000;

/// What is measured.
struct Case {
    /// So many send at a time.
    senders: usize,
    /// Events in each batch.
    batch: usize,
    /// Tenants, and users of each: with 1,000 users almost every event of a batch moves sums of its own.
    crowd: (usize, usize),
}

const CASES: [Case; 5] = [
    Case { senders: 1, batch: 1000, crowd: (8, 4) },
    Case { senders: 1, batch: 5000, crowd: (8, 4) },
    Case { senders: 8, batch: 100, crowd: (8, 4) },
    Case { senders: 8, batch: 1000, crowd: (8, 4) },
    Case { senders: 8, batch: 1000, crowd: (50, 20) },
];
const MODELS: [&str; 4] = ["gpt-4.1-mini", "gpt-4.1", "claude-sonnet-4-5", "text-embedding-3-small"];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let server = PostgresServer::start().await.unwrap();
    let master = MasterKey::generate().unwrap();
    migrate(&server.url().into(), &master, &[MIGRATION]).await.unwrap();
    let pool = pool(service_url(&server.url().into(), &master, NAME));
    let client = pool.get().await.unwrap();
    client.batch_execute("create table usage.bare (like usage.events)").await.unwrap();
    println!("senders  batch  tenants x users  bare COPY ev/s  recorded ev/s   ratio");
    let mut report = Vec::new();
    for Case { senders, batch, crowd } in CASES {
        let (mut bare, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            client.batch_execute("truncate usage.bare").await.unwrap();
            bare.push(copy_bare(&pool, batches(senders, batch, crowd)).await);
            ours.push(record(&pool, batches(senders, batch, crowd)).await);
        }
        let (bare, ours) = (median(bare), median(ours));
        let (tenants, users) = crowd;
        println!(
            "{senders:>7} {batch:>6} {tenants:>8} x {users:<4} {bare:>16.0} {ours:>14.0} {:>6.1}%",
            100.0 * ours / bare
        );
        report.push(serde_json::json!({
            "senders": senders, "batch": batch, "tenants": tenants, "users_each": users,
            "bare_copy_per_second": bare.round(), "recorded_per_second": ours.round(), "ratio": ours / bare
        }));
    }
    println!("{}", serde_json::json!({ "usage_record_rate": report }));
}

fn pool(url: weir_config::Secret) -> Pool {
    let config = weir_database::Config {
        url,
        max_connections: 10,
        min_connections: 0,
        acquire_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(60),
        max_lifetime: Duration::from_secs(600),
        statement_timeout: Duration::from_secs(30),
        statement_cache_capacity: 100,
    };
    copy::deadpool(&config, NAME).unwrap()
}

/// As it ships.
fn config() -> Config {
    #[derive(serde::Deserialize)]
    struct Root {
        usage: Config,
    }
    impl Validate for Root {
        fn validate(&self, at: &str, problems: &mut Vec<Problem>) {
            self.usage.validate(at, problems);
        }
    }
    Loader::new().section(DEFAULTS).load::<Root>().unwrap().usage
}

fn recorder(pool: &Pool) -> Recorder {
    let store = Store::new(pool.clone(), Duration::from_secs(30));
    let (recorder, writer) = Recorder::new(&config(), store.clone(), Feed::new(store), Arc::new(SystemClock));
    tokio::spawn(writer.run());
    recorder
}

/// New events: for each sender its batches.
fn batches(senders: usize, size: usize, (tenants, users): (usize, usize)) -> Vec<Vec<Vec<Event>>> {
    let tenants: Vec<(OrganizationId, Vec<(UserId, ApiKeyId)>)> = (0..tenants)
        .map(|_| (OrganizationId::new_v7(), (0..users).map(|_| (UserId::new_v7(), ApiKeyId::new_v7())).collect()))
        .collect();
    let event = |at: usize| {
        let (organization, users) = &tenants[(at * 7919) % tenants.len()];
        let (user, api_key) = users[(at * 104_729 / tenants.len()) % users.len()];
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
            provider_key: None,
            requests: 1,
        }
    };
    let each = (ROWS / senders / size).max(1);
    let batch = |first: usize| (first..first + size).map(event).collect();
    let sender = |at: usize| (0..each).map(|turn| batch((at * each + turn) * size)).collect();
    (0..senders).map(sender).collect()
}

async fn copy_bare(pool: &Pool, batches: Vec<Vec<Vec<Event>>>) -> f64 {
    // The bare COPY is not made to wait for hashes.
    let hashed = |event| {
        let entry = Entry::new(event);
        let _ = entry.hash();
        entry
    };
    let entries = |batch: Vec<Event>| batch.into_iter().map(hashed).collect::<Vec<_>>();
    let client = pool.get().await.unwrap();
    let statement = client.prepare(&format!("copy usage.bare ({COLUMNS}) from stdin binary")).await.unwrap();
    let batches: Vec<Vec<Entry>> = batches.into_iter().flatten().map(entries).collect();
    let copy = async move {
        let mut count = 0;
        for batch in &batches {
            let mut sink = std::pin::pin!(client.copy_in(&statement).await.unwrap());
            let mut rows = CopyRows::begin();
            for (position, entry) in (1..).zip(batch) {
                rows.push(entry, position, 1);
                if let Some(part) = rows.part() {
                    sink.feed(part).await.unwrap();
                }
            }
            sink.feed(rows.finish()).await.unwrap();
            count += sink.as_mut().finish().await.unwrap();
        }
        count
    };
    rate(vec![copy]).await
}

async fn record(pool: &Pool, batches: Vec<Vec<Vec<Event>>>) -> f64 {
    let recorder = recorder(pool);
    let senders = batches.into_iter().map(|own| {
        let recorder = recorder.clone();
        async move {
            let mut count = 0;
            for batch in own {
                let answers = recorder.record(batch.into_iter().map(Ok).collect(), None).await.unwrap();
                assert!(answers.iter().all(|answer| *answer == Answer::Taken(Disposition::Recorded)));
                count += answers.len() as u64;
            }
            count
        }
    });
    rate(senders.collect()).await
}

async fn rate(senders: Vec<impl Future<Output = u64> + Send + 'static>) -> f64 {
    let started = Instant::now();
    let mut tasks: tokio::task::JoinSet<u64> = senders.into_iter().collect();
    let mut count = 0;
    while let Some(own) = tasks.join_next().await {
        count += own.unwrap();
    }
    count as f64 / started.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
