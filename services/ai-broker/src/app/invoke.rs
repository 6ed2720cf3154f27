//! A plain call: answered when it is done.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use weir_proto::broker::v1::{Accounting, InvokeResponse};
use weir_proto::common::v1::ErrorReason;
use weir_proto::usage::v1::Outcome;
use weir_rpc::Error;
use weir_types::price::Tokens;

use super::Broker;
use super::attempts::Opened;
use super::background::{Finishing, Presence};
use super::call::{Incoming, ModelCall};
use super::settle::Used;
use crate::domain::key_pool::KeyOutcome;
use crate::domain::usage::{self, Reported, estimated_tokens};
use crate::provider::{CallFailure, MAX_ANSWER, read};

impl Broker {
    /// Calls the model. If the client leaves, the call is still brought to its end, within the drain's
    /// bound, so that it is billed by the provider's own count.
    pub(crate) async fn invoke(self: &Arc<Self>, incoming: Incoming) -> Result<InvokeResponse, Error> {
        let call = self.prepare(incoming).await?;
        let broker = Arc::clone(self);
        Finishing::new(&self.tasks, self.drain, |client| async move { broker.call(&call, &client).await }).await
    }

    async fn call(&self, call: &ModelCall, client: &Presence) -> Result<InvokeResponse, Error> {
        let Opened { response, held, mut key, attempts, sent, began } = self.open(call, client).await?;
        let content_type = response.headers().get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let content_type = content_type.unwrap_or("application/json").to_owned();
        let answer = read(response.into_body(), MAX_ANSWER, call.provider.first_byte_timeout).await;
        let ended = Instant::now();
        let (used, body) = judge(call, client, answer);
        key.report(if body.is_ok() { KeyOutcome::Fine } else { KeyOutcome::Failed });
        let (queue_position, queue_time) = call.waiting.summary();
        let accounting = Accounting {
            reservation_id: held.id.to_string(),
            provider: call.route.provider.clone(),
            model: call.route.model.clone(),
            attempts,
            input_tokens: used.tokens.input,
            output_tokens: used.tokens.output,
            cost_nano_usd: used.cost.0,
            estimated: used.estimated,
            overhead: prost_types::Duration::try_from(sent - call.received + ended.elapsed()).ok(),
            rate_limits: held.rate_limits(),
            queue_position,
            queue_time,
        };
        self.settler.commit(held, used.timed(ended - sent, began - sent));
        Ok(InvokeResponse { body: body?, content_type, accounting: Some(accounting) })
    }
}

/// What the answer used, and what of it the client gets.
fn judge(call: &ModelCall, client: &Presence, answer: Result<Bytes, CallFailure>) -> (Used, Result<Bytes, Error>) {
    let provider = &call.provider.name;
    let complete = if client.is_gone() { Outcome::Cancelled } else { Outcome::Complete };
    let broken = || Error::new(ErrorReason::ProviderFailed, format!("{provider} sent an answer that can't be read"));
    match answer {
        Ok(body) => match usage::of_answer(&body) {
            Reported::Tokens(tokens) => (call.used(tokens, false, complete), Ok(body)),
            Reported::Missing => {
                let received = estimated_tokens(i64::try_from(body.len()).unwrap_or(i64::MAX));
                (call.used(estimate(call, received), true, complete), Ok(body))
            }
            // What came is not what was produced, so its length says nothing: the output may be all that was reserved.
            Reported::Unreadable => (call.used(estimate(call, i64::MAX), true, Outcome::Broken), Err(broken())),
        },
        Err(failure) => {
            tracing::warn!(provider, %failure, "an answer broke off");
            (call.used(call.worst.tokens, true, Outcome::Broken), Err(broken()))
        }
    }
}

/// The best count without the provider's: the input by its length, the output as counted; never more than was reserved.
pub(crate) fn estimate(call: &ModelCall, output: i64) -> Tokens {
    let input = estimated_tokens(i64::try_from(call.body.len()).unwrap_or(i64::MAX));
    Tokens { input: input.min(call.worst.tokens.input), cached_input: 0, output: output.min(call.worst.tokens.output) }
}

impl ModelCall {
    /// `tokens` with their cost.
    pub(crate) fn used(&self, tokens: Tokens, estimated: bool, outcome: Outcome) -> Used {
        Used::new(tokens, self.cost(&tokens), estimated, outcome)
    }
}
