//! How Redis keeps a held reservation.
//!
//! `R, generation, end of its lease, time until which it counts as under way, sheet`, the numbers as f64. In sheet 0, or -1 if it has grown, there follow
//! `reserved at f64`, what is sent with the reservation: `version u8, length of the tail u16, length of the context u32, the handle's
//! tail, the context, a share f64 for each counter`, and what the script adds: `used f64, held f64` for each counter, to both of
//! which the share is to be added. So a batch of reservations has most of what it decides in common. Those that are made together
//! are kept together, in a sheet.

use super::program::{double, number};
use super::sheets::SheetId;
use crate::domain::handle::Body;
use crate::domain::{Decided, Millis};
use crate::storage::store::Record;

/// The bytes before the record.
const HEAD: usize = 33;
/// The bytes of the version and the two lengths.
const LENGTHS: usize = 7;

/// What stands in a held reservation's field.
pub(super) struct Held<'a> {
    pub(super) generation: u64,
    /// When its lease ends.
    pub(super) ends: Millis,
    /// Where the record is, if it is not here.
    pub(super) sheet: Option<SheetId>,
    record: &'a [u8],
}

impl<'a> Held<'a> {
    /// None if it is the mark of a settled one.
    pub(super) fn read(value: &'a [u8]) -> Option<Self> {
        if value.first() != Some(&b'R') {
            return None;
        }
        let (head, record) = value.split_at_checked(HEAD)?;
        let sheet: SheetId = head[25..].try_into().ok()?;
        Some(Self {
            generation: u64::try_from(number(head, 1)?).ok()?,
            ends: number(head, 9)?,
            sheet: (f64::from_le_bytes(sheet) > 0.0).then_some(sheet),
            record,
        })
    }

    /// The record that is here.
    pub(super) fn record(&self) -> Option<Record> {
        let (reserved_at, sent) = self.record.split_at_checked(8)?;
        let Sent { version, tail, context, numbers } = Sent::read(sent)?;
        let (shares, base) = numbers.split_at(8 * (numbers.len() / 24));
        let body = Body { version, tail: tail.to_vec(), decision: decision(shares, base)? };
        let reserved_at = number(reserved_at, 0)?;
        Some(Record { generation: self.generation, reserved_at, body, context: context.to_vec() })
    }

    /// The record that is in a sheet.
    pub(super) fn record_of(&self, reserved_at: Millis, sent: &[u8], base: &[u8]) -> Option<Record> {
        let Sent { version, tail, context, numbers } = Sent::read(sent)?;
        let body = Body { version, tail: tail.to_vec(), decision: decision(numbers, base)? };
        Some(Record { generation: self.generation, reserved_at, body, context: context.to_vec() })
    }
}

/// What is sent to be kept.
struct Sent<'a> {
    version: u8,
    tail: &'a [u8],
    context: &'a [u8],
    numbers: &'a [u8],
}

impl<'a> Sent<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let version = *bytes.first()?;
        let tail = usize::from(u16::from_le_bytes(bytes.get(1..3)?.try_into().ok()?));
        let context = usize::try_from(u32::from_le_bytes(bytes.get(3..LENGTHS)?.try_into().ok()?)).ok()?;
        let (tail, rest) = bytes.get(LENGTHS..)?.split_at_checked(tail)?;
        let (context, numbers) = rest.split_at_checked(context)?;
        Some(Self { version, tail, context, numbers })
    }
}

fn decision(shares: &[u8], base: &[u8]) -> Option<Vec<Decided>> {
    let decided = |place: usize| {
        let share = number(shares, 8 * place)?;
        Some(Decided { used: number(base, 16 * place)? + share, held: number(base, 16 * place + 8)? + share })
    };
    (0..shares.len() / 8).map(decided).collect()
}

/// Appends what is sent to be kept; `shares` belong to the counters of the decision.
pub(super) fn send(
    bytes: &mut Vec<u8>,
    version: u8,
    tail: &[u8],
    context: &[u8],
    shares: impl ExactSizeIterator<Item = i64>,
) {
    bytes.reserve(LENGTHS + tail.len() + context.len() + 8 * shares.len());
    bytes.push(version);
    bytes.extend_from_slice(&u16::try_from(tail.len()).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(context.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(tail);
    bytes.extend_from_slice(context);
    for share in shares {
        bytes.extend_from_slice(&double(share));
    }
}

impl Record {
    /// As it is kept beside its head.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = double(self.reserved_at).to_vec();
        let Body { version, tail, decision } = &self.body;
        send(&mut bytes, *version, tail, &self.context, decision.iter().map(|_| 0));
        for decided in decision {
            bytes.extend_from_slice(&double(decided.used));
            bytes.extend_from_slice(&double(decided.held));
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::handle::VERSION;

    fn head(generation: i64, ends: Millis) -> Vec<u8> {
        let mut bytes = vec![b'R'];
        [generation, ends, ends, 0].iter().for_each(|number| bytes.extend_from_slice(&double(*number)));
        bytes
    }

    #[test]
    fn a_record_is_read_as_it_is_written() {
        for decision in [vec![], vec![Decided { used: 7, held: 3 }, Decided { used: 1 << 50, held: 0 }]] {
            let body = Body { version: VERSION, tail: b"tail".to_vec(), decision };
            let record = Record { generation: 5, reserved_at: 1_790_000_000_000, body, context: b"draft".to_vec() };
            let value = [head(5, 7), record.encode()].concat();
            let held = Held::read(&value).unwrap();
            assert_eq!((held.ends, held.sheet, held.record()), (7, None, Some(record)));
        }
        assert!(Held::read(b"Sf0").is_none() && Held::read(b"R123").is_none());
    }

    #[test]
    fn a_share_is_added_to_what_the_script_wrote() {
        let mut sent = Vec::new();
        send(&mut sent, VERSION, b"t", b"", [30, 1].into_iter());
        // Nothing negative comes out of it, but the script's part may be.
        let base: Vec<u8> = [100, -20, 4, 0].iter().flat_map(|number| double(*number)).collect();
        let decision = [Decided { used: 130, held: 10 }, Decided { used: 5, held: 1 }];
        let value = [head(1, 2), double(2).to_vec(), sent.clone(), base.clone()].concat();
        assert_eq!(Held::read(&value).unwrap().record().unwrap().body.decision, decision);
        let value = head(1, 2);
        assert_eq!(Held::read(&value).unwrap().record_of(2, &sent, &base).unwrap().body.decision, decision);
    }
}
