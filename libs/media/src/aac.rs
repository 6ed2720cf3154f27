//! AAC in ADTS frames (ISO 13818-7, 6.2).

use std::time::Duration;

use crate::mp3::id3_length;
use crate::reader::size;
use crate::{NoDuration, ticks};

const RATES: [u64; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
/// Of one block.
const SAMPLES: u64 = 1_024;

struct Frame {
    length: usize,
    blocks: u64,
    rate: u64,
}

impl Frame {
    fn at(file: &[u8], at: usize) -> Option<Self> {
        let head = file.get(at..at.checked_add(7)?)?;
        // The layer is always zero here, which no other MPEG audio has.
        if head[0] != 0xff || head[1] & 0xf6 != 0xf0 {
            return None;
        }
        let rate = *RATES.get(usize::from(head[2] >> 2 & 15))?;
        let length = u32::from(head[3] & 3) << 11 | u32::from(head[4]) << 3 | u32::from(head[5]) >> 5;
        (length >= 7).then(|| Self { length: size(length), blocks: u64::from(head[6] & 3) + 1, rate })
    }
}

/// Two frames in a row: one alone may be chance.
pub(crate) fn begins(body: &[u8]) -> bool {
    Frame::at(body, 0).is_some_and(|frame| frame.length == body.len() || Frame::at(body, frame.length).is_some())
}

pub(crate) fn duration(file: &[u8]) -> Result<Duration, NoDuration> {
    let mut at = id3_length(file);
    let rate = Frame::at(file, at).ok_or(NoDuration::Malformed)?.rate;
    let mut samples = 0;
    while let Some(frame) = Frame::at(file, at) {
        at += frame.length;
        if at > file.len() {
            break;
        }
        samples += frame.blocks * SAMPLES;
    }
    ticks(samples, rate)
}
