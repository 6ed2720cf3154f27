//! WebM and Matroska (RFC 9559): the stated duration, or, as browsers' recorders leave it out, the time of the last block.

use std::time::Duration;

use crate::reader::array;
use crate::{NoDuration, ticks};

const SEGMENT: u32 = 0x1853_8067;
const INFO: u32 = 0x1549_a966;
const SCALE: u32 = 0x002a_d7b1;
const DURATION: u32 = 0x4489;
const CLUSTER: u32 = 0x1f43_b675;
const TIMESTAMP: u32 = 0xe7;
const SIMPLE_BLOCK: u32 = 0xa3;
const BLOCK_GROUP: u32 = 0xa0;
const BLOCK: u32 = 0xa1;
const BLOCK_DURATION: u32 = 0x9b;

/// Nanoseconds of a tick, unless the file says otherwise.
const USUAL_SCALE: u64 = 1_000_000;

/// What the blocks say, in ticks.
#[derive(Default)]
struct Blocks {
    cluster: u64,
    first: Option<u64>,
    last: u64,
    /// The time between the last two blocks, which the last one is taken to last too.
    step: u64,
    /// The end of the last block, where it says how long it lasts.
    stated: u64,
}

pub(crate) fn duration(file: &[u8]) -> Result<Duration, NoDuration> {
    let (mut scale, mut length) = (USUAL_SCALE, None);
    let mut blocks = Blocks::default();
    let mut at = 0;
    // What holds others is entered, and what does not is passed over by its size; so sizes that are not known do not matter.
    while at < file.len() {
        let Some((id, id_length)) = number(file, at, false) else { break };
        let Some((size, size_length)) = number(file, at + id_length, true) else { break };
        let start = at + id_length + size_length;
        let end = start.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
        let body = file.get(start..end.min(file.len())).unwrap_or_default();
        match u32::try_from(id).unwrap_or(0) {
            SEGMENT | INFO | CLUSTER | BLOCK_GROUP => {
                at = start;
                continue;
            }
            SCALE => scale = unsigned(body),
            DURATION => length = float(body),
            TIMESTAMP => blocks.cluster = unsigned(body),
            SIMPLE_BLOCK | BLOCK => blocks.block(body),
            BLOCK_DURATION => blocks.stated = blocks.last.saturating_add(unsigned(body)),
            _ => {}
        }
        at = end;
    }
    if let Some(length) = length.filter(|length| *length > 0.0) {
        let seconds = length * Duration::from_nanos(scale).as_secs_f64();
        return Duration::try_from_secs_f64(seconds).map_err(|_| NoDuration::Malformed);
    }
    let nanos = u128::from(blocks.length()?) * u128::from(scale);
    ticks(u64::try_from(nanos).map_err(|_| NoDuration::Malformed)?, 1_000_000_000)
}

impl Blocks {
    /// A block begins with its track's number and its time, as a signed distance from the cluster's.
    fn block(&mut self, body: &[u8]) {
        let Some((_, length)) = number(body, 0, true) else { return };
        let Ok(distance) = array(body, length).map(i16::from_be_bytes) else { return };
        let at = self.cluster.saturating_add_signed(distance.into());
        self.first.get_or_insert(at);
        if at > self.last {
            self.step = at - self.last;
            self.last = at;
        }
    }

    fn length(&self) -> Result<u64, NoDuration> {
        let first = self.first.ok_or(NoDuration::Unstated)?;
        Ok(self.last.saturating_add(self.step).max(self.stated).saturating_sub(first))
    }
}

/// An EBML number (RFC 8794, 4) and its length; an id keeps its marker bit, a size of all ones is not known and beyond every file.
fn number(bytes: &[u8], at: usize, is_size: bool) -> Option<(u64, usize)> {
    let first = *bytes.get(at)?;
    let length = first.leading_zeros() as usize + 1;
    if length > if is_size { 8 } else { 4 } {
        return None;
    }
    let whole = bytes.get(at..at.checked_add(length)?)?;
    let value = whole.iter().fold(0, |sum: u64, &byte| sum << 8 | u64::from(byte));
    if !is_size {
        return Some((value, length));
    }
    let ones = (1_u64 << (7 * length)) - 1;
    let value = value & ones;
    Some((if value == ones { u64::MAX } else { value }, length))
}

fn unsigned(body: &[u8]) -> u64 {
    body.iter().take(8).fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

fn float(body: &[u8]) -> Option<f64> {
    match body.len() {
        4 => array(body, 0).ok().map(|bytes| f32::from_be_bytes(bytes).into()),
        8 => array(body, 0).ok().map(f64::from_be_bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A live recording: segment and cluster of unknown size, blocks of one track at these distances from 1,000 ticks.
    fn live(distances: &[u8]) -> Vec<u8> {
        let mut file = vec![0x18, 0x53, 0x80, 0x67, 0xff, 0x1f, 0x43, 0xb6, 0x75, 0xff, 0xe7, 0x82, 0x03, 0xe8];
        for distance in distances {
            file.extend_from_slice(&[0xa3, 0x85, 0x81, 0x00, *distance, 0x80, 0x00]);
        }
        file
    }

    #[test]
    fn the_last_block_is_taken_to_last_as_long_as_the_one_before() {
        assert_eq!(duration(&live(&[0, 20, 40])), Ok(Duration::from_millis(60)));
        assert_eq!(duration(&live(&[100, 120])), Ok(Duration::from_millis(40)));
        assert_eq!(duration(&live(&[])), Err(NoDuration::Unstated));
    }

    #[test]
    fn a_stated_duration_is_in_the_files_own_ticks() {
        // TimestampScale of half a millisecond, Duration of 3,000.0 as a float.
        let info = [
            0x15, 0x49, 0xa9, 0x66, 0x8e, 0x2a, 0xd7, 0xb1, 0x83, 0x07, 0xa1, 0x20, 0x44, 0x89, 0x84, 0x45, 0x3b, 0x80,
            0x00,
        ];
        let file = [&[0x18, 0x53, 0x80, 0x67, 0xff][..], &info].concat();
        assert_eq!(duration(&file), Ok(Duration::from_millis(1_500)));
    }
}
