//! The way of a call: from target to target until one answers, or in line while none has room.

use std::time::{Duration, Instant};

use http::Response;
use hyper::body::Incoming;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;

use super::Broker;
use super::background::Presence;
use super::call::ModelCall;
use super::deferred::Resumed;
use super::key_use::KeyUse;
use super::queue::{Newcomer, Place, Turn, TurnedAway};
use super::reservations::Held;
use crate::provider::Provider;

/// A provider that has begun to answer.
pub(crate) struct Opened {
    /// The call on the target that answers.
    pub(crate) call: Box<ModelCall>,
    pub(crate) response: Response<Incoming>,
    pub(crate) held: Held,
    pub(crate) key: KeyUse,
    pub(crate) attempts: i32,
    /// When the request was sent, and when the answer began.
    pub(crate) sent: Instant,
    pub(crate) began: Instant,
}

/// An answer of a provider, and with what it was asked for.
pub(crate) struct Answered {
    pub(crate) response: Response<Incoming>,
    pub(crate) held: Held,
    pub(crate) key: KeyUse,
    pub(crate) sent: Instant,
    pub(crate) began: Instant,
}

/// Why a target did not answer.
pub(crate) enum Unopened {
    /// No key has room before that; it is worth waiting for.
    NoRoom { error: Error, wait: Duration },
    /// Another target may answer.
    Failed(Error),
    /// A limit of the caller does not let this target be asked.
    Denied(Error),
    /// No target would answer.
    Final(Error),
}

/// The attempts of one call so far.
pub(crate) struct Tries {
    pub(crate) made: i32,
    /// How many more may fail.
    left: u32,
    /// In a line; whoever uses it takes it.
    pub(crate) turn: Option<Turn>,
}

impl Tries {
    /// How many failures one target may cost while `others` come after it: the last ones are kept for those.
    pub(crate) fn allowed(&self, others: usize) -> u32 {
        self.left.saturating_sub(u32::try_from(others).unwrap_or(u32::MAX)).max(self.left.min(1))
    }

    /// Those of a call that goes on with an earlier one.
    pub(super) const fn first() -> Self {
        Self { made: 1, left: 0, turn: None }
    }

    /// One has failed.
    pub(crate) fn failed(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

/// The first target without room, for when no other answers.
struct Full {
    call: Box<ModelCall>,
    /// Why, and for how long; none if others wait for it already.
    error: Option<Error>,
    wait: Duration,
}

impl Broker {
    /// Goes from target to target until one answers; waits in line where one has no room and no other answers.
    pub(crate) async fn open(&self, call: Box<ModelCall>, client: &Presence) -> Result<Opened, Error> {
        let call = if call.keeper.is_none() {
            call
        } else {
            match Box::pin(self.resume(call, client)).await? {
                Resumed::Answered(opened) => return Ok(*opened),
                Resumed::Nothing(call) => call,
            }
        };
        let mut tries = Tries { made: 0, left: self.max_attempts, turn: None };
        let (mut call, mut full, mut failed) = (call, None, None);
        let mut first = true;
        loop {
            // Who comes later does not overtake those who wait.
            let busy = !call.max_wait().is_zero() && call.provider.line.is_busy();
            let outcome = if busy { None } else { Some(self.try_keys(&call, client, &mut tries).await) };
            let setback = match outcome {
                None => None,
                Some(Ok(answered)) => return Ok(answered.of(call, &tries)),
                Some(Err(unopened)) => Some(unopened),
            };
            let has_time = tries.left > 0 && !client.is_gone() && !call.is_late();
            let next = if has_time { call.onward() } else { None };
            match setback {
                Some(Unopened::Final(error)) => return Err(error),
                // What the caller may not use is no reason to look for something cheaper; a dearer stand-in is passed over.
                Some(Unopened::Denied(error)) if first => return Err(error),
                Some(Unopened::Denied(error)) => {
                    failed.get_or_insert(error);
                }
                Some(Unopened::Failed(error)) => failed = Some(error),
                Some(Unopened::NoRoom { error, wait }) if full.is_none() => {
                    full = Some(Full { call, error: Some(error), wait });
                }
                None if full.is_none() => full = Some(Full { call, error: None, wait: Duration::ZERO }),
                Some(Unopened::NoRoom { .. }) | None => {}
            }
            let Some(next) = next else { break };
            self.metrics.fallbacks.increment(1);
            (call, first) = (next, false);
        }
        match (full, failed) {
            (Some(full), _) => Box::pin(self.wait_and_open(full, client, &mut tries)).await,
            (None, failed) => Err(failed.unwrap_or_else(|| Error::defect("a call without a target"))),
        }
    }

    /// Waits in the line of a provider without room, and tries again whenever it is the call's turn.
    async fn wait_and_open(&self, full: Full, client: &Presence, tries: &mut Tries) -> Result<Opened, Error> {
        let Full { call, mut error, wait } = full;
        let comes_too_late = |wait: Duration| call.received.elapsed() + wait > call.max_wait();
        if let Some(error) = error.take_if(|_| comes_too_late(wait)) {
            return Err(error);
        }
        let _waits = call.admitted.is_some().then(|| self.load.waits(call.received));
        let mut place = self.place(&call);
        if error.is_some() {
            place.blocked(wait);
        }
        loop {
            let began = Instant::now();
            let turn = place.turn(client, |standing| call.waiting.tell(standing)).await;
            call.waiting.waited(began.elapsed());
            self.metrics.queue_seconds.record(began.elapsed().as_secs_f64());
            turn.map_err(|why| turned_away(&call, why, error.take()))?;
            tries.turn = Some(place.its_turn());
            match self.try_keys(&call, client, tries).await {
                Ok(answered) => {
                    place.served();
                    return Ok(answered.of(call, tries));
                }
                Err(Unopened::Failed(error) | Unopened::Denied(error) | Unopened::Final(error)) => return Err(error),
                // Nobody is kept waiting for what he can't wait for.
                Err(Unopened::NoRoom { error, wait }) if comes_too_late(wait) => return Err(error),
                Err(Unopened::NoRoom { error: why, wait }) => {
                    place.blocked(wait);
                    error = Some(why);
                }
            }
        }
    }

    /// A place in the provider's line.
    fn place(&self, call: &ModelCall) -> Place {
        self.metrics.queued.increment(1);
        let received = tokio::time::Instant::from_std(call.received);
        call.provider.line.join(Newcomer {
            tenant: call.caller.organization,
            priority: call.plan.priority,
            cost: 1,
            since: tokio::time::Instant::from_std(call.since()),
            until: received + call.max_wait(),
        })
    }
}

impl Answered {
    pub(super) fn of(self, call: Box<ModelCall>, tries: &Tries) -> Opened {
        let Self { response, held, key, sent, began } = self;
        call.is_charged();
        Opened { call, response, held, key, attempts: tries.made, sent, began }
    }
}

/// What a caller is told who waited in vain; `full` is what made him wait.
fn turned_away(call: &ModelCall, why: TurnedAway, full: Option<Error>) -> Error {
    let Provider { name, .. } = &*call.provider;
    match why {
        TurnedAway::Full => {
            let error = Error::new(ErrorReason::Overloaded, format!("too many calls wait for {name}"));
            error.retry_after(Duration::from_secs(5))
        }
        TurnedAway::TooLong => full.unwrap_or_else(|| {
            Error::new(ErrorReason::ProviderExhausted, format!("{name} had no room for {:?}", call.max_wait()))
                .retry_after(Duration::from_secs(1))
        }),
        TurnedAway::Gone => Error::new(ErrorReason::DeadlineExceeded, "the client has left"),
        TurnedAway::Stopping => Error::unavailable("ai-broker", "this broker is shutting down"),
    }
}
