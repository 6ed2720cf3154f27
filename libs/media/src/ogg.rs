//! Ogg (RFC 3533): the granule position of a stream's last page counts its samples.

use std::time::Duration;

use crate::reader::{array, be32, le16, le32, le64, size};
use crate::{NoDuration, ticks};

/// A logical stream.
struct Stream {
    serial: u32,
    /// Granules a second.
    rate: u64,
    /// Granules that are not played.
    skip: u64,
    last: u64,
}

pub(crate) fn duration(file: &[u8]) -> Result<Duration, NoDuration> {
    let mut at = 0;
    let mut total = Duration::ZERO;
    let mut stream: Option<Stream> = None;
    // Files may be chained: a new stream begins where one ended. What is no audio beside it is passed over.
    while let Some(page) = file.get(at..).filter(|rest| rest.starts_with(b"OggS")) {
        let Ok(segments) = array::<1>(page, 26).map(|[count]| usize::from(count)) else { break };
        let Some(table) = page.get(27..27 + segments) else { break };
        let data = table.iter().map(|&length| usize::from(length)).sum::<usize>();
        let body = 27 + segments;
        let (kind, granule, serial) = (page[5], le64(page, 6)?, le32(page, 14)?);
        if kind & 2 > 0 {
            if let Some(next) = page.get(body..).and_then(|packet| opened(packet, serial))
                && let Some(ended) = stream.replace(next)
            {
                total += ended.duration()?;
            }
        } else if let Some(stream) = stream.as_mut().filter(|stream| stream.serial == serial)
            && granule != u64::MAX
        {
            stream.last = stream.last.max(granule);
        }
        at += body + data;
    }
    Ok(total + stream.ok_or(NoDuration::Unknown)?.duration()?)
}

/// What the first packet of a stream says of it.
fn opened(packet: &[u8], serial: u32) -> Option<Stream> {
    let (rate, skip) = if packet.starts_with(b"OpusHead") {
        // RFC 7845: always 48 kHz, whatever the input had.
        (48_000, u64::from(le16(packet, 10).ok()?))
    } else if packet.starts_with(b"\x01vorbis") {
        (u64::from(le32(packet, 12).ok()?), 0)
    } else if packet.starts_with(b"\x7fFLAC") {
        (u64::from(be32(packet, size(27_u32)).ok()? >> 12), 0)
    } else if packet.starts_with(b"Speex   ") {
        (u64::from(le32(packet, 36).ok()?), 0)
    } else {
        return None;
    };
    Some(Stream { serial, rate, skip, last: 0 })
}

impl Stream {
    fn duration(&self) -> Result<Duration, NoDuration> {
        ticks(self.last.saturating_sub(self.skip), self.rate)
    }
}
