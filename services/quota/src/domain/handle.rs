//! What settles a reservation even if the fast store has lost it.
//!
//! Version 2: `2, reserved at (u64), reservation (16), organisation (16)`, the subject's values, the amounts, the counters, the
//! concurrency limits, the limits across tenants, the decision. Numbers after the ids are LEB128. Six limits of an organisation, a
//! user and a key take about 220 bytes.
//!
//! Version 3 is that of a reservation that has grown: of limits across tenants it has several parts, each with its number and its
//! time. Version 1 has neither caps nor a decision; it is read as long as there may be one, which is as long as a lease or a
//! settlement is kept.

use bytes::Bytes;
use uuid::Uuid;
use weir_types::{OrganizationId, ReservationId};

use super::demand::bucket_end;
use super::shared::{AccountKey, HolderId};
use super::{Amounts, Demand, Kind, LimitId, Millis, Part, Subject, Unit, Value};

/// A reservation: what it holds, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle {
    /// When it was made, or has last grown, by the fast store's clock.
    pub reserved_at: Millis,
    /// Its id.
    pub reservation: ReservationId,
    /// Whose it is.
    pub organization: OrganizationId,
    /// The organisation and the subject's other values; counters refer to them.
    pub values: Vec<Value>,
    /// What was reserved.
    pub amounts: Amounts,
    /// The counters that it is held in.
    pub counters: Vec<HandleCounter>,
    /// The concurrency limits that it counts in.
    pub concurrent: Vec<HandleConcurrent>,
    /// What it holds of limits across tenants: what it began with, then what it grew by.
    pub shared: Vec<HandleShared>,
    /// What stood in each of the counters, and then in each of the concurrency limits, with the reservation. None if the store did
    /// not say: in version 1, and where it was admitted while the store was away.
    pub decision: Vec<Decided>,
}

/// One counter of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandleCounter {
    /// Of which limit.
    pub limit: LimitId,
    /// Whose: a place in [`Handle::values`].
    pub value: usize,
    /// The start of the period, or the width of a rolling window's buckets.
    pub at: Millis,
    /// How much was reserved.
    pub amount: i64,
    /// The cap that applied; not known of version 1.
    pub cap: Option<i64>,
}

/// One concurrency limit of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandleConcurrent {
    /// The limit.
    pub limit: LimitId,
    /// Whose: a place in [`Handle::values`].
    pub value: usize,
    /// The cap that applied; not known of version 1.
    pub cap: Option<i64>,
}

/// What a reservation took of limits across tenants at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandleShared {
    /// 0 when it was made, then counted up each time that it grew.
    pub growth: u8,
    /// When, by the fast store's clock; 0 before the store has said.
    pub taken_at: Millis,
    /// The process whose slices it was taken from.
    pub holder: HolderId,
    /// The limits.
    pub counters: Vec<SharedCounter>,
}

/// One limit across tenants of a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedCounter {
    /// The limit and whose counter.
    pub account: AccountKey,
    /// The start of the period, or the width of a rolling window's buckets; none of a concurrency limit.
    pub at: Option<Millis>,
    /// How much was reserved.
    pub amount: i64,
    /// The cap that applied.
    pub cap: i64,
}

impl HandleShared {
    /// The id under which it is counted there: each growth has one of its own, so that it is counted once, like any reservation.
    #[must_use]
    pub fn entry(&self, reservation: ReservationId) -> ReservationId {
        entry(reservation, self.growth)
    }

    /// Whether this is what was taken, at whatever time the store did it. A growth that was not answered may have been repeated
    /// with other amounts, or through another process.
    #[must_use]
    pub fn is_what_was_taken(&self, other: &Self) -> bool {
        (self.growth, self.holder, &self.counters) == (other.growth, other.holder, &other.counters)
    }
}

/// The id under which what a reservation takes of limits across tenants is counted.
#[must_use]
pub fn entry(reservation: ReservationId, growth: u8) -> ReservationId {
    let mut bytes = *reservation.as_uuid().as_bytes();
    // Random bits of a UUIDv7, which nobody else has.
    bytes[15] ^= growth;
    Uuid::from_bytes(bytes).into()
}

impl SharedCounter {
    /// The period's start, or the end of the bucket that it was counted in; 0 of a concurrency limit.
    #[must_use]
    pub const fn place(&self, kind: Kind, taken_at: Millis) -> Millis {
        match self.at {
            Some(at) if kind.is_rolling() => bucket_end(taken_at, at),
            Some(at) => at,
            None => 0,
        }
    }
}

/// What stood in a counter when a reservation was made, the reservation included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided {
    /// Committed and held.
    pub used: i64,
    /// Of that, held.
    pub held: i64,
}

/// Bytes that are no handle of this version, or of another reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not the handle of this reservation")]
pub struct InvalidHandle;

/// The version that is written.
pub const VERSION: u8 = 2;
/// The version of what has grown and holds something of limits across tenants.
pub const GROWN: u8 = 3;
/// The oldest version that is read.
const OLDEST: u8 = 1;
/// Version and time.
const HEAD: usize = 9;

impl HandleCounter {
    /// The period's start, or the end of the bucket that it was counted in.
    #[must_use]
    pub const fn place(&self, kind: Kind, reserved_at: Millis) -> Millis {
        if kind.is_rolling() { bucket_end(reserved_at, self.at) } else { self.at }
    }
}

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
            put(&mut tail, limit.id);
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

    /// The same with what it holds of limits across tenants.
    #[must_use]
    pub fn with_shared(mut self, shared: &HandleShared) -> Self {
        if !shared.counters.is_empty() {
            // In place of the 0 that says that there are none.
            self.tail.pop();
            put_shared(&mut self.tail, shared);
        }
        self
    }

    /// The same with what it took of limits across tenants at several times.
    #[must_use]
    pub fn with_all_shared(mut self, shared: &[HandleShared]) -> Self {
        if shared.is_empty() {
            return self;
        }
        self.version = GROWN;
        self.tail.pop();
        put(&mut self.tail, shared.len());
        for part in shared {
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
    if version > 1 {
        put(&mut bytes, decision.len());
        for decided in decision {
            put(&mut bytes, decided.used);
            put(&mut bytes, decided.held);
        }
    }
    bytes.into()
}

impl Handle {
    /// Reads what [`Draft::at`] wrote.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidHandle> {
        decode(bytes).map(|(handle, _)| handle)
    }

    /// When it was reserved, without reading the rest; none if it is no handle.
    #[must_use]
    pub fn peek_reserved_at(bytes: &[u8]) -> Option<Millis> {
        let version = *bytes.first()?;
        let known = (OLDEST..=GROWN).contains(&version);
        known.then_some(Millis::from_le_bytes(bytes.get(1..9)?.try_into().ok()?))
    }

    /// Everything that it holds of limits across tenants, with when and how it was taken.
    pub fn across(&self) -> impl Iterator<Item = (&HandleShared, &SharedCounter)> {
        self.shared.iter().flat_map(|part| part.counters.iter().map(move |counter| (part, counter)))
    }

    /// Whether it took more of a limit across tenants after this growth. What it uses counts where it last took of it.
    #[must_use]
    pub fn holds_later(&self, growth: u8, account: &AccountKey) -> bool {
        self.across().any(|(part, counter)| part.growth > growth && counter.account == *account)
    }

    /// The concurrency limits that it counts in, with whose counters they are.
    #[must_use]
    pub fn places(&self) -> Vec<(LimitId, Value)> {
        self.concurrent.iter().map(|one| (one.limit, self.values[one.value].clone())).collect()
    }
}

/// The handle, and where its decision begins.
fn decode(bytes: &[u8]) -> Result<(Handle, usize), InvalidHandle> {
    let mut reader = Reader(bytes);
    let version = reader.take(1)?[0];
    if !(OLDEST..=GROWN).contains(&version) {
        return Err(InvalidHandle);
    }
    let reserved_at = Millis::from_le_bytes(reader.take(8)?.try_into().map_err(|_| InvalidHandle)?);
    // Times that no clock shows would overflow in the sums that are made of them.
    if !TIMES.contains(&reserved_at) {
        return Err(InvalidHandle);
    }
    let reservation = reader.uuid()?.into();
    let organization = reader.uuid()?.into();
    let mut values = vec![Value::Organization];
    for _ in 0..reader.count(super::subject::MAX_VALUES)? {
        let length = reader.count(256)?;
        values.push(Value::from_field(reader.take(length)?).ok_or(InvalidHandle)?);
    }
    let amounts = reader.amounts()?;
    let mut counters = Vec::new();
    for _ in 0..reader.count(1_024)? {
        let limit = reader.limit()?;
        let value = reader.place(values.len())?;
        let amount = amounts[reader.place(amounts.len())?].1;
        let at = Some(reader.number()?).filter(|at| TIMES.contains(at)).ok_or(InvalidHandle)?;
        counters.push(HandleCounter { limit, value, at, amount, cap: reader.cap(version)? });
    }
    let mut concurrent = Vec::new();
    for _ in 0..reader.count(1_024)? {
        let (limit, value) = (reader.limit()?, reader.place(values.len())?);
        concurrent.push(HandleConcurrent { limit, value, cap: reader.cap(version)? });
    }
    let shared = match version {
        1 => Vec::new(),
        GROWN => reader.all_shared(reserved_at)?,
        _ => Vec::from_iter(reader.shared(0, reserved_at)?),
    };
    let end = bytes.len() - reader.0.len();
    let mut decision = Vec::new();
    if version > 1 {
        let count = reader.count(counters.len() + concurrent.len())?;
        if count != 0 && count != counters.len() + concurrent.len() {
            return Err(InvalidHandle);
        }
        for _ in 0..count {
            decision.push(Decided { used: reader.number()?, held: reader.number()? });
        }
    }
    if !reader.0.is_empty() {
        return Err(InvalidHandle);
    }
    let amounts = amounts.iter().map(|(unit, amount)| (unit.as_str(), *amount));
    let amounts = Amounts::new(amounts).map_err(|_| InvalidHandle)?;
    Ok((
        Handle { reserved_at, reservation, organization, values, amounts, counters, concurrent, shared, decision },
        end,
    ))
}

const TIMES: std::ops::RangeInclusive<Millis> = 0..=weir_types::MAX_AMOUNT;

fn put_shared(bytes: &mut Vec<u8>, shared: &HandleShared) {
    put(bytes, shared.counters.len());
    bytes.extend_from_slice(&shared.holder);
    for counter in &shared.counters {
        put(bytes, counter.account.limit);
        put(bytes, counter.account.value.len());
        bytes.extend_from_slice(counter.account.value.as_bytes());
        put(bytes, counter.at.map_or(0, |at| at.saturating_add(1)));
        put(bytes, counter.amount);
        put(bytes, counter.cap);
    }
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

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], InvalidHandle> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(InvalidHandle)?;
        self.0 = rest;
        Ok(taken)
    }

    fn uuid(&mut self) -> Result<Uuid, InvalidHandle> {
        Uuid::from_slice(self.take(16)?).map_err(|_| InvalidHandle)
    }

    fn number(&mut self) -> Result<i64, InvalidHandle> {
        let mut number = 0_u64;
        for shift in (0..63).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return i64::try_from(number).map_err(|_| InvalidHandle);
            }
        }
        Err(InvalidHandle)
    }

    fn count(&mut self, most: usize) -> Result<usize, InvalidHandle> {
        usize::try_from(self.number()?).ok().filter(|count| *count <= most).ok_or(InvalidHandle)
    }

    fn place(&mut self, length: usize) -> Result<usize, InvalidHandle> {
        self.count(length.checked_sub(1).ok_or(InvalidHandle)?)
    }

    fn limit(&mut self) -> Result<LimitId, InvalidHandle> {
        LimitId::try_from(self.number()?).map_err(|_| InvalidHandle)
    }

    fn cap(&mut self, version: u8) -> Result<Option<i64>, InvalidHandle> {
        if version > 1 { self.number().map(Some) } else { Ok(None) }
    }

    fn all_shared(&mut self, reserved_at: Millis) -> Result<Vec<HandleShared>, InvalidHandle> {
        let mut all = Vec::new();
        for _ in 0..self.count(256)? {
            let growth = self.take(1)?[0];
            let taken_at = Some(self.number()?).filter(|at| TIMES.contains(at)).ok_or(InvalidHandle)?;
            let taken_at = if taken_at == 0 { reserved_at } else { taken_at };
            all.extend(self.shared(growth, taken_at)?);
        }
        Ok(all)
    }

    fn shared(&mut self, growth: u8, taken_at: Millis) -> Result<Option<HandleShared>, InvalidHandle> {
        let count = self.count(256)?;
        if count == 0 {
            return Ok(None);
        }
        let holder = self.take(16)?.try_into().map_err(|_| InvalidHandle)?;
        let mut counters = Vec::with_capacity(count);
        for _ in 0..count {
            let limit = self.limit()?;
            let length = self.count(256)?;
            let value = std::str::from_utf8(self.take(length)?).map_err(|_| InvalidHandle)?.into();
            let at = self.number()?.checked_sub(1).filter(|at| *at >= 0);
            let (amount, cap) = (self.number()?, self.number()?);
            counters.push(SharedCounter { account: AccountKey { limit, value }, at, amount, cap });
        }
        Ok(Some(HandleShared { growth, taken_at, holder, counters }))
    }

    fn amounts(&mut self) -> Result<Vec<(Unit, i64)>, InvalidHandle> {
        let mut amounts = Vec::new();
        for _ in 0..self.count(16)? {
            let unit = match self.take(1)?[0] {
                u8::MAX => {
                    let length = self.count(63)?;
                    Unit::parse(std::str::from_utf8(self.take(length)?).map_err(|_| InvalidHandle)?)
                }
                code => Unit::from_code(code).ok_or(InvalidHandle)?,
            };
            amounts.push((unit, self.number()?));
        }
        Ok(amounts)
    }
}
