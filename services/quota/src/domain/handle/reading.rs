//! Reading the bytes of a handle, which come from outside: nothing in them is believed.

use uuid::Uuid;

use super::{
    BROUGHT, DECIDED, Decided, GROWN, Handle, HandleConcurrent, HandleCounter, HandleShared, InvalidHandle, OLDEST,
    SharedCounter, VERSION,
};
use crate::domain::shared::AccountKey;
use crate::domain::{Amounts, LimitId, Millis, Unit, Value};

const TIMES: std::ops::RangeInclusive<Millis> = 0..=weir_types::MAX_AMOUNT;

/// The handle, and where its decision begins.
pub(super) fn decode(bytes: &[u8]) -> Result<(Handle, usize), InvalidHandle> {
    let version = *bytes.first().filter(|version| (OLDEST..=VERSION).contains(*version)).ok_or(InvalidHandle)?;
    let mut reader = Reader { rest: &bytes[1..], version };
    let reserved_at = Millis::from_le_bytes(reader.take(8)?.try_into().map_err(|_| InvalidHandle)?);
    // Times that no clock shows would overflow in the sums that are made of them.
    if !TIMES.contains(&reserved_at) {
        return Err(InvalidHandle);
    }
    let reservation = reader.uuid()?.into();
    let organization = reader.uuid()?.into();
    let mut values = vec![Value::Organization];
    for _ in 0..reader.count(crate::domain::subject::MAX_VALUES)? {
        let length = reader.count(256)?;
        values.push(Value::from_field(reader.take(length)?).ok_or(InvalidHandle)?);
    }
    let amounts = reader.amounts()?;
    let mut counters = Vec::new();
    for _ in 0..reader.count(1_024)? {
        let (limit, brought) = reader.brought()?;
        let value = reader.place(values.len())?;
        let amount = amounts[reader.place(amounts.len())?].1;
        let at = Some(reader.number()?).filter(|at| TIMES.contains(at)).ok_or(InvalidHandle)?;
        counters.push(HandleCounter { limit, value, at, amount, cap: reader.cap()?, brought });
    }
    let mut concurrent = Vec::new();
    for _ in 0..reader.count(1_024)? {
        let (limit, value) = (reader.limit()?, reader.place(values.len())?);
        concurrent.push(HandleConcurrent { limit, value, cap: reader.cap()? });
    }
    let shared = match version {
        GROWN.. => reader.all_shared(reserved_at)?,
        DECIDED.. => Vec::from_iter(reader.shared(0, reserved_at)?),
        _ => Vec::new(),
    };
    let end = bytes.len() - reader.rest.len();
    let mut decision = Vec::new();
    if version >= DECIDED {
        let count = reader.count(counters.len() + concurrent.len())?;
        if count != 0 && count != counters.len() + concurrent.len() {
            return Err(InvalidHandle);
        }
        for _ in 0..count {
            decision.push(Decided { used: reader.number()?, held: reader.number()? });
        }
    }
    if !reader.rest.is_empty() {
        return Err(InvalidHandle);
    }
    let amounts = amounts.iter().map(|(unit, amount)| (unit.as_str(), *amount));
    let amounts = Amounts::new(amounts).map_err(|_| InvalidHandle)?;
    Ok((
        Handle { reserved_at, reservation, organization, values, amounts, counters, concurrent, shared, decision },
        end,
    ))
}

struct Reader<'a> {
    rest: &'a [u8],
    version: u8,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], InvalidHandle> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(InvalidHandle)?;
        self.rest = rest;
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

    /// A limit, and whether it was brought.
    fn brought(&mut self) -> Result<(LimitId, bool), InvalidHandle> {
        if self.version < BROUGHT {
            return Ok((self.limit()?, true));
        }
        let number = self.number()?;
        Ok((LimitId::try_from(number >> 1).map_err(|_| InvalidHandle)?, number & 1 == 1))
    }

    fn cap(&mut self) -> Result<Option<i64>, InvalidHandle> {
        if self.version >= DECIDED { self.number().map(Some) } else { Ok(None) }
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
            let (limit, brought) = self.brought()?;
            let length = self.count(256)?;
            let value = std::str::from_utf8(self.take(length)?).map_err(|_| InvalidHandle)?.into();
            let at = self.number()?.checked_sub(1).filter(|at| *at >= 0);
            let (amount, cap) = (self.number()?, self.number()?);
            counters.push(SharedCounter { account: AccountKey { limit, value }, at, amount, cap, brought });
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
