//! MPEG audio (ISO 11172-3, 13818-3): frames are walked, so that a variable bit rate makes no difference.

use std::time::Duration;

use crate::reader::{be32, size};
use crate::{NoDuration, ticks};

/// Kilobits a second by layer (of MPEG-1; then I, and II with III, of MPEG-2 and 2.5) and index.
const RATES: [[u32; 16]; 5] = [
    [0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448, 0],
    [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 0],
    [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0],
    [0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256, 0],
    [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0],
];
/// How far a lost frame is searched for.
const SEARCH: usize = 64 << 10;

struct Frame {
    length: usize,
    samples: u32,
    rate: u32,
    /// Where an encoder's own frame has its mark.
    mark: usize,
}

impl Frame {
    fn at(file: &[u8], at: usize) -> Option<Self> {
        let head = be32(file, at).ok()?;
        if head >> 21 != 0x7ff {
            return None;
        }
        let (version, layer) = (head >> 19 & 3, 4 - (head >> 17 & 3));
        let (bits, rate) = (size(head >> 12 & 15), size(head >> 10 & 3));
        if version == 1 || layer == 4 || rate == 3 {
            return None;
        }
        let first = version == 3;
        let table = match (first, layer) {
            (true, layer) => size(layer) - 1,
            (false, 1) => 3,
            (false, _) => 4,
        };
        let kilobits = RATES[table][bits];
        let rate = [44_100, 48_000, 32_000][rate] >> [2, 0, 1, 0][size(version)];
        let padding = head >> 9 & 1;
        let samples = match (layer, first) {
            (1, _) => 384,
            (3, false) => 576,
            _ => 1_152,
        };
        let length = if layer == 1 {
            (12_000 * kilobits / rate + padding) * 4
        } else {
            samples / 8 * 1_000 * kilobits / rate + padding
        };
        let mono = head >> 6 & 3 == 3;
        let mark = 4 + match (first, mono) {
            (true, false) => 32,
            (true, true) | (false, false) => 17,
            (false, true) => 9,
        };
        (kilobits > 0).then(|| Self { length: size(length), samples, rate, mark })
    }

    /// The frame that an encoder puts first to describe the others; it is not played.
    fn describes(&self, file: &[u8], at: usize) -> bool {
        let has = |offset: usize, mark: &[u8]| file.get(at + offset..).is_some_and(|rest| rest.starts_with(mark));
        has(self.mark, b"Xing") || has(self.mark, b"Info") || has(36, b"VBRI")
    }
}

/// The bytes of an ID3v2 tag at the start, if there is one (id3.org, 3.1).
pub(crate) fn id3_length(file: &[u8]) -> usize {
    let [b'I', b'D', b'3', _, _, flags, a, b, c, d, ..] = file else { return 0 };
    let length = [a, b, c, d].iter().fold(0, |sum, &&byte| sum << 7 | usize::from(byte & 0x7f));
    let footer = if flags & 0x10 > 0 { 10 } else { 0 };
    10 + length + footer
}

/// Two frames in a row: one alone may be chance.
pub(crate) fn begins(body: &[u8]) -> bool {
    next(body, 0).is_some()
}

/// The first frame from here that another follows or that ends the file.
fn next(file: &[u8], from: usize) -> Option<(usize, Frame)> {
    (from..file.len().min(from.saturating_add(SEARCH))).find_map(|at| {
        let frame = Frame::at(file, at)?;
        let end = at + frame.length;
        let followed = end >= file.len() || Frame::at(file, end).is_some() || file[end..].starts_with(b"TAG");
        followed.then_some((at, frame))
    })
}

pub(crate) fn duration(file: &[u8]) -> Result<Duration, NoDuration> {
    let (mut at, first) = next(file, id3_length(file)).ok_or(NoDuration::Malformed)?;
    if first.describes(file, at) {
        at += first.length;
    }
    // Rates do not change within a file, but nothing forbids it.
    let mut nanos = 0u128;
    while at < file.len() {
        let frame = match Frame::at(file, at) {
            Some(frame) => frame,
            None if file[at..].starts_with(b"TAG") || file[at..].starts_with(b"APETAGEX") => break,
            None => match next(file, at) {
                Some((found, frame)) => {
                    at = found;
                    frame
                }
                None => break,
            },
        };
        // What is cut off in the middle is not played.
        at += frame.length;
        if at > file.len() {
            break;
        }
        nanos += u128::from(frame.samples) * 1_000_000_000 / u128::from(frame.rate);
    }
    ticks(u64::try_from(nanos).map_err(|_| NoDuration::Malformed)?, 1_000_000_000)
}
