//! Requests that are submitted to a provider's queue and fetched when they are done (FAL): an attempt that goes on where its answer
//! says "later".
//!
//! What holds: a submission of a job is known durably as soon as the provider has taken it, with its reservation. Whoever takes the
//! job over waits for that request and accounts for it under that reservation, instead of paying for another. One that nobody wants
//! any more is cancelled, and what comes of it is charged as it is.

mod keeper;
mod poll;
mod resume;

use std::time::{Duration, Instant};

use http::{HeaderValue, Response};
use hyper::body::Incoming;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;

use super::Broker;
use super::attempts::{Round, Setback};
use super::background::Presence;
use super::call::ModelCall;
use super::key_use::KeyUse;
use super::open::{Answered, Unopened};
use super::reservations::Held;
use super::spans;
use crate::domain::dialects::fal::Ticket;
use crate::provider::read;
use poll::Fetched;

pub(crate) use keeper::{Keeper, Submission};
pub(crate) use resume::Resumed;

/// The answer to a submission is read up to here.
const MAX_SUBMITTED: usize = 64 << 10;
const SUBMITTED_TIMEOUT: Duration = Duration::from_secs(10);

/// A request in a provider's queue, and what it is charged to.
pub(super) struct Submitted {
    pub(super) ticket: Ticket,
    pub(super) held: Held,
    pub(super) key: KeyUse,
    /// What it was submitted with: nobody else is told how far it is.
    pub(super) credential: HeaderValue,
    pub(super) sent: Instant,
    /// A job's is written down.
    pub(super) kept: bool,
}

impl Broker {
    /// Goes on with a submission that the provider has taken.
    pub(super) async fn deferred(
        &self,
        call: &ModelCall,
        client: &Presence,
        (held, key, credential, sent): (Held, KeyUse, HeaderValue, Instant),
        response: Response<Incoming>,
        round: &mut Round,
    ) -> Result<Answered, Setback> {
        let body = read(response.into_body(), MAX_SUBMITTED, SUBMITTED_TIMEOUT).await;
        let Some(ticket) = body.ok().and_then(|body| Ticket::read(&body, &call.route.model)) else {
            // It may have been taken all the same: what was reserved counts.
            spans::failed(&held.span, "submission");
            self.settler.commit_draft(held);
            let provider = &call.provider.name;
            let error =
                Error::new(ErrorReason::ProviderFailed, format!("{provider} took a request without saying its id"));
            return Err(Setback::End(Unopened::Final(error)));
        };
        self.fetch(call, client, Submitted { ticket, held, key, credential, sent, kept: false }, round).await
    }

    /// Waits for a submission's end, and settles it unless its answer is still to be read.
    pub(super) async fn fetch(
        &self,
        call: &ModelCall,
        client: &Presence,
        mut submitted: Submitted,
        round: &mut Round,
    ) -> Result<Answered, Setback> {
        let fetched = self.poll(call, client, &mut submitted).await;
        let Submitted { ticket, held, key, sent, kept, .. } = submitted;
        let provider = &call.provider.name;
        if kept && !matches!(fetched, Fetched::Done(_) | Fetched::Left) {
            // The next try is another request.
            call.forget_submission(held.id).await;
        }
        match fetched {
            Fetched::Done(response) => Ok(Answered { response, held, key, sent, began: Instant::now() }),
            Fetched::Failed(response) => Err(match &call.own {
                Some(own) => self.own_refused(call, own, held, response).await,
                None => self.refused(call, held, key, response, round).await,
            }),
            Fetched::Cancelled => {
                self.settler.release(held, format!("{provider} gave the request up"));
                let error = Error::new(ErrorReason::DeadlineExceeded, format!("{provider} was not done in time"));
                Err(Setback::End(Unopened::Final(error)))
            }
            Fetched::Unknown => {
                tracing::warn!(
                    provider,
                    request = ticket.request_id,
                    "what came of a request is not known: it is charged"
                );
                spans::failed(&held.span, "timeout");
                self.settler.commit_draft(held);
                let error = Error::new(ErrorReason::DeadlineExceeded, format!("{provider} was not done in time"));
                Err(Setback::End(Unopened::Final(error)))
            }
            Fetched::Lost => {
                tracing::warn!(
                    provider,
                    request = ticket.request_id,
                    "a provider does not know a request that it has taken"
                );
                spans::failed(&held.span, "lost");
                self.settler.commit_draft(held);
                let error = Error::new(ErrorReason::ProviderFailed, format!("{provider} has lost the request"));
                Err(Setback::Failed(error))
            }
            // The reservation is another broker's now, or is taken over.
            Fetched::Left => {
                let error = Error::new(ErrorReason::Unavailable, "another broker goes on with the request");
                Err(Setback::End(Unopened::Final(error)))
            }
        }
    }
}
