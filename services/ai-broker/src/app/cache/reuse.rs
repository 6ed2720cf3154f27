//! Calls that are answered with what there is, and otherwise made, together where that is allowed.

use std::sync::Arc;

use chrono::DateTime;
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_proto::broker::v1::{Accounting, InvokeResponse, StreamStart};
use weir_proto::common::v1::ErrorReason;
use weir_proto::usage::v1::{Outcome, UsageEvent};
use weir_rpc::Error;
use weir_types::ReservationId;

use super::hits::{Alike, Counted};
use super::{Found, Miss, Slot, Stored};
use crate::app::Broker;
use crate::app::call::ModelCall;
use crate::app::tape::{Parts, Taped};
use crate::domain::cache::{RequestHash, Wish};
use crate::domain::sealing::Name;

/// How often a request waits for another one's call before it makes its own.
const ROUNDS: usize = 3;

/// Who records what cost nothing: such an event has no reservation.
const SOURCE: &str = "ai-broker-cache";

impl Broker {
    /// The answer that there is; else that of the call.
    pub(crate) async fn reuse(
        self: &Arc<Self>,
        call: Box<ModelCall>,
        wish: &Wish,
        known_by: Option<RequestHash>,
    ) -> Result<InvokeResponse, Error> {
        let Miss { slot, flight } = match self.cache.find(&call, wish).await {
            Found::Hit(hit, stored) => {
                let counted = counted(&call, &stored);
                let answer = self.given(&counted, &stored, &call.request_id);
                self.note(known_by, &call, hit, counted);
                return Ok(answer);
            }
            Found::Miss(miss) => miss,
        };
        match flight {
            Some(name) => Box::pin(self.together(name, call, slot)).await,
            None => self.make(call, slot).await,
        }
    }

    /// The same for a stream.
    pub(crate) async fn reuse_stream(
        self: &Arc<Self>,
        call: Box<ModelCall>,
        wish: &Wish,
        known_by: Option<RequestHash>,
    ) -> Result<Parts, Error> {
        let slot = match self.cache.find(&call, wish).await {
            Found::Hit(hit, stored) => {
                let counted = counted(&call, &stored);
                let answer = self.given_stream(&counted, &stored, &call.request_id);
                self.note(known_by, &call, hit, counted);
                return Ok(answer);
            }
            Found::Miss(miss) => miss.slot,
        };
        let answer = Parts::Live(Box::new(self.make_stream(call).await?));
        let Some(slot) = slot else { return Ok(answer) };
        let cache = Arc::clone(&self.cache);
        let keep = Box::new(move |played| {
            cache.keep_stream(slot, played);
            Box::pin(std::future::ready(())) as futures::future::BoxFuture<'static, ()>
        });
        let most = self.cache.options.max_entry_bytes;
        Ok(Parts::Taped(Box::new(Taped::new(answer, most, keep, &self.tasks, self.drain))))
    }

    /// Makes the call, or waits for the same one that is under way. Whoever leaves, it goes on as long as somebody waits; who began it is
    /// charged.
    async fn together(
        self: &Arc<Self>,
        name: Name,
        call: Box<ModelCall>,
        slot: Option<Box<Slot>>,
    ) -> Result<InvokeResponse, Error> {
        let draft = |broker: &Self| call.draft(ReservationId::new_v7(), broker.clock.now());
        let follower = draft(self);
        let mut own = Some((call, slot));
        for _ in 0..ROUNDS {
            let (flight, leads) = self.cache.flights.join(name, || {
                let (call, slot) = own.take()?;
                Some(self.make(call, slot))
            });
            let answer = flight.await;
            match answer {
                answer if leads => return answer,
                // What somebody's own key paid for is his alone.
                Ok(answer) if answer.accounting.as_ref().is_some_and(|said| !said.provider_key.is_empty()) => {
                    self.cache.metrics.led_anew.increment(1);
                }
                Ok(answer) => return Ok(self.followed(follower, answer)),
                Err(error) if is_the_leaders(&error) => self.cache.metrics.led_anew.increment(1),
                Err(error) => return Err(error),
            }
        }
        match own {
            Some((call, slot)) => self.make(call, slot).await,
            None => Err(Error::defect("a call was made twice")),
        }
    }

    /// Gives a kept answer, and counts it.
    pub(super) fn given(&self, counted: &Counted, stored: &Stored, request_id: &str) -> InvokeResponse {
        let Stored { body, content_type, .. } = stored;
        let accounting = Some(self.count(counted, request_id));
        InvokeResponse { body: body.clone(), content_type: content_type.clone(), accounting }
    }

    /// The same of a stream.
    pub(super) fn given_stream(&self, counted: &Counted, stored: &Stored, request_id: &str) -> Parts {
        let accounting = self.count(counted, request_id);
        let start = StreamStart { content_type: stored.content_type.clone(), accounting: Some(accounting.clone()) };
        Parts::replayed(vec![Part::Start(start), Part::Chunk(stored.body.clone()), Part::Accounting(accounting)])
    }

    /// Counts an answer that was kept; answers what is said of it.
    fn count(&self, counted: &Counted, request_id: &str) -> Accounting {
        let reservation_id = self.cache.hits.count(counted, request_id, self.clock.now());
        let (provider, model) = (counted.alike.provider.clone(), counted.alike.model.clone());
        Accounting { reservation_id, provider, model, cached: true, ..Accounting::default() }
    }

    fn followed(&self, draft: UsageEvent, answer: InvokeResponse) -> InvokeResponse {
        self.cache.metrics.coalesced.increment(1);
        let Accounting { provider, model, .. } = answer.accounting.unwrap_or_default();
        let event = free(draft, provider.clone(), model.clone());
        let reservation_id = event.event_id.clone();
        self.cache.hits.record(event);
        let accounting = Accounting { reservation_id, provider, model, coalesced: true, ..Accounting::default() };
        InvokeResponse { accounting: Some(accounting), ..answer }
    }
}

/// As what a kept answer to the call is counted.
fn counted(call: &ModelCall, stored: &Stored) -> Counted {
    let said = stored.accounting.as_ref();
    let (provider, model) = said.map(|of| (of.provider.clone(), of.model.clone())).unwrap_or_default();
    let subject = &call.caller.subject;
    let alike = Alike {
        organization: subject.organization.clone(),
        user: subject.user.clone(),
        api_key: subject.api_key.clone(),
        provider: provider.clone(),
        model: model.clone(),
        operation: call.request.api.operation(),
        price_version: Arc::clone(&call.route.price_version),
    };
    Counted { alike, event: Box::new(free(call.draft(ReservationId::new_v7(), DateTime::UNIX_EPOCH), provider, model)) }
}

/// The event of an answer that cost nothing.
fn free(draft: UsageEvent, provider: String, model: String) -> UsageEvent {
    UsageEvent {
        source: SOURCE.into(),
        provider_key: String::new(),
        provider,
        model,
        input_tokens: 0,
        cached_input_tokens: 0,
        output_tokens: 0,
        quantities: Default::default(),
        cost_nano_usd: 0,
        estimated: false,
        outcome: Outcome::Complete.into(),
        ..draft
    }
}

/// Whether an error is about who began the call, and not about the call.
fn is_the_leaders(error: &Error) -> bool {
    use ErrorReason as R;
    matches!(
        error.reason(),
        R::QuotaExceeded
            | R::BudgetExhausted
            | R::DeadlineExceeded
            | R::CallInProgress
            | R::Overloaded
            | R::Unavailable
    )
}
