//! Attempts on one target: each picks a key, reserves, and calls the provider, until one answers.

use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Response, StatusCode};
use hyper::body::Incoming;
use weir_proto::common::v1::{ErrorReason, ProviderError};
use weir_rpc::Error;
use weir_types::ReservationId;

use super::Broker;
use super::background::Presence;
use super::call::ModelCall;
use super::key_use::{KeyUse, PROBE_LOOK};
use super::open::{Answered, Tries, Unopened};
use super::queue::Turn;
use super::reservations::{Held, NoRoom, Refused};
use super::spans;
use crate::domain::api::Api;
use crate::domain::keys::{Exhausted, KeyOutcome};
use crate::domain::retry_after::retry_after;
use crate::provider::{CallFailure, Provider, ProviderCall, read};

/// An error's body is passed on up to here.
pub(super) const MAX_ERROR_BODY: usize = 64 << 10;
pub(super) const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Between attempts after a failure of the provider.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// What an attempt that did not open came to.
pub(super) enum Setback {
    /// The provider failed; the same key may do better.
    Failed(Error),
    /// The provider does not accept the key.
    BadKey(Error),
    /// The key, or the whole provider, has no room for so long.
    NoRoom { error: Error, wait: Duration, whole: bool },
    /// Nothing more of this target.
    End(Unopened),
}

/// What the keys of one target have come to so far.
#[derive(Default)]
pub(super) struct Round {
    /// Keys that failed: asked again when no other is left.
    failed: Vec<usize>,
    /// Keys that turned the call away.
    out: Vec<usize>,
    /// Keys that this call took out of service.
    refused: usize,
    failures: u32,
    last: Option<Unopened>,
    /// In the provider's line, until it is known that there is room.
    turn: Option<Turn>,
}

impl Broker {
    /// Makes attempts on one target until a key is answered. Each has a reservation of its own; those that came to nothing are
    /// released, and those whose end nobody knows are charged.
    pub(crate) async fn try_keys(
        &self,
        call: &ModelCall,
        client: &Presence,
        tries: &mut Tries,
    ) -> Result<Answered, Unopened> {
        if let Some(own) = &call.own {
            return Box::pin(self.try_own_key(call, own, client, tries)).await;
        }
        let mut round = Round { turn: tries.turn.take(), ..Round::default() };
        let allowed = tries.allowed(call.hops_left());
        loop {
            if call.is_late() {
                let late = Error::new(ErrorReason::DeadlineExceeded, "the deadline passed before a provider answered");
                return Err(Unopened::Final(late));
            }
            let key = match self.pick_key(call, &round.failed, &round.out).await {
                Ok(key) => key,
                Err(exhausted) => return Err(round.end(|| Unopened::from((&*call.provider, exhausted)))),
            };
            tries.made = tries.made.saturating_add(1);
            match self.attempt(call, client, key, &mut round).await {
                Ok(answered) => return Ok(answered),
                Err(Setback::End(unopened)) => return Err(unopened),
                Err(Setback::BadKey(error)) => round.keep(Unopened::Failed(error)),
                Err(Setback::NoRoom { error, wait, whole }) => {
                    round.keep(Unopened::NoRoom { error, wait });
                    if whole {
                        break;
                    }
                }
                Err(Setback::Failed(error)) => {
                    tries.failed();
                    round.failures += 1;
                    if round.failures >= allowed || client.is_gone() {
                        return Err(Unopened::Failed(error));
                    }
                    round.keep(Unopened::Failed(error));
                    tokio::time::sleep(PAUSE * round.failures).await;
                }
            }
            if client.is_gone() {
                break;
            }
            self.metrics.retries.increment(1);
        }
        Err(round.end(|| Unopened::Failed(Error::defect("attempts without an end"))))
    }

    async fn attempt(
        &self,
        call: &ModelCall,
        client: &Presence,
        mut key: KeyUse,
        round: &mut Round,
    ) -> Result<Answered, Setback> {
        let id = ReservationId::new_v7();
        let held = match self.reserve(call, id, Some(key.index())).await {
            Ok(held) => held,
            Err(refused) => return Err(unreserved(refused, &key, round)),
        };
        if held.is_within_providers_limits() {
            round.has_room();
        }
        if let Err(error) = call.claim().await {
            self.settler.release(held, "the call is not this broker's to make".into());
            return Err(Setback::End(Unopened::Final(error)));
        }
        let sent = Instant::now();
        let answer = call.provider.client.send(ProviderCall {
            method: Method::POST,
            url: call.provider.url(call.exchange.api, &call.exchange.suffix),
            headers: call.provider.headers(key.index(), call.own_headers()),
            id: HeaderValue::try_from(id.to_string()).unwrap_or(HeaderValue::from_static("")),
            body: call.exchange.body.clone(),
            accept: call.accept(),
            timeout: call.first_byte_timeout(),
        });
        match answer.await {
            Ok(response) if response.status().is_success() => {
                round.has_room();
                key.note_room(response.headers(), self.clock.now());
                if call.exchange.api == Api::FalQueue {
                    let credential = call.provider.credential(key.index());
                    return self.deferred(call, client, (held, key, credential, sent), response, round).await;
                }
                Ok(Answered { response, held, key, sent, began: Instant::now() })
            }
            Ok(response) => Err(self.refused(call, held, key, response, round).await),
            Err(failure) => {
                round.report(&mut key, KeyOutcome::Failed, call.provider.keys.len());
                Err(self.failed(call, held, &failure))
            }
        }
    }

    /// The provider answered with an error: nothing was used.
    pub(super) async fn refused(
        &self,
        call: &ModelCall,
        held: Held,
        mut key: KeyUse,
        response: Response<Incoming>,
        round: &mut Round,
    ) -> Setback {
        let status = response.status();
        let wait = retry_after(response.headers(), self.clock.now());
        let content_type = response.headers().get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let content_type = content_type.unwrap_or("application/octet-stream").to_owned();
        let body = read(response.into_body(), MAX_ERROR_BODY, ERROR_BODY_TIMEOUT).await.unwrap_or_default();
        let provider = &call.provider.name;
        spans::failed(&held.span, status.as_str());
        self.settler.release(held, format!("{provider} answered {status}"));
        self.metrics.provider_error(provider, status);
        let outcome = judge(status, wait, &body);
        round.report(&mut key, outcome, call.provider.keys.len());
        let body = call.exchange.error(body);
        let answer =
            ProviderError { http_status: status.as_u16().into(), body, content_type, provider: provider.clone() };
        let rejected = |message: String| Error::new(ErrorReason::ProviderRejected, message).provider(answer);
        match outcome {
            KeyOutcome::Refused | KeyOutcome::Denied => {
                let key = call.provider.key_label(key.index());
                tracing::warn!(provider, key, %status, "the provider refused a key");
                let error = Error::new(ErrorReason::ProviderFailed, format!("{provider} accepts none of its keys now"));
                Setback::BadKey(error)
            }
            KeyOutcome::RateLimited(wait) => {
                let wait = wait.unwrap_or(Duration::from_secs(1));
                let error = no_key(&call.provider, Exhausted { retry_after: wait, rate_limited: true, probing: false });
                Setback::NoRoom { error, wait, whole: false }
            }
            KeyOutcome::Failed => Setback::Failed(rejected(format!("{provider} answered {status}"))),
            KeyOutcome::Fine | KeyOutcome::Unknown if status.is_client_error() => {
                Setback::End(Unopened::Final(rejected(format!("{provider} refused the request"))))
            }
            KeyOutcome::Fine | KeyOutcome::Unknown => {
                let error = Error::new(ErrorReason::ProviderFailed, format!("{provider} answered {status}"));
                Setback::End(Unopened::Failed(error))
            }
        }
    }

    /// There was no answer. No provider bills a connection that ends before a status line; one that
    /// is slow may still be working, so the reserved amounts count and nothing is tried again.
    pub(super) fn failed(&self, call: &ModelCall, held: Held, failure: &CallFailure) -> Setback {
        let provider = &call.provider.name;
        tracing::warn!(provider, %failure, "a call to the provider failed");
        self.metrics.provider_error(provider, StatusCode::BAD_GATEWAY);
        let error = Error::new(ErrorReason::ProviderFailed, format!("{provider} did not answer"));
        match failure {
            CallFailure::Timeout(_) => {
                call.is_charged();
                self.settler.commit_draft(held);
                let late = Error::new(ErrorReason::DeadlineExceeded, format!("{provider} did not answer in time"));
                Setback::End(Unopened::Failed(late))
            }
            CallFailure::Connect(_) | CallFailure::NoAnswer(_) | CallFailure::BrokeOff(_) => {
                spans::failed(&held.span, "connection");
                self.settler.release(held, failure.to_string());
                Setback::Failed(error)
            }
        }
    }
}

impl Round {
    /// Tells the pool how the call ended for a key. A request that is itself the cause of failures can't take all keys away: it
    /// counts against a key once, and takes at most half of them out of service.
    fn report(&mut self, key: &mut KeyUse, outcome: KeyOutcome, keys: usize) {
        let counts = match outcome {
            KeyOutcome::Failed => !self.failed.contains(&key.index()),
            KeyOutcome::Refused => self.refused < keys.div_ceil(2),
            _ => true,
        };
        key.report(if counts { outcome } else { KeyOutcome::Unknown });
        match outcome {
            KeyOutcome::Failed => self.failed.push(key.index()),
            KeyOutcome::Refused => {
                self.refused += 1;
                self.out.push(key.index());
            }
            KeyOutcome::RateLimited(_) | KeyOutcome::Denied => self.out.push(key.index()),
            KeyOutcome::Fine | KeyOutcome::Unknown => {}
        }
    }

    /// The provider has room for the call: the turn is somebody else's.
    fn has_room(&mut self) {
        if let Some(turn) = self.turn.take() {
            turn.admitted();
        }
    }

    /// Remembers why no key has answered yet: that one has no room is worth more than that another failed.
    fn keep(&mut self, unopened: Unopened) {
        self.last = Some(match (self.last.take(), unopened) {
            (Some(Unopened::NoRoom { wait: shorter, .. }), Unopened::NoRoom { error, wait }) => {
                Unopened::NoRoom { error, wait: wait.min(shorter) }
            }
            (Some(no_room @ Unopened::NoRoom { .. }), _) => no_room,
            (_, unopened) => unopened,
        });
    }

    fn end(self, otherwise: impl FnOnce() -> Unopened) -> Unopened {
        self.last.unwrap_or_else(otherwise)
    }
}

/// Why quota did not let an attempt be made.
fn unreserved(refused: Refused, key: &KeyUse, round: &mut Round) -> Setback {
    let Refused { error, room, denied } = refused;
    match room {
        Some(NoRoom { wait, whole }) => {
            if !whole {
                key.is_full(wait);
                round.out.push(key.index());
            }
            Setback::NoRoom { error, wait, whole }
        }
        None if denied => Setback::End(Unopened::Denied(error)),
        None => Setback::End(Unopened::Final(error)),
    }
}

/// What an error of the provider says about the key.
pub(super) fn judge(status: StatusCode, wait: Option<Duration>, body: &[u8]) -> KeyOutcome {
    let says = |words: &[u8]| memchr::memmem::find(body, words).is_some();
    match status.as_u16() {
        401 | 402 => KeyOutcome::Refused,
        403 => KeyOutcome::Denied,
        429 if says(b"insufficient_quota") => KeyOutcome::Refused,
        // OpenAI's word for a request that is larger than a whole minute's tokens: no key can take it, and none is to blame.
        429 if wait.is_none() && says(b"Request too large") => KeyOutcome::Fine,
        429 => KeyOutcome::RateLimited(wait),
        408 | 409 | 500.. => KeyOutcome::Failed,
        _ => KeyOutcome::Fine,
    }
}

impl From<(&Provider, Exhausted)> for Unopened {
    fn from((provider, exhausted): (&Provider, Exhausted)) -> Self {
        let error = no_key(provider, exhausted);
        if exhausted.rate_limited {
            let wait = if exhausted.probing { PROBE_LOOK } else { exhausted.retry_after.max(Duration::from_millis(1)) };
            Self::NoRoom { error, wait }
        } else {
            Self::Failed(error)
        }
    }
}

fn no_key(provider: &Provider, exhausted: Exhausted) -> Error {
    let wait = exhausted.retry_after.max(Duration::from_millis(1));
    let (reason, message) = if exhausted.rate_limited {
        (ErrorReason::ProviderExhausted, format!("{} is at its rate limit", provider.name))
    } else {
        (ErrorReason::ProviderFailed, format!("no key of {} can be used now", provider.name))
    };
    Error::new(reason, message).retry_after(wait)
}
