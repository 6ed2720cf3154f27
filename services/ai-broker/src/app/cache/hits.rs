//! Usage events of answers that cost nothing: in batches, beside the calls.

use std::time::Duration;

use metrics::{Counter, counter, describe_counter};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use weir_proto::usage::v1::usage_service_client::UsageServiceClient;
use weir_proto::usage::v1::{RecordEventsRequest, UsageEvent};
use weir_rpc::{Channel, Failure};

/// Events that wait; beyond it they are counted, and not recorded one by one.
const ROOM: usize = 20_000;
/// The most in one request, and how long they are gathered.
const BATCH: usize = 1000;
const LINGER: Duration = Duration::from_millis(100);
const DEADLINE: Duration = Duration::from_secs(10);
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// At the end: how long nothing must have come, and how often the last ones are tried.
const LAST: Duration = Duration::from_millis(100);
const LAST_TRIES: u32 = 3;

/// Takes events.
pub(super) struct Hits {
    sender: mpsc::Sender<UsageEvent>,
    unrecorded: Counter,
}

/// Records them.
pub(super) struct Recorder {
    receiver: mpsc::Receiver<UsageEvent>,
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
        let (sender, receiver) = mpsc::channel(ROOM);
        (Self { sender, unrecorded: unrecorded.clone() }, Recorder { receiver, usage, unrecorded })
    }

    /// Records an event, some time later.
    pub(super) fn record(&self, event: UsageEvent) {
        if self.sender.try_send(event).is_err() {
            self.unrecorded.increment(1);
        }
    }
}

impl Recorder {
    /// Records what comes, until nothing does after `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                count = self.receiver.recv_many(&mut batch, BATCH) => if count == 0 { return },
                () = async { stop.cancelled().await; tokio::time::sleep(LAST).await } => { self.receiver.close(); continue }
            }
            if batch.len() < BATCH && stop.run_until_cancelled(tokio::time::sleep(LINGER)).await.is_some() {
                while batch.len() < BATCH
                    && let Ok(event) = self.receiver.try_recv()
                {
                    batch.push(event);
                }
            }
            self.send(std::mem::take(&mut batch), &stop).await;
        }
    }

    async fn send(&mut self, events: Vec<UsageEvent>, stop: &CancellationToken) {
        let (mut pause, mut last) = (PAUSES.0, 0);
        loop {
            let mut request = tonic::Request::new(RecordEventsRequest { events: events.clone() });
            request.set_timeout(DEADLINE);
            let Err(status) = self.usage.record_events(request).await else { return };
            let failure = Failure::from(&status);
            if stop.is_cancelled() {
                last += 1;
            }
            if !failure.is_transient() || last >= LAST_TRIES {
                tracing::error!(error = %failure, events = events.len(), "answers without cost can't be recorded");
                self.unrecorded.increment(events.len() as u64);
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}
