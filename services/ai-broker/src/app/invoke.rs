//! A plain call: answered when it is done.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use weir_proto::broker::v1::{Accounting, InvokeResponse};
use weir_proto::common::v1::ErrorReason;
use weir_proto::usage::v1::Outcome;
use weir_rpc::Error;
use weir_types::NanoUsd;
use weir_types::price::{Metered, Tokens};

use super::Broker;
use super::background::{Finishing, Presence};
use super::cache::Slot;
use super::call::{Incoming, ModelCall};
use super::open::Opened;
use super::own_keys::cost;
use super::settle::Used;
use crate::domain::api::Api;
use crate::domain::dialects::TranslateError;
use crate::domain::keys::KeyOutcome;
use crate::domain::request::MediaUnits;
use crate::domain::usage::{Reported, estimated_tokens};
use crate::provider::{CallFailure, MAX_ANSWER, read};

impl Broker {
    /// Calls the model. If the client leaves, the call is still brought to its end, within the drain's
    /// bound, so that it is billed by the provider's own count.
    pub(crate) async fn invoke(self: &Arc<Self>, mut incoming: Incoming) -> Result<InvokeResponse, Error> {
        let (wish, known_by) = (std::mem::take(&mut incoming.reuse.wish), incoming.reuse.known_by);
        let call = self.prepare(incoming).await?;
        self.reuse(call, &wish, known_by).await
    }

    /// The call itself; its answer is kept in `slot`.
    pub(crate) fn make(
        self: &Arc<Self>,
        call: Box<ModelCall>,
        slot: Option<Box<Slot>>,
    ) -> Finishing<impl Future<Output = Result<InvokeResponse, Error>> + Send + use<>> {
        let broker = Arc::clone(self);
        Finishing::new(&self.tasks, self.drain, |client| async move {
            let answer = broker.call(call, &client).await;
            if let (Some(slot), Ok(answer)) = (slot, &answer) {
                broker.cache.keep(slot, answer);
            }
            answer
        })
    }

    async fn call(&self, call: Box<ModelCall>, client: &Presence) -> Result<InvokeResponse, Error> {
        let Opened { call, response, held, mut key, attempts, sent, began } = self.open(call, client).await?;
        let content_type = response.headers().get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let content_type = content_type.unwrap_or("application/json").to_owned();
        let answer = read(response.into_body(), MAX_ANSWER, call.first_byte_timeout()).await;
        let ended = Instant::now();
        let (used, body) = judge(&call, client, answer);
        let body =
            body.and_then(|body| call.exchange.answer(body, &*self.clock).map_err(|error| unreadable(&call, &error)));
        key.report(if body.is_ok() { KeyOutcome::Fine } else { KeyOutcome::Failed });
        let (queue_position, queue_time) = call.waiting.summary();
        let accounting = Accounting {
            reservation_id: held.id.to_string(),
            provider: call.route.provider.clone(),
            model: call.route.model.clone(),
            attempts,
            input_tokens: used.metered.tokens.input,
            output_tokens: used.metered.tokens.output,
            cost_nano_usd: used.cost.0,
            estimated: used.estimated,
            overhead: prost_types::Duration::try_from(sent - call.received + ended.elapsed()).ok(),
            rate_limits: held.rate_limits(),
            queue_position,
            queue_time,
            load_level: call.load_level(),
            downgraded: call.is_downgraded(),
            provider_key: call.own_key_name(),
            ..Accounting::default()
        };
        self.settler.commit(held, used.timed(ended - sent, began - sent));
        Ok(InvokeResponse { body: body?, content_type, accounting: Some(accounting) })
    }
}

/// What the answer used, and what of it the client gets.
fn judge(call: &ModelCall, client: &Presence, answer: Result<Bytes, CallFailure>) -> (Used, Result<Bytes, Error>) {
    let provider = &call.provider.name;
    let complete = if client.is_gone() { Outcome::Cancelled } else { Outcome::Complete };
    let broken = || cant_be_read(call);
    match answer {
        Ok(body) => match call.exchange.reported(&body, &call.worst.used) {
            Reported::Used(used) => (call.used(used, false, complete), Ok(body)),
            // Its length says nothing of sounds and pictures.
            Reported::Missing if call.request.units != MediaUnits::None => {
                (call.used(call.worst.used.clone(), true, complete), Ok(body))
            }
            Reported::Missing => {
                let received = estimated_tokens(i64::try_from(body.len()).unwrap_or(i64::MAX));
                (call.used(estimate(call, received), true, complete), Ok(body))
            }
            // What came is not what was produced, so its length says nothing: the output may be all that was reserved.
            Reported::Unreadable if call.request.units != MediaUnits::None => {
                (call.used(call.worst.used.clone(), true, Outcome::Broken), Err(broken()))
            }
            Reported::Unreadable => (call.used(estimate(call, i64::MAX), true, Outcome::Broken), Err(broken())),
        },
        Err(failure) => {
            tracing::warn!(provider, %failure, "an answer broke off");
            (call.used(call.worst.used.clone(), true, Outcome::Broken), Err(broken()))
        }
    }
}

fn cant_be_read(call: &ModelCall) -> Error {
    Error::new(ErrorReason::ProviderFailed, format!("{} sent an answer that can't be read", call.provider.name))
}

/// What it used counts all the same.
fn unreadable(call: &ModelCall, error: &TranslateError) -> Error {
    tracing::warn!(provider = call.provider.name, %error, "an answer can't be translated");
    cant_be_read(call)
}

/// The best count without the provider's: the input by its length, the output as counted; never more than was reserved.
pub(crate) fn estimate(call: &ModelCall, output: i64) -> Metered {
    let input = estimated_tokens(i64::try_from(call.exchange.body.len()).unwrap_or(i64::MAX));
    let worst = &call.worst.used;
    let (input, output) = (input.min(worst.tokens.input), output.min(worst.tokens.output));
    Metered { tier: worst.tier.clone(), ..Tokens { input, output, ..Tokens::default() }.into() }
}

impl ModelCall {
    /// What was used, with its cost.
    pub(crate) fn used(&self, mut metered: Metered, estimated: bool, outcome: Outcome) -> Used {
        let charged = self.route.price.tier(metered.tier.as_deref(), metered.tokens.input).is_some();
        metered.tier = metered.tier.filter(|_| charged);
        if self.request.api != Api::CountTokens {
            self.route.price.count_call(&mut metered);
        }
        let cost = self.cost(&metered);
        if self.own.is_some() {
            return Used::new(cost::used(metered, cost), NanoUsd::ZERO, estimated, outcome);
        }
        Used::new(metered, cost, estimated, outcome)
    }
}
