//! Usage events of answers that cost nothing: counted together, recorded in batches beside the calls.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use metrics::{Counter, counter, describe_counter};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use weir_proto::usage::v1::usage_service_client::UsageServiceClient;
use weir_proto::usage::v1::{RecordEventsRequest, UsageEvent};
use weir_rpc::{Channel, Failure};
use weir_types::ReservationId;

/// Events that wait; beyond it answers are counted, and not recorded.
const ROOM: usize = 20_000;
/// How long events are gathered: what a killed broker has not recorded.
const EVERY: Duration = Duration::from_secs(1);
/// The most in one request.
const BATCH: usize = 1000;
const DEADLINE: Duration = Duration::from_secs(10);
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// At the end: how long nothing must have come, and how often the last ones are tried.
const LAST: Duration = Duration::from_millis(100);
const LAST_TRIES: u32 = 3;

/// What answers have in common that are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Alike {
    pub(super) organization: String,
    pub(super) user: String,
    pub(super) api_key: String,
    pub(super) provider: String,
    pub(super) model: String,
    pub(super) operation: &'static str,
    pub(super) price_version: Arc<str>,
}

/// As what an answer is counted.
pub(super) struct Counted {
    pub(super) alike: Alike,
    /// The event of one, without its id and time.
    pub(super) event: Box<UsageEvent>,
}

/// Takes events.
pub(super) struct Hits {
    waiting: Arc<Mutex<Waiting>>,
    unrecorded: Counter,
}

/// What is not recorded yet.
#[derive(Default)]
struct Waiting {
    sums: HashMap<Alike, UsageEvent>,
    single: Vec<UsageEvent>,
    /// Nobody records any more.
    closed: bool,
}

/// Records them.
pub(super) struct Recorder {
    waiting: Arc<Mutex<Waiting>>,
    usage: UsageServiceClient<Channel>,
    unrecorded: Counter,
}

impl Hits {
    pub(super) fn new(usage: UsageServiceClient<Channel>) -> (Self, Recorder) {
        describe_counter!(
            "weir_broker_cache_unrecorded_total",
            "Answers without cost that usage could not be told of."
        );
        let unrecorded = counter!("weir_broker_cache_unrecorded_total");
        let waiting = Arc::default();
        let hits = Self { waiting: Arc::clone(&waiting), unrecorded: unrecorded.clone() };
        (hits, Recorder { waiting, usage, unrecorded })
    }

    /// Records an event by itself, some time later.
    pub(super) fn record(&self, event: UsageEvent) {
        let mut waiting = self.waiting.lock();
        if waiting.has_room() {
            waiting.single.push(event);
        } else {
            self.unrecorded.increment(1);
        }
    }

    /// Counts one more answer, to the request of this id. Answers the id of the event that it is counted in.
    pub(super) fn count(&self, counted: &Counted, request_id: &str, now: DateTime<Utc>) -> String {
        let mut waiting = self.waiting.lock();
        if let Some(sum) = waiting.sums.get_mut(&counted.alike) {
            sum.requests += 1;
            return sum.event_id.clone();
        }
        let event = counted.first(request_id, now);
        let id = event.event_id.clone();
        if waiting.has_room() {
            waiting.sums.insert(counted.alike.clone(), event);
        } else {
            self.unrecorded.increment(1);
        }
        id
    }
}

impl Counted {
    /// The event that begins a sum.
    fn first(&self, request_id: &str, now: DateTime<Utc>) -> UsageEvent {
        let nanos = i32::try_from(now.timestamp_subsec_nanos()).unwrap_or(0);
        UsageEvent {
            event_id: ReservationId::new_v7().to_string(),
            event_time: Some(prost_types::Timestamp { seconds: now.timestamp(), nanos }),
            request_id: request_id.to_owned(),
            requests: 1,
            ..(*self.event).clone()
        }
    }
}

impl Waiting {
    fn has_room(&self) -> bool {
        !self.closed && self.sums.len() + self.single.len() < ROOM
    }

    fn take(&mut self) -> Vec<UsageEvent> {
        let mut events = std::mem::take(&mut self.single);
        events.extend(self.sums.drain().map(|(_, event)| event));
        events
    }
}

impl Recorder {
    /// Records what comes, until nothing does after `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let ends = stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none();
            if ends {
                tokio::time::sleep(LAST).await;
            }
            let events = {
                let mut waiting = self.waiting.lock();
                let events = waiting.take();
                waiting.closed = ends && events.is_empty();
                events
            };
            if ends && events.is_empty() {
                return;
            }
            for batch in events.chunks(BATCH) {
                self.send(batch, &stop).await;
            }
        }
    }

    async fn send(&mut self, events: &[UsageEvent], stop: &CancellationToken) {
        let (mut pause, mut last) = (PAUSES.0, 0);
        loop {
            let mut request = tonic::Request::new(RecordEventsRequest { events: events.to_vec() });
            request.set_timeout(DEADLINE);
            let Err(status) = self.usage.record_events(request).await else { return };
            let failure = Failure::from(&status);
            if stop.is_cancelled() {
                last += 1;
            }
            if !failure.is_transient() || last >= LAST_TRIES {
                let requests = events.iter().map(|event| event.requests.max(1).unsigned_abs()).sum();
                tracing::error!(error = %failure, requests, "answers without cost can't be recorded");
                self.unrecorded.increment(requests);
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}
