//! RIFF wave files, and RF64 for those beyond 4 GiB (EBU Tech 3306).

use std::time::Duration;

use crate::reader::{le16, le32, le64, size};
use crate::{NoDuration, ticks};

/// Formats whose samples all have the same size: PCM, float, A-law, µ-law, and the extensible form of these.
const EVEN: [u16; 5] = [1, 3, 6, 7, 0xfffe];

struct Sound {
    tag: u16,
    rate: u32,
    bytes_per_second: u32,
    block: u16,
}

pub(crate) fn duration(file: &[u8]) -> Result<Duration, NoDuration> {
    let mut at = 12_usize;
    let (mut sound, mut samples, mut long) = (None, None, None);
    loop {
        let Some(id) = file.get(at..at.saturating_add(4)) else { return Err(NoDuration::Unstated) };
        let length = le32(file, at + 4)?;
        let start = at + 8;
        match id {
            b"fmt " => {
                sound = Some(Sound {
                    tag: le16(file, start)?,
                    rate: le32(file, start + 4)?,
                    bytes_per_second: le32(file, start + 8)?,
                    block: le16(file, start + 12)?,
                });
            }
            b"fact" => samples = Some(le32(file, start)?),
            b"ds64" => long = Some(le64(file, start + 8)?),
            b"data" => {
                let sound = sound.ok_or(NoDuration::Malformed)?;
                // A length of zero or all ones is that of a stream whose end was not known when it began.
                let there = file.len() - start.min(file.len());
                let stated = match (length, long) {
                    (u32::MAX, Some(long)) => size(long),
                    (0 | u32::MAX, _) => there,
                    (length, _) => size(length),
                };
                return sound.duration(stated.min(there), samples);
            }
            _ => {}
        }
        // Chunks begin at even places.
        at = start.saturating_add(size(length)).saturating_add(size(length & 1));
    }
}

impl Sound {
    fn duration(&self, bytes: usize, samples: Option<u32>) -> Result<Duration, NoDuration> {
        let bytes = bytes as u64;
        match (EVEN.contains(&self.tag), samples) {
            (true, _) => {
                ticks(bytes.checked_div(u64::from(self.block)).ok_or(NoDuration::Malformed)?, self.rate.into())
            }
            (false, Some(samples)) => ticks(samples.into(), self.rate.into()),
            (false, None) => ticks(bytes, self.bytes_per_second.into()),
        }
    }
}
