//! FLAC (RFC 9639): the first block says it all, unless the file was written as a stream; then the last frame says where it stands.

use std::time::Duration;

use crate::mp3::id3_length;
use crate::reader::{be16, be64};
use crate::{NoDuration, ticks};

/// How far from the end the last frame is searched for: the largest frame that encoders write, and some more.
const SEARCH: usize = 1 << 20;

pub(crate) fn duration(file: &[u8]) -> Result<Duration, NoDuration> {
    let start = id3_length(file) + 4;
    // STREAMINFO comes first: 20 bits of rate, 3 of channels, 5 of depth and 36 of samples from its tenth byte on.
    let block = file.get(start..).ok_or(NoDuration::Malformed)?;
    if block.first().is_none_or(|kind| kind & 0x7f != 0) {
        return Err(NoDuration::Malformed);
    }
    let packed = be64(block, 4 + 10)?;
    let (rate, samples) = (packed >> 44, packed & 0xf_ffff_ffff);
    let samples = if samples > 0 { samples } else { last_sample(block, be16(block, 4)?)? };
    ticks(samples, rate)
}

/// The end of the last frame, in samples.
fn last_sample(body: &[u8], block_size: u16) -> Result<u64, NoDuration> {
    let first = body.len().saturating_sub(SEARCH);
    (first..body.len()).rev().find_map(|at| frame_end(&body[at..], block_size)).ok_or(NoDuration::Unstated)
}

/// Where a frame ends, if one begins here: its header is guarded by a checksum (9.1).
fn frame_end(bytes: &[u8], block_size: u16) -> Option<u64> {
    let [0xff, second @ (0xf8 | 0xf9), sizes, _, rest @ ..] = bytes else { return None };
    let (number, used) = coded_number(rest)?;
    let mut at = 4 + used;
    let samples = match sizes >> 4 {
        1 => 192,
        code @ 2..=5 => 144 << code,
        6 => {
            at += 1;
            u64::from(*bytes.get(at - 1)?) + 1
        }
        7 => {
            at += 2;
            u64::from(be16(bytes, at - 2).ok()?) + 1
        }
        code @ 8..=15 => 1 << code,
        _ => return None,
    };
    at += match sizes & 15 {
        12 => 1,
        13 | 14 => 2,
        15 => return None,
        _ => 0,
    };
    if crc8(bytes.get(..at)?) != *bytes.get(at)? {
        return None;
    }
    let start = if second & 1 == 1 { number } else { number.checked_mul(block_size.into())? };
    start.checked_add(samples)
}

/// A number coded as UTF-8 codes characters, up to 36 bits.
fn coded_number(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = first.leading_ones();
    if length == 0 {
        return Some((first.into(), 1));
    }
    if length == 1 || length > 7 {
        return None;
    }
    let mut number = u64::from(first) & (0x7f >> length);
    for byte in bytes.get(1..length as usize)? {
        if byte >> 6 != 2 {
            return None;
        }
        number = number << 6 | u64::from(byte & 0x3f);
    }
    Some((number, length as usize))
}

/// x^8 + x^2 + x + 1, from zero.
fn crc8(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0, |crc, byte| (0..8).fold(crc ^ byte, |crc: u8, _| if crc & 0x80 > 0 { crc << 1 ^ 7 } else { crc << 1 }))
}
