//! Handles as bytes: what is sent to a store, kept by it, and given to callers.

use bytes::Bytes;
use weir_types::ReservationId;

use super::reading::decode;
use super::{DECIDED, Decided, HEAD, HandleShared, InvalidHandle, VERSION};
use crate::domain::{Amounts, Demand, LimitId, Millis, Part, Subject, Value};

/// A handle without what the store decides (its time, and what stood in the counters), and how much of it identifies the request.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The version of the handle.
    pub version: u8,
    /// Everything between the head and the decision.
    pub tail: Vec<u8>,
    /// The length of its first part: id, organisation, subject and amounts, which a repeated request must repeat.
    pub fingerprint: usize,
}

impl Draft {
    /// What a demand will hold.
    #[must_use]
    pub fn new(id: ReservationId, subject: &Subject, amounts: &Amounts, demand: &Demand<'_>) -> Self {
        let mut tail = Vec::with_capacity(256);
        tail.extend_from_slice(id.as_uuid().as_bytes());
        tail.extend_from_slice(subject.organization.as_uuid().as_bytes());
        put(&mut tail, subject.values.len());
        for value in &subject.values {
            put(&mut tail, value.field_len());
            value.write_field(&mut tail);
        }
        put(&mut tail, amounts.iter().len());
        for (unit, amount) in amounts.iter() {
            match unit.code() {
                Some(code) => tail.push(code),
                None => {
                    tail.push(u8::MAX);
                    put(&mut tail, unit.as_str().len());
                    tail.extend_from_slice(unit.as_str().as_bytes());
                }
            }
            put(&mut tail, amount);
        }
        let fingerprint = tail.len();
        let place = |part: &Part<'_>| match part.value {
            Value::Organization => 0,
            value => 1 + subject.values.iter().position(|other| other == value).unwrap_or(0),
        };
        put(&mut tail, demand.windows().count());
        for (part, limit, touch) in demand.windows() {
            let unit = amounts.iter().position(|(unit, _)| *unit == limit.limit.unit).unwrap_or(0);
            put_limit(&mut tail, limit.id, part.scope.brought);
            put(&mut tail, place(part));
            put(&mut tail, unit);
            put(&mut tail, if limit.rolling().is_some() { limit.grain } else { touch.period.start });
            put(&mut tail, limit.limit.cap);
        }
        put(&mut tail, demand.concurrent().count());
        for (part, limit) in demand.concurrent() {
            put(&mut tail, limit.id);
            put(&mut tail, place(part));
            put(&mut tail, limit.limit.cap);
        }
        put(&mut tail, 0);
        Self { version: VERSION, tail, fingerprint }
    }

    /// The same with what it took of limits across tenants, at one time or several.
    #[must_use]
    pub fn with_shared(mut self, shared: &[HandleShared]) -> Self {
        // In place of the 0 that says that there are none.
        self.tail.pop();
        let taken = || shared.iter().filter(|part| !part.counters.is_empty());
        put(&mut self.tail, taken().count());
        for part in taken() {
            self.tail.push(part.growth);
            // What is taken now has the handle's own time, which the store decides.
            put(&mut self.tail, part.taken_at);
            put_shared(&mut self.tail, part);
        }
        self
    }

    /// The handle of a reservation that was made at this time; the decision is empty if the store did not make it.
    #[must_use]
    pub fn at(&self, reserved_at: Millis, decision: &[Decided]) -> Bytes {
        assemble(self.version, reserved_at, &self.tail, decision)
    }

    /// Whether another reservation of the same id asks for the same.
    #[must_use]
    pub fn repeats(&self, body: &Body) -> bool {
        body.tail.get(..self.fingerprint) == Some(&self.tail[..self.fingerprint])
    }
}

/// A handle without its time, as stores keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// The version of the handle.
    pub version: u8,
    /// Everything between the head and the decision.
    pub tail: Vec<u8>,
    /// What stood in the counters; empty if that is not known.
    pub decision: Vec<Decided>,
}

impl Body {
    /// The handle of a reservation that was made at this time.
    #[must_use]
    pub fn at(&self, reserved_at: Millis) -> Bytes {
        assemble(self.version, reserved_at, &self.tail, &self.decision)
    }

    /// Of a handle.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn of(handle: &[u8]) -> Result<Self, InvalidHandle> {
        let (decoded, end) = decode(handle)?;
        let (version, tail) = (handle[0], handle.get(HEAD..end).unwrap_or_default().to_vec());
        Ok(Self { version, tail, decision: decoded.decision })
    }
}

fn assemble(version: u8, reserved_at: Millis, tail: &[u8], decision: &[Decided]) -> Bytes {
    // Few counters need more than six bytes each for used and held.
    let mut bytes = Vec::with_capacity(HEAD + tail.len() + 12 * decision.len() + 1);
    bytes.push(version);
    bytes.extend_from_slice(&reserved_at.to_le_bytes());
    bytes.extend_from_slice(tail);
    if version >= DECIDED {
        put(&mut bytes, decision.len());
        for decided in decision {
            put(&mut bytes, decided.used);
            put(&mut bytes, decided.held);
        }
    }
    bytes.into()
}

fn put_shared(bytes: &mut Vec<u8>, shared: &HandleShared) {
    put(bytes, shared.counters.len());
    bytes.extend_from_slice(&shared.holder);
    for counter in &shared.counters {
        put_limit(bytes, counter.account.limit, counter.brought);
        put(bytes, counter.account.value.len());
        bytes.extend_from_slice(counter.account.value.as_bytes());
        put(bytes, counter.at.map_or(0, |at| at.saturating_add(1)));
        put(bytes, counter.amount);
        put(bytes, counter.cap);
    }
}

fn put_limit(bytes: &mut Vec<u8>, limit: LimitId, brought: bool) {
    put(bytes, (u64::from(limit) << 1) | u64::from(brought));
}

fn put(bytes: &mut Vec<u8>, number: impl TryInto<u64>) {
    // Nothing that is put is negative.
    let mut number = number.try_into().unwrap_or(0);
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}
