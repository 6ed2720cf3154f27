//! From the domain to the contract.

use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use tonic::Code;
use weir_proto::common::v1::{ErrorReason, ItemError};
use weir_proto::usage::v1 as pb;
use weir_types::names;

use crate::app::{Answer, Progress};
use crate::domain::{Dimension, Disposition, Event, Outcome, Query};
use crate::storage::report::{Line, Value};

/// Writes an event.
pub(super) fn event(event: Event) -> pb::UsageEvent {
    let organization = &event.organization;
    pb::UsageEvent {
        event_id: event.id.to_string(),
        source: event.source,
        organization: names::organization(organization),
        user: event.user.map(|user| names::user(organization, &user)).unwrap_or_default(),
        api_key: event.api_key.map(|key| names::api_key(organization, &key)).unwrap_or_default(),
        provider: event.provider,
        model: event.model,
        operation: event.operation,
        event_time: Some(timestamp(event.event_time)),
        input_tokens: event.input_tokens,
        cached_input_tokens: event.cached_input_tokens,
        output_tokens: event.output_tokens,
        quantities: event.quantities.into_iter().collect(),
        cost_nano_usd: event.cost_nano_usd,
        price_version: event.price_version,
        estimated: event.estimated,
        outcome: match event.outcome {
            Outcome::Complete => pb::Outcome::Complete,
            Outcome::Cancelled => pb::Outcome::Cancelled,
            Outcome::Broken => pb::Outcome::Broken,
            Outcome::Unknown => pb::Outcome::Unknown,
        }
        .into(),
        latency_ms: event.latency_ms,
        first_byte_ms: event.first_byte_ms,
        request_id: event.request_id,
        provider_key: event.provider_key.map(|key| names::provider_key(organization, &key)).unwrap_or_default(),
        requests: event.requests,
    }
}

/// Writes what became of an event.
pub(super) fn outcome(answer: Answer) -> pb::RecordOutcome {
    let of = |disposition: pb::Disposition| pb::RecordOutcome { disposition: disposition.into(), ..Default::default() };
    let rejected = |code: Code, reason: ErrorReason, message: String| pb::RecordOutcome {
        error: Some(ItemError { code: code.into(), reason: reason.into(), message, retry_after: None }),
        ..of(pb::Disposition::Rejected)
    };
    match answer {
        Answer::Taken(Disposition::Recorded) => of(pb::Disposition::Recorded),
        Answer::Taken(Disposition::Duplicate) => of(pb::Disposition::Duplicate),
        Answer::Taken(Disposition::Superseded) => of(pb::Disposition::Superseded),
        Answer::Taken(Disposition::DuplicateEstimate(recorded)) => {
            pb::RecordOutcome { recorded: Some(event(*recorded)), ..of(pb::Disposition::DuplicateEstimate) }
        }
        Answer::Taken(Disposition::IdReused) => {
            let message = "event_id: recorded before, with another payload".to_owned();
            rejected(Code::AlreadyExists, ErrorReason::IdReused, message)
        }
        Answer::Invalid(invalid) => rejected(Code::InvalidArgument, ErrorReason::InvalidArgument, invalid.to_string()),
    }
}

/// Writes a line of sums.
pub(super) fn row(query: &Query, line: Line) -> pb::UsageRow {
    let name = |(dimension, value): (&Dimension, Value)| match (dimension, value) {
        (_, Value::Name(name)) => name,
        (_, Value::Id(id)) if id.is_nil() => String::new(),
        (Dimension::ApiKey, Value::Id(id)) => names::api_key(&query.organization, &id.into()),
        (_, Value::Id(id)) => names::user(&query.organization, &id.into()),
    };
    pb::UsageRow {
        bucket_start: Some(timestamp(line.bucket)),
        dimensions: query.group_by.iter().zip(line.values).map(name).collect(),
        requests: line.sums.requests,
        input_tokens: line.sums.input_tokens,
        cached_input_tokens: line.sums.cached_input_tokens,
        output_tokens: line.sums.output_tokens,
        cost_nano_usd: line.sums.cost_nano_usd,
        estimated_requests: line.sums.estimated_requests,
    }
}

/// Writes a part of the feed.
pub(super) fn progress(progress: Progress) -> pb::WatchChangesResponse {
    let changes = progress.changes.into_iter().map(|change| pb::Change {
        position: change.position,
        revision: change.recorded.revision,
        event: Some(event(change.recorded.event)),
    });
    pb::WatchChangesResponse { changes: changes.collect(), head: progress.head }
}

/// Writes a part of a scan.
pub(super) fn scanned(events: Vec<Event>) -> pb::ScanEventsResponse {
    pb::ScanEventsResponse { events: events.into_iter().map(event).collect() }
}

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0);
    Timestamp { seconds: time.timestamp(), nanos }
}
