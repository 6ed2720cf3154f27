//! Records that were made together and are kept together.
//!
//! A sheet is two fields of the state. The one has the records as they were sent: per reservation `length of the rest u32, its field,
//! where its base begins u32`, and what `record` calls sent. The other one has what they have in common: `reserved at f64, number of
//! reservations f64`, their fields, and the bases: `used f64, held f64` for each counter. It stays until none of its reservations is held any more and that is noticed, which is
//! when their leases would have ended.

use std::collections::HashMap;

use uuid::Uuid;

use super::program::number;
use super::record::{self, Held};
use super::request::Request;
use super::sending::Records;
use crate::domain::handle::VERSION;
use crate::storage::store::Record;

/// A sheet's number, as it stands in fields.
pub(super) type SheetId = [u8; 8];

/// From so many bytes on records go ahead: to hash fewer costs a script less than a transaction does.
const AHEAD_FROM: usize = 2_048;
/// The length of a reservation's field.
const FIELD: usize = 17;

/// The sheets that some held reservations are in.
#[derive(Default)]
pub(super) struct Sheets(HashMap<SheetId, Sheet>);

#[derive(Default)]
struct Sheet {
    common: Vec<u8>,
    records: Vec<u8>,
}

impl Sheets {
    /// As scripts answer them: number, what they have in common, records, and so on.
    pub(super) fn new(values: Vec<Vec<u8>>) -> Self {
        let mut sheets = Self::default();
        let mut values = values.into_iter();
        while let (Some(number), Some(common), Some(records)) = (values.next(), values.next(), values.next()) {
            if let Ok(number) = number.try_into() {
                sheets.0.insert(number, Sheet { common, records });
            }
        }
        sheets
    }

    /// Takes a field of the state; false if it is none of a sheet.
    pub(super) fn take(&mut self, field: &[u8], value: &[u8]) -> bool {
        let Some((tag @ (b'b' | b'h'), number)) = field.split_first() else { return false };
        let Ok(number) = number.try_into() else { return false };
        let sheet = self.0.entry(number).or_default();
        if *tag == b'b' {
            sheet.records = value.to_vec();
        } else {
            sheet.common = value.to_vec();
        }
        true
    }

    /// Whether both parts of a sheet are there.
    pub(super) fn has(&self, number: &SheetId) -> bool {
        self.0.get(number).is_some_and(|sheet| !sheet.records.is_empty() && !sheet.common.is_empty())
    }

    /// The record of a held reservation; none if its sheet is not among these.
    pub(super) fn record(&self, field: &[u8], held: &Held<'_>) -> Option<Record> {
        let Some(number) = &held.sheet else { return held.record() };
        self.0.get(number)?.record(field, held)
    }
}

impl Sheet {
    fn record(&self, field: &[u8], held: &Held<'_>) -> Option<Record> {
        let mut rest = self.records.as_slice();
        loop {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (entry, after) = after.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
            if entry.get(..FIELD) == Some(field) {
                let (base, sent) = entry.get(FIELD..)?.split_first_chunk::<4>()?;
                let fields = FIELD.checked_mul(usize::try_from(number(&self.common, 8)?).ok()?)?;
                let base = 16 + fields + usize::try_from(u32::from_le_bytes(*base)).ok()?;
                return held.record_of(number(&self.common, 0)?, sent, self.common.get(base..)?);
            }
            rest = after;
        }
    }
}

/// What is kept of one call's reservations of a tenant, on its way.
pub(super) struct Kept {
    /// The fields of the sheet, if it is one.
    sheet: Option<[[u8; 9]; 2]>,
    ahead: bool,
    records: Vec<u8>,
}

impl Kept {
    /// Of one reservation.
    pub(super) const fn alone(records: Vec<u8>) -> Self {
        Self { sheet: None, ahead: false, records }
    }

    /// Of several: a sheet, which may go ahead of the script if it is large enough to gain by that.
    pub(super) fn together(records: Vec<u8>, may_go_ahead: bool) -> Self {
        let ahead = may_go_ahead && records.len() >= AHEAD_FROM;
        Self { sheet: Some(fields(&new_number())), ahead, records }
    }

    pub(super) const fn goes_ahead(&self) -> bool {
        self.ahead
    }

    /// What the script is handed.
    pub(super) fn args(&self) -> impl Iterator<Item = &[u8]> {
        let head = self.sheet.as_ref().map(|[head, _]| head.as_slice());
        head.into_iter().chain((!self.ahead).then_some(self.records.as_slice()))
    }

    /// What is written before it, into the tenant's state.
    pub(super) fn ahead(self, state: Vec<u8>) -> Option<Records> {
        let [_, field] = self.sheet.filter(|_| self.ahead)?;
        Some(Records { state, field, bytes: self.records })
    }
}

/// A number that nothing else has: 61 random bits, as a positive double, the way scripts tell it from those that mean no sheet.
fn new_number() -> SheetId {
    let mut number = [0; 8];
    number.copy_from_slice(&Uuid::new_v4().as_bytes()[8..]);
    number.reverse();
    number[7] &= 0x3f;
    number[0] |= 1;
    number
}

/// The fields of a sheet.
pub(super) fn fields(number: &SheetId) -> [[u8; 9]; 2] {
    [b'h', b'b'].map(|tag| {
        let mut field = [tag; 9];
        field[1..].copy_from_slice(number);
        field
    })
}

/// Appends what is kept of a reservation: `base` is where its base begins among the bases.
pub(super) fn append(sheet: &mut Vec<u8>, request: &Request, base: usize, shares: &[i64]) {
    let length_at = sheet.len();
    sheet.extend_from_slice(&[0; 4]);
    sheet.extend_from_slice(&request.id);
    sheet.extend_from_slice(&u32::try_from(base).unwrap_or(u32::MAX).to_le_bytes());
    record::send(sheet, VERSION, &request.tail, &request.context, shares.iter().copied());
    let length = u32::try_from(sheet.len() - length_at - 4).unwrap_or(u32::MAX);
    sheet[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
}
