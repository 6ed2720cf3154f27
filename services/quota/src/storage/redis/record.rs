//! How Redis keeps a held reservation.
//!
//! `R, generation f64, reserved at f64`, then what is sent with the reservation: `version u8, length of the tail u16, length of the
//! context u32, the handle's tail, the context, a share f64 for each counter`, and what the script adds: `used f64, held f64` for
//! each counter, to both of which the share is to be added. So a batch of reservations has most of what it decides in common.

use super::program::{double, number};
use crate::domain::Decided;
use crate::domain::handle::Body;
use crate::storage::store::Record;

/// The bytes of the version and the two lengths.
const LENGTHS: usize = 7;

/// What is sent to be kept; `shares` belong to the counters of the decision.
pub(super) fn sent(version: u8, tail: &[u8], context: &[u8], shares: impl ExactSizeIterator<Item = i64>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LENGTHS + tail.len() + context.len() + 8 * shares.len());
    bytes.push(version);
    bytes.extend_from_slice(&u16::try_from(tail.len()).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(context.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(tail);
    bytes.extend_from_slice(context);
    for share in shares {
        bytes.extend_from_slice(&double(share));
    }
    bytes
}

impl Record {
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(b"R")?;
        let generation = u64::try_from(number(rest, 0)?).ok()?;
        let reserved_at = number(rest, 8)?;
        let rest = rest.get(16..)?;
        let version = *rest.first()?;
        let tail = usize::from(u16::from_le_bytes(rest.get(1..3)?.try_into().ok()?));
        let context = usize::try_from(u32::from_le_bytes(rest.get(3..7)?.try_into().ok()?)).ok()?;
        let (tail, rest) = rest.get(LENGTHS..)?.split_at_checked(tail)?;
        let (context, numbers) = rest.split_at_checked(context)?;
        let count = numbers.len() / 24;
        let decided = |place: usize| {
            let share = number(numbers, 8 * place)?;
            let at = 8 * count + 16 * place;
            Some(Decided { used: number(numbers, at)? + share, held: number(numbers, at + 8)? + share })
        };
        let decision: Option<Vec<Decided>> = (0..count).map(decided).collect();
        let body = Body { version, tail: tail.to_vec(), decision: decision? };
        Some(Self { generation, reserved_at, body, context: context.to_vec() })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![b'R'];
        bytes.extend_from_slice(&double(i64::try_from(self.generation).unwrap_or(i64::MAX)));
        bytes.extend_from_slice(&double(self.reserved_at));
        let Body { version, tail, decision } = &self.body;
        bytes.extend(sent(*version, tail, &self.context, decision.iter().map(|_| 0)));
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

    #[test]
    fn a_record_is_read_as_it_is_written() {
        for decision in [vec![], vec![Decided { used: 7, held: 3 }, Decided { used: 1 << 50, held: 0 }]] {
            let body = Body { version: VERSION, tail: b"tail".to_vec(), decision };
            let record = Record { generation: 5, reserved_at: 1_790_000_000_000, body, context: b"draft".to_vec() };
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
        assert_eq!(Record::decode(b"Sf0"), None);
        assert_eq!(Record::decode(b"R123"), None);
    }

    #[test]
    fn a_share_is_added_to_what_the_script_wrote() {
        let mut bytes = vec![b'R'];
        [1, 2].iter().for_each(|number| bytes.extend_from_slice(&double(*number)));
        bytes.extend(sent(VERSION, b"t", b"", [30, 1].into_iter()));
        // Nothing negative comes out of it, but the script's part may be.
        [100, -20, 4, 0].iter().for_each(|number| bytes.extend_from_slice(&double(*number)));
        let record = Record::decode(&bytes).unwrap();
        assert_eq!(record.body.decision, [Decided { used: 130, held: 10 }, Decided { used: 5, held: 1 }]);
    }
}
