//! Settlement: ended calls are told to usage, then to quota, in batches, until both have them.
//!
//! The order is what keeps the books balanced: a reservation is committed only after usage has the
//! event, with the amounts that usage says. Whatever fails or dies before that leaves a reservation
//! that expires and is taken over.

mod task;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use weir_proto::quota::v1::{CommitRequest, ReleaseRequest, Settle, settle};
use weir_proto::usage::v1::{Disposition, Outcome, RecordOutcome, UsageEvent};
use weir_types::price::Metered;
use weir_types::{NanoUsd, OrganizationId, ReservationId, names};

use super::Metrics;
use super::reservations::{Held, Live};
use super::spans;
use crate::domain::amounts;

pub(crate) use task::SettlerTask;

/// How calls are settled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SettleOptions {
    pub(crate) linger: Duration,
    pub(crate) batch: usize,
}

/// Places in the queue beside the reserved ones: for what is taken over, and for waiters.
const BESIDE: usize = 1000;
/// How long a refused client waits for the settlement that may let it in.
const SETTLE_NOW: Duration = Duration::from_millis(500);

/// What a call used.
#[derive(Debug, Clone)]
pub(crate) struct Used {
    pub(crate) metered: Metered,
    pub(crate) cost: NanoUsd,
    pub(crate) estimated: bool,
    outcome: Outcome,
    latency: Duration,
    first_byte: Duration,
}

impl Used {
    pub(crate) fn new(metered: Metered, cost: NanoUsd, estimated: bool, outcome: Outcome) -> Self {
        Self { metered, cost, estimated, outcome, latency: Duration::ZERO, first_byte: Duration::ZERO }
    }

    /// With how long the provider took.
    pub(crate) fn timed(self, latency: Duration, first_byte: Duration) -> Self {
        Self { latency, first_byte, ..self }
    }
}

/// A reservation on its way to its end.
struct Ending {
    id: ReservationId,
    organization: OrganizationId,
    handle: Bytes,
    how: How,
    _place: Place,
}

/// What an ending keeps until it is settled.
enum Place {
    /// The reservation's lease and room.
    Live(#[expect(dead_code, reason = "kept until it is dropped")] Live),
    /// Room alone: it is not known whether there is a reservation.
    Room(#[expect(dead_code, reason = "kept until it is dropped")] OwnedSemaphorePermit),
    /// None: another broker reserved it.
    Beside,
}

enum How {
    Commit(Box<UsageEvent>),
    Release(String),
}

enum Message {
    End(Ending),
    /// Everything before this is settled when it is answered.
    Settled(oneshot::Sender<()>),
}

/// Takes ended calls. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Settler {
    queue: mpsc::Sender<Message>,
    waiting: Arc<Mutex<HashMap<OrganizationId, usize>>>,
    metrics: Arc<Metrics>,
}

impl Settler {
    /// Commits what a call used.
    pub(crate) fn commit(&self, held: Held, used: Used) {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        self.metrics.ended(used.outcome, used.latency, used.first_byte);
        let Held { id, organization, handle, draft, live, span, .. } = held;
        let event = UsageEvent {
            input_tokens: used.metered.tokens.input,
            cached_input_tokens: used.metered.tokens.cached_input,
            output_tokens: used.metered.tokens.output,
            quantities: used.metered.quantities().into_iter().collect(),
            cost_nano_usd: used.cost.0,
            estimated: used.estimated,
            outcome: used.outcome.into(),
            latency_ms: millis(used.latency),
            first_byte_ms: millis(used.first_byte),
            ..draft
        };
        spans::charged(&span, &event);
        self.metrics.charged(&event);
        self.end(Ending { id, organization, handle, how: How::Commit(Box::new(event)), _place: Place::Live(live) });
    }

    /// Commits what was reserved, because nobody knows what was used.
    pub(crate) fn commit_draft(&self, held: Held) {
        let Held { id, organization, handle, draft, live, span, .. } = held;
        spans::charged(&span, &draft);
        self.metrics.charged(&draft);
        self.end(Ending { id, organization, handle, how: How::Commit(Box::new(draft)), _place: Place::Live(live) });
    }

    /// Gives a reservation back: nothing was used.
    pub(crate) fn release(&self, held: Held, reason: String) {
        let Held { id, organization, handle, live, .. } = held;
        self.end(Ending { id, organization, handle, how: How::Release(reason), _place: Place::Live(live) });
    }

    /// Gives back a reservation that quota may have made without our hearing of it. Left alone it would expire
    /// and be charged, and no provider was called.
    pub(crate) fn release_unanswered(
        &self,
        organization: OrganizationId,
        id: ReservationId,
        room: OwnedSemaphorePermit,
    ) {
        let how = How::Release("the answer to the reservation was lost".into());
        self.end(Ending { id, organization, handle: Bytes::new(), how, _place: Place::Room(room) });
    }

    /// Settles a reservation of a broker that died.
    pub(crate) fn take_over(&self, id: ReservationId, organization: OrganizationId, handle: Bytes, draft: UsageEvent) {
        self.metrics.charged(&draft);
        self.end(Ending { id, organization, handle, how: How::Commit(Box::new(draft)), _place: Place::Beside });
    }

    /// Waits, within a bound, until the organisation's ended calls are settled; answers whether there were any.
    pub(crate) async fn settle_now(&self, organization: OrganizationId) -> bool {
        if !self.waiting.lock().contains_key(&organization) {
            return false;
        }
        let (sender, settled) = oneshot::channel();
        let sent = self.queue.try_send(Message::Settled(sender)).is_ok();
        sent && matches!(tokio::time::timeout(SETTLE_NOW, settled).await, Ok(Ok(())))
    }

    /// Calls that are not settled yet.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.lock().values().sum()
    }

    /// Each reservation took its room in the queue before it was made. What comes beside those and finds
    /// no place is left to expire again.
    fn end(&self, ending: Ending) {
        let organization = ending.organization;
        *self.waiting.lock().entry(organization).or_default() += 1;
        if self.queue.try_send(Message::End(ending)).is_err() {
            settled(&self.waiting, organization);
        }
    }
}

/// One call less of the organisation waits.
fn settled(waiting: &Mutex<HashMap<OrganizationId, usize>>, organization: OrganizationId) {
    let mut waiting = waiting.lock();
    if let Some(count) = waiting.get_mut(&organization) {
        *count -= 1;
        if *count == 0 {
            waiting.remove(&organization);
        }
    }
}

impl Ending {
    fn event(&self) -> Option<&UsageEvent> {
        match &self.how {
            How::Commit(event) => Some(event),
            How::Release(_) => None,
        }
    }

    fn release(&self, reason: &str) -> Settle {
        let request = ReleaseRequest {
            reservation_id: self.id.to_string(),
            organization: names::organization(&self.organization),
            handle: self.handle.clone(),
            reason: reason.to_owned(),
        };
        Settle { action: Some(settle::Action::Release(request)) }
    }

    /// Commits what usage has recorded: this event, or the one that was there before it.
    fn commit(&self, event: &UsageEvent, recorded: Option<RecordOutcome>) -> Option<Settle> {
        let recorded = recorded?;
        if recorded.disposition() == Disposition::Rejected {
            let error = recorded.error.unwrap_or_default();
            tracing::error!(event = %self.id, reason = error.reason().as_str_name(), error.message, "usage refused an event");
            return None;
        }
        let event = recorded.recorded.as_ref().unwrap_or(event);
        let quantities = event.quantities.iter().map(|(unit, count)| (unit.clone(), *count)).collect();
        let UsageEvent { input_tokens, cached_input_tokens, output_tokens, .. } = *event;
        let metered = Metered::of_event(input_tokens, cached_input_tokens, output_tokens, &quantities);
        let request = CommitRequest {
            reservation_id: self.id.to_string(),
            organization: names::organization(&self.organization),
            handle: self.handle.clone(),
            actuals: amounts::used(&event.operation, &metered, NanoUsd(event.cost_nano_usd)),
            estimated: event.estimated,
        };
        Some(Settle { action: Some(settle::Action::Commit(request)) })
    }
}
