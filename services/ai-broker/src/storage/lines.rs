//! The lines of waiting calls that all brokers share.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use uuid::Uuid;
use weir_redis::{Error, Redis, Script};
use weir_types::{Clock, OrganizationId};

use crate::domain::queue::{Call, Line, Millis, Rules, Standing, Ticket};

/// The lines; clones are the same.
#[derive(Clone)]
pub(crate) struct Lines {
    rules: Rules,
    place: Where,
}

#[derive(Clone)]
enum Where {
    Shared(Shared),
    /// There is no other broker.
    Own(Arc<Mutex<HashMap<String, Line>>>, Arc<dyn Clock>),
}

#[derive(Debug, Clone)]
struct Shared {
    redis: Redis,
    script: Arc<Script>,
    owner: Uuid,
    lease: Duration,
}

/// What a broker has to say about its calls. Spans, not instants: only the store's clock counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// It has to wait; saying so again changes nothing.
    Join(Newcomer),
    /// There was room: it has gone on to the provider.
    Admitted(Ticket),
    /// It was served.
    Served(Ticket),
    /// The provider has no room for so long.
    Blocked(Ticket, Millis),
    /// Its caller is gone.
    Leaves(Ticket),
    /// Where does it stand?
    Asks(Ticket),
}

/// A call that joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Newcomer {
    pub(crate) ticket: Ticket,
    pub(crate) tenant: OrganizationId,
    /// As in [`Call`](crate::domain::queue::Call).
    pub(crate) priority: i32,
    /// As in [`Call`](crate::domain::queue::Call).
    pub(crate) cost: u32,
    /// How long it has waited already.
    pub(crate) waited: Millis,
    /// How much longer it is of use.
    pub(crate) patience: Millis,
}

/// What the line answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// By the store's clock.
    pub(crate) now: Millis,
    /// When the line can next have something to say; none while nothing waits.
    pub(crate) wake_at: Option<Millis>,
    /// For each call that joined, in order: whether it waits. The others found the line full.
    pub(crate) joined: Vec<bool>,
    /// Those of this broker that have the turn.
    pub(crate) turns: Vec<Ticket>,
    /// For each that asked, in order; none if it does not wait (any more).
    pub(crate) standings: Vec<Option<Standing>>,
}

impl Lines {
    /// Of all brokers, of which `owner` is this one. Its calls are forgotten when it says nothing for as long as `lease`.
    pub(crate) fn shared(redis: Redis, owner: Uuid, rules: Rules, lease: Duration) -> Self {
        let script = Arc::new(Script::new(include_str!("line.lua")));
        Self { rules, place: Where::Shared(Shared { redis, script, owner, lease }) }
    }

    /// Of this broker alone.
    pub(crate) fn own(rules: Rules, clock: Arc<dyn Clock>) -> Self {
        Self { rules, place: Where::Own(Arc::default(), clock) }
    }

    /// Says everything that there is to say about a line, and hears what it answers, in one call.
    ///
    /// `most` is how many may have the turn at once, of all brokers. `now` is for tests: else the store's clock counts.
    pub(crate) async fn exchange(
        &self,
        line: &str,
        words: &[Word],
        most: usize,
        now: Option<Millis>,
    ) -> Result<Answer, Error> {
        match &self.place {
            Where::Shared(shared) => shared.exchange(line, words, most, self.rules, now).await,
            Where::Own(lines, clock) => {
                let now = now.unwrap_or_else(|| clock.now().timestamp_millis());
                let mut lines = lines.lock();
                let line = lines.entry(line.to_owned()).or_insert_with(|| Line::new(self.rules));
                Ok(exchange(line, words, most, now))
            }
        }
    }
}

/// What the script does, on a line in memory.
fn exchange(line: &mut Line, words: &[Word], most: usize, now: Millis) -> Answer {
    let mut joined = Vec::new();
    for word in words {
        match *word {
            Word::Join(Newcomer { ticket, tenant, priority, cost, waited, patience }) => {
                let (since, deadline) = (now.saturating_sub(waited), now.saturating_add(patience));
                joined.push(line.join(Call { ticket, tenant, priority, cost, since, deadline }));
            }
            Word::Admitted(ticket) => line.admitted(ticket, now),
            Word::Served(ticket) => line.served(ticket, now),
            Word::Blocked(ticket, wait) => line.blocked(ticket, now.saturating_add(wait)),
            Word::Leaves(ticket) => line.leave(ticket),
            Word::Asks(_) => {}
        }
    }
    line.expire(now);
    line.turns(most, now);
    let asks = words.iter().filter_map(|word| if let Word::Asks(ticket) = word { Some(*ticket) } else { None });
    let standings = asks.map(|ticket| line.standing(ticket, now)).collect();
    Answer { now, wake_at: line.wake_at(), joined, turns: line.with_turn().collect(), standings }
}

impl Shared {
    async fn exchange(
        &self,
        line: &str,
        words: &[Word],
        most: usize,
        Rules { capacity, aging, turn }: Rules,
        now: Option<Millis>,
    ) -> Result<Answer, Error> {
        let mut args: Vec<Vec<u8>> = [
            now.unwrap_or(0),
            i64::try_from(capacity).unwrap_or(i64::MAX),
            aging,
            turn,
            i64::try_from(most).unwrap_or(i64::MAX),
            i64::try_from(self.lease.as_millis()).unwrap_or(i64::MAX),
        ]
        .map(|number| number.to_string().into_bytes())
        .into();
        args.push(self.owner.as_bytes().to_vec());
        args.extend(words.iter().map(encode));
        let key = format!("wb1:{{q:{line}}}:");
        let answer: (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>) = self.redis.run(&self.script, &[key], &args).await?;
        decode(&answer).ok_or_else(|| Error::Internal("unexpected answer of line.lua".to_owned()))
    }
}

fn encode(word: &Word) -> Vec<u8> {
    let bytes = |letter: u8, ticket: &Ticket, numbers: &[Millis]| {
        let mut bytes = Vec::with_capacity(17 + 8 * numbers.len());
        bytes.push(letter);
        bytes.extend_from_slice(ticket.0.as_bytes());
        bytes.extend(numbers.iter().flat_map(|number| double(*number)));
        bytes
    };
    match word {
        Word::Join(newcomer) => {
            let mut bytes = bytes(b'J', &newcomer.ticket, &[]);
            bytes.extend_from_slice(newcomer.tenant.as_uuid().as_bytes());
            let Newcomer { priority, cost, waited, patience, .. } = *newcomer;
            let numbers = [priority.into(), cost.into(), waited, patience];
            bytes.extend(numbers.into_iter().flat_map(double));
            bytes
        }
        Word::Admitted(ticket) => bytes(b'A', ticket, &[]),
        Word::Served(ticket) => bytes(b'S', ticket, &[]),
        Word::Blocked(ticket, wait) => bytes(b'B', ticket, &[*wait]),
        Word::Leaves(ticket) => bytes(b'L', ticket, &[]),
        Word::Asks(ticket) => bytes(b'P', ticket, &[]),
    }
}

fn decode((times, joined, turns, standings): &(Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>)) -> Option<Answer> {
    let times = integers(times);
    let [now, wake_at] = times.as_slice() else { return None };
    let turns = turns.chunks_exact(16).map(|bytes| Some(Ticket(Uuid::from_slice(bytes).ok()?)));
    let standing = |pair: &[i64]| {
        let ahead = usize::try_from(pair[0]).ok()?;
        Some(Standing { ahead, eta: (pair[1] >= 0).then_some(pair[1]) })
    };
    Some(Answer {
        now: *now,
        wake_at: (*wake_at >= 0).then_some(*wake_at),
        joined: joined.iter().map(|letter| *letter == b'w').collect(),
        turns: turns.collect::<Option<_>>()?,
        standings: integers(standings).chunks_exact(2).map(standing).collect(),
    })
}

/// Lua's numbers are doubles; all of these are integers within ±2^53.
#[expect(clippy::cast_precision_loss, reason = "clamped to what a double holds exactly")]
fn double(number: Millis) -> [u8; 8] {
    const MOST: i64 = 1 << 53;
    (number.clamp(-MOST, MOST) as f64).to_le_bytes()
}

#[expect(clippy::cast_possible_truncation, reason = "the script writes integers within ±2^53")]
fn integers(bytes: &[u8]) -> Vec<i64> {
    bytes.as_chunks::<8>().0.iter().map(|number| f64::from_le_bytes(*number) as i64).collect()
}

#[cfg(test)]
mod tests;
