//! Attempts: each picks a key, reserves, and calls the provider, until one answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Response, StatusCode};
use hyper::body::Incoming;
use weir_proto::common::v1::{ErrorReason, ProviderError};
use weir_rpc::Error;
use weir_types::ReservationId;

use super::Broker;
use super::background::Presence;
use super::call::ModelCall;
use super::queue::{Newcomer, Place, TurnedAway};
use super::reservations::{Held, NoRoom, Refused};
use crate::domain::key_pool::{Exhausted, KeyOutcome};
use crate::domain::retry_after::retry_after;
use crate::provider::{CallFailure, Provider, ProviderCall, read};

/// An error's body is passed on up to here.
const MAX_ERROR_BODY: usize = 64 << 10;
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Between attempts after a failure of the provider.
const PAUSE: Duration = Duration::from_millis(50);

/// How soon those who wait look again while one call tries a key that has rested.
const PROBE_LOOK: Duration = Duration::from_millis(20);

/// A provider that has begun to answer.
pub(crate) struct Opened {
    pub(crate) response: Response<Incoming>,
    pub(crate) held: Held,
    pub(crate) key: KeyUse,
    pub(crate) attempts: i32,
    /// When the request was sent, and when the answer began.
    pub(crate) sent: Instant,
    pub(crate) began: Instant,
}

/// What an attempt that did not open came to.
enum Setback {
    /// Another attempt can go better.
    Retry { error: Error, pause: bool },
    /// The key, or the whole provider, has no room for so long.
    NoRoom { error: Error, wait: Duration, whole: bool },
    /// The same would happen again.
    Final(Error),
}

/// Why no key of the provider opened.
enum Unopened {
    /// None has room before that; it is worth waiting for.
    NoRoom { error: Error, wait: Duration },
    /// Waiting does not help.
    Failed(Error),
}

impl Broker {
    /// Makes attempts until the provider answers; waits in line while it has no room.
    pub(crate) async fn open(&self, call: &ModelCall, client: &Presence) -> Result<Opened, Error> {
        let may_wait = !call.provider.max_wait.is_zero();
        let mut place = (may_wait && call.provider.line.is_busy()).then(|| self.place(call));
        let mut full: Option<Error> = None;
        loop {
            if let Some(place) = &mut place {
                let began = Instant::now();
                let turn = place.turn(client, |standing| call.waiting.tell(standing)).await;
                call.waiting.waited(began.elapsed());
                self.metrics.queue_seconds.record(began.elapsed().as_secs_f64());
                turn.map_err(|why| turned_away(&call.provider, why, full.take()))?;
            }
            match self.try_keys(call, client).await {
                Ok(opened) => {
                    if let Some(place) = place {
                        place.served();
                    }
                    return Ok(opened);
                }
                Err(Unopened::Failed(error)) => return Err(error),
                // Nobody is kept waiting for what he can't wait for.
                Err(Unopened::NoRoom { error, wait }) if call.received.elapsed() + wait > call.provider.max_wait => {
                    return Err(error);
                }
                Err(Unopened::NoRoom { error, wait }) => {
                    place.get_or_insert_with(|| self.place(call)).blocked(wait);
                    full = Some(error);
                }
            }
        }
    }

    /// Makes attempts, each with another key. Each has a reservation of its own; those that came to nothing are released, and
    /// those whose end nobody knows are charged.
    async fn try_keys(&self, call: &ModelCall, client: &Presence) -> Result<Opened, Unopened> {
        let (mut tried, mut attempts) = (Vec::new(), 0_u32);
        let mut last: Option<Unopened> = None;
        loop {
            let key = match KeyUse::pick(&call.provider, &tried) {
                Ok(key) => key,
                Err(exhausted) => return Err(last.unwrap_or_else(|| Unopened::from((&*call.provider, exhausted)))),
            };
            // Every key has been asked, and one has no room by quota's count: it does not rest for that.
            if tried.contains(&key.index) && matches!(last, Some(Unopened::NoRoom { .. })) {
                break;
            }
            tried.push(key.index);
            attempts += 1;
            match self.attempt(call, key, attempts.try_into().unwrap_or(i32::MAX)).await {
                Ok(opened) => return Ok(opened),
                Err(Setback::Final(error)) => return Err(Unopened::Failed(error)),
                Err(Setback::NoRoom { error, wait, whole }) => {
                    let wait = match &last {
                        Some(Unopened::NoRoom { wait: shorter, .. }) => wait.min(*shorter),
                        _ => wait,
                    };
                    last = Some(Unopened::NoRoom { error, wait });
                    if whole || client.is_gone() {
                        break;
                    }
                }
                Err(Setback::Retry { error, pause }) => {
                    if attempts >= self.max_attempts || client.is_gone() {
                        return Err(Unopened::Failed(error));
                    }
                    self.metrics.retries.increment(1);
                    if pause {
                        tokio::time::sleep(PAUSE * attempts).await;
                    }
                    if !matches!(last, Some(Unopened::NoRoom { .. })) {
                        last = Some(Unopened::Failed(error));
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| Unopened::Failed(Error::defect("attempts without an end"))))
    }

    /// A place in the provider's line.
    fn place(&self, call: &ModelCall) -> Place {
        self.metrics.queued.increment(1);
        let since = tokio::time::Instant::from_std(call.received);
        call.provider.line.join(Newcomer {
            tenant: call.caller.organization,
            priority: call.priority,
            cost: 1,
            since,
            until: since + call.provider.max_wait,
        })
    }

    async fn attempt(&self, call: &ModelCall, mut key: KeyUse, attempts: i32) -> Result<Opened, Setback> {
        let id = ReservationId::new_v7();
        let held = self.reserve(call, id, key.index).await?;
        let sent = Instant::now();
        let answer = call.provider.client.send(ProviderCall {
            url: call.provider.url(call.exchange.api),
            headers: call.provider.headers(key.index, call.own_headers()),
            id: HeaderValue::try_from(id.to_string()).unwrap_or(HeaderValue::from_static("")),
            body: call.exchange.body.clone(),
            stream: call.request.stream,
            timeout: call.provider.first_byte_timeout,
        });
        match answer.await {
            Ok(response) if response.status().is_success() => {
                Ok(Opened { response, held, key, attempts, sent, began: Instant::now() })
            }
            Ok(response) => Err(self.refused(call, held, key, response).await),
            Err(failure) => {
                key.report(KeyOutcome::Failed);
                Err(self.failed(call, held, &failure))
            }
        }
    }

    /// The provider answered with an error: nothing was used.
    async fn refused(&self, call: &ModelCall, held: Held, mut key: KeyUse, response: Response<Incoming>) -> Setback {
        let status = response.status();
        let wait = retry_after(response.headers(), self.clock.now());
        let content_type = response.headers().get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let content_type = content_type.unwrap_or("application/octet-stream").to_owned();
        let body = read(response.into_body(), MAX_ERROR_BODY, ERROR_BODY_TIMEOUT).await.unwrap_or_default();
        let provider = &call.provider.name;
        self.settler.release(held, format!("{provider} answered {status}"));
        self.metrics.provider_error(status);
        let outcome = match status.as_u16() {
            401..=403 => KeyOutcome::Refused,
            429 if memchr::memmem::find(&body, b"insufficient_quota").is_some() => KeyOutcome::Refused,
            429 => KeyOutcome::RateLimited(wait),
            408 | 409 | 500.. => KeyOutcome::Failed,
            _ => KeyOutcome::Fine,
        };
        key.report(outcome);
        let body = call.exchange.error(body);
        let answer =
            ProviderError { http_status: status.as_u16().into(), body, content_type, provider: provider.clone() };
        let rejected = |message: String| Error::new(ErrorReason::ProviderRejected, message).provider(answer);
        match outcome {
            KeyOutcome::Refused => {
                tracing::warn!(provider, key = key.index, %status, "the provider refused a key: it rests");
                let error = Error::new(ErrorReason::ProviderFailed, format!("{provider} accepts none of its keys now"));
                Setback::Retry { error, pause: false }
            }
            KeyOutcome::RateLimited(wait) => {
                let wait = wait.unwrap_or(Duration::from_secs(1));
                let error = no_key(&call.provider, Exhausted { retry_after: wait, rate_limited: true, probing: false });
                Setback::NoRoom { error, wait, whole: false }
            }
            KeyOutcome::Failed => {
                Setback::Retry { error: rejected(format!("{provider} answered {status}")), pause: true }
            }
            KeyOutcome::Fine if status.is_client_error() => {
                Setback::Final(rejected(format!("{provider} refused the request")))
            }
            KeyOutcome::Fine => {
                Setback::Final(Error::new(ErrorReason::ProviderFailed, format!("{provider} answered {status}")))
            }
        }
    }

    /// There was no answer. No provider bills a connection that ends before a status line; one that
    /// is slow may still be working, so the reserved amounts count and nothing is tried again.
    fn failed(&self, call: &ModelCall, held: Held, failure: &CallFailure) -> Setback {
        let provider = &call.provider.name;
        tracing::warn!(provider, %failure, "a call to the provider failed");
        self.metrics.provider_error(StatusCode::BAD_GATEWAY);
        let error = Error::new(ErrorReason::ProviderFailed, format!("{provider} did not answer"));
        match failure {
            CallFailure::Timeout(_) => {
                self.settler.commit_draft(held);
                Setback::Final(Error::new(ErrorReason::DeadlineExceeded, format!("{provider} did not answer in time")))
            }
            CallFailure::Connect(_) | CallFailure::NoAnswer(_) | CallFailure::BrokeOff(_) => {
                self.settler.release(held, failure.to_string());
                Setback::Retry { error, pause: true }
            }
        }
    }
}

impl From<Refused> for Setback {
    fn from(refused: Refused) -> Self {
        let Refused { error, room } = refused;
        match room {
            Some(NoRoom { wait, whole }) => Self::NoRoom { error, wait, whole },
            None => Self::Final(error),
        }
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

/// What a caller is told who waited in vain; `full` is what made him wait.
fn turned_away(provider: &Provider, why: TurnedAway, full: Option<Error>) -> Error {
    let name = &provider.name;
    match why {
        TurnedAway::Full => {
            let error = Error::new(ErrorReason::Overloaded, format!("too many calls wait for {name}"));
            error.retry_after(Duration::from_secs(5))
        }
        TurnedAway::TooLong => full.unwrap_or_else(|| {
            Error::new(ErrorReason::ProviderExhausted, format!("{name} had no room for {:?}", provider.max_wait))
                .retry_after(Duration::from_secs(1))
        }),
        TurnedAway::Gone => Error::new(ErrorReason::DeadlineExceeded, "the client has left"),
        TurnedAway::Stopping => Error::unavailable("ai-broker", "this broker is shutting down"),
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

/// A key in use; put back when it is dropped without a report.
pub(crate) struct KeyUse {
    provider: Arc<Provider>,
    index: usize,
    reported: bool,
}

impl KeyUse {
    fn pick(provider: &Arc<Provider>, tried: &[usize]) -> Result<Self, Exhausted> {
        let index = provider.keys.pick(Instant::now(), tried)?;
        Ok(Self { provider: Arc::clone(provider), index, reported: false })
    }

    /// Says how the call ended for the key.
    pub(crate) fn report(&mut self, outcome: KeyOutcome) {
        if !std::mem::replace(&mut self.reported, true) {
            self.provider.keys.report(self.index, outcome, Instant::now());
        }
    }
}

impl Drop for KeyUse {
    fn drop(&mut self) {
        if !self.reported {
            self.provider.keys.put_back(self.index);
        }
    }
}
