//! How many events a second usage records, against a bare COPY of the same rows in the same batches into the same Postgres.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use chrono::Utc;
use futures::future::try_join_all;
use serde::Serialize;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls};
use tonic::Request;
use uuid::Uuid;
use weir_proto::usage::v1::{Disposition, Outcome, RecordEventsRequest, UsageEvent};

use crate::latency::median;
use crate::siblings::Siblings;
use crate::tenants::Tenant;

/// Events of one call and of one COPY.
const BATCH: usize = 5_000;
/// Calls under way at once: while one is written, the next is read.
const CALLERS: usize = 2;
/// Batches of one round.
const BATCHES: usize = 20;

const TABLE: &str = "drop table if exists public.bench_copy; \
    create table public.bench_copy (organization_id uuid not null, event_id uuid not null, user_id uuid, api_key_id uuid, \
    event_time timestamptz not null, input_tokens bigint not null, cached_input_tokens bigint not null, \
    output_tokens bigint not null, cost_nano_usd bigint not null, latency_ms bigint not null, first_byte_ms bigint not null, \
    outcome smallint not null, estimated boolean not null, source text not null, provider text not null, model text not null, \
    operation text not null, price_version text not null, request_id text not null)";

/// The columns of the table above.
const TYPES: [Type; 19] = [
    Type::UUID,
    Type::UUID,
    Type::UUID,
    Type::UUID,
    Type::TIMESTAMPTZ,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT2,
    Type::BOOL,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
];

/// Rows a second, medians of alternating rounds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Ingest {
    /// Recorded by usage: durable, deduplicated and rolled up.
    pub usage_per_second: f64,
    /// Copied barely.
    pub copy_per_second: f64,
    /// The first in percent of the second.
    pub percent: f64,
}

/// Alternates between both.
///
/// # Errors
/// Usage or Postgres refuses.
pub(super) async fn measure(
    siblings: &Siblings,
    postgres: &str,
    tenant: &Tenant,
    rounds: usize,
) -> anyhow::Result<Ingest> {
    let (client, connection) = tokio_postgres::connect(postgres, NoTls).await.context("Postgres")?;
    let connection = tokio::spawn(connection);
    client.batch_execute(TABLE).await?;
    let (mut usage, mut copy) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let events: Vec<Vec<UsageEvent>> = (0..BATCHES).map(|_| batch(tenant)).collect();
        copy.push(per_second(copy_all(&client, &events).await?));
        usage.push(per_second(record_all(siblings, events).await?));
    }
    client.batch_execute("drop table public.bench_copy").await?;
    drop(client);
    connection.await??;
    let (usage_per_second, copy_per_second) = (median(usage), median(copy));
    Ok(Ingest { usage_per_second, copy_per_second, percent: usage_per_second / copy_per_second * 100.0 })
}

fn per_second(took: Duration) -> f64 {
    (BATCH * BATCHES) as f64 / took.as_secs_f64()
}

fn batch(tenant: &Tenant) -> Vec<UsageEvent> {
    let now = Utc::now();
    let event = |number: usize| UsageEvent {
        event_id: Uuid::now_v7().to_string(),
        source: "ai-broker".to_owned(),
        organization: tenant.organization.clone(),
        user: tenant.user.clone(),
        api_key: tenant.api_key.clone(),
        provider: "openai".to_owned(),
        model: ["gpt-4o-mini", "gpt-4o", "gpt-4.1"][number % 3].to_owned(),
        operation: "chat.completions".to_owned(),
        event_time: Some(prost_types::Timestamp { seconds: now.timestamp(), nanos: 0 }),
        input_tokens: 1_000,
        output_tokens: 200,
        cost_nano_usd: 270_000,
        price_version: "bench".to_owned(),
        outcome: Outcome::Complete.into(),
        latency_ms: 900,
        first_byte_ms: 300,
        request_id: "bench".to_owned(),
        ..UsageEvent::default()
    };
    (0..BATCH).map(event).collect()
}

async fn record_all(siblings: &Siblings, batches: Vec<Vec<UsageEvent>>) -> anyhow::Result<Duration> {
    let queue = std::cell::RefCell::new(batches);
    let start = Instant::now();
    let caller = async || {
        let mut client = siblings.usage();
        loop {
            let Some(events) = queue.borrow_mut().pop() else { return anyhow::Ok(()) };
            let mut request = Request::new(RecordEventsRequest { events });
            request.set_timeout(Duration::from_secs(60));
            let outcomes = client.record_events(request).await?.into_inner().outcomes;
            if let Some(other) = outcomes.iter().find(|outcome| outcome.disposition() != Disposition::Recorded) {
                bail!("an event was not recorded: {other:?}");
            }
        }
    };
    try_join_all((0..CALLERS).map(|_| caller())).await?;
    Ok(start.elapsed())
}

async fn copy_all(client: &Client, batches: &[Vec<UsageEvent>]) -> anyhow::Result<Duration> {
    let mut rows = Vec::new();
    for batch in batches {
        rows.push(batch.iter().map(Row::of).collect::<anyhow::Result<Vec<_>>>()?);
    }
    let start = Instant::now();
    for batch in &rows {
        let sink = client.copy_in("copy public.bench_copy from stdin (format binary)").await?;
        let mut writer = std::pin::pin!(BinaryCopyInWriter::new(sink, &TYPES));
        for row in batch {
            let event = row.event;
            let (outcome, estimated) = (1_i16, false);
            writer
                .as_mut()
                .write(&[
                    &row.organization,
                    &row.id,
                    &row.user,
                    &row.key,
                    &row.time,
                    &event.input_tokens,
                    &event.cached_input_tokens,
                    &event.output_tokens,
                    &event.cost_nano_usd,
                    &event.latency_ms,
                    &event.first_byte_ms,
                    &outcome,
                    &estimated,
                    &event.source,
                    &event.provider,
                    &event.model,
                    &event.operation,
                    &event.price_version,
                    &event.request_id,
                ])
                .await?;
        }
        writer.finish().await?;
    }
    Ok(start.elapsed())
}

/// An event with its ids as Postgres takes them.
struct Row<'a> {
    organization: Uuid,
    id: Uuid,
    user: Uuid,
    key: Uuid,
    time: chrono::DateTime<Utc>,
    event: &'a UsageEvent,
}

impl<'a> Row<'a> {
    fn of(event: &'a UsageEvent) -> anyhow::Result<Self> {
        let id = |name: &str| Uuid::parse_str(name.rsplit('/').next().unwrap_or_default());
        Ok(Self {
            organization: id(&event.organization)?,
            id: id(&event.event_id)?,
            user: id(&event.user)?,
            key: id(&event.api_key)?,
            time: Utc::now(),
            event,
        })
    }
}
