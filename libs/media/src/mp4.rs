//! ISO base media (ISO 14496-12): the sound track's header, or, where the file is fragmented, its runs of samples.

use std::time::Duration;

use crate::reader::{be32, be64, size};
use crate::{NoDuration, ticks};

/// Boxes inside boxes that are looked into; real files have no more.
const DEEPEST: usize = 8;

/// What is learned of one track.
#[derive(Clone, Copy, Default)]
struct Track {
    id: u32,
    sound: bool,
    scale: u64,
    length: u64,
    /// Of samples that say nothing else.
    sample: u64,
    /// The sum of the fragments.
    fragments: u64,
}

/// The tracks of a file: more are not looked at.
const TRACKS: usize = 16;

#[derive(Default)]
struct Movie {
    tracks: [Track; TRACKS],
    count: usize,
    scale: u64,
    length: u64,
    /// The track of the fragment at hand, and the length of its samples.
    current: Option<(usize, u64)>,
}

pub(crate) fn duration(file: &[u8]) -> Result<Duration, NoDuration> {
    let mut movie = Movie::default();
    walk(file, 0, &mut movie)?;
    let tracks = &movie.tracks[..movie.count];
    let track = tracks.iter().find(|track| track.sound).or(tracks.first()).ok_or(NoDuration::Malformed)?;
    let length = track.length.max(track.fragments);
    if length > 0 { ticks(length, track.scale) } else { ticks(movie.length, movie.scale.max(1)) }
}

fn walk(bytes: &[u8], depth: usize, movie: &mut Movie) -> Result<(), NoDuration> {
    let mut rest = bytes;
    while rest.len() >= 8 {
        let kind = &rest[4..8];
        let (head, length) = match be32(rest, 0)? {
            0 => (8, rest.len()),
            1 => (16, size(be64(rest, 8)?)),
            length => (8, size(length)),
        };
        if length < head {
            return Err(NoDuration::Malformed);
        }
        // The last box may be cut off; its beginning still counts.
        let end = length.min(rest.len());
        let body = rest.get(head..end).unwrap_or_default();
        match kind {
            b"trak" => {
                if movie.count == TRACKS {
                    return Ok(());
                }
                movie.count += 1;
                walk_inside(body, depth, movie)?;
            }
            b"traf" => {
                movie.current = None;
                walk_inside(body, depth, movie)?;
            }
            b"moov" | b"mdia" | b"mvex" | b"moof" => walk_inside(body, depth, movie)?,
            _ => movie.read(kind, body)?,
        }
        rest = &rest[end..];
    }
    Ok(())
}

fn walk_inside(body: &[u8], depth: usize, movie: &mut Movie) -> Result<(), NoDuration> {
    if depth < DEEPEST { walk(body, depth + 1, movie) } else { Err(NoDuration::Malformed) }
}

/// Scale and length of `mvhd` and `mdhd`, which begin alike.
fn header(body: &[u8]) -> Result<(u64, u64), NoDuration> {
    let (scale, length) = if body.first() == Some(&1) {
        (be32(body, 20)?, be64(body, 24)?)
    } else {
        (be32(body, 12)?, be32(body, 16).map(|length| if length == u32::MAX { 0 } else { length.into() })?)
    };
    Ok((scale.into(), if length == u64::MAX { 0 } else { length }))
}

impl Movie {
    fn read(&mut self, kind: &[u8], body: &[u8]) -> Result<(), NoDuration> {
        let track = self.count.checked_sub(1);
        match (kind, track) {
            (b"mvhd", _) => (self.scale, self.length) = header(body)?,
            (b"tkhd", Some(track)) => {
                self.tracks[track].id = be32(body, if body.first() == Some(&1) { 20 } else { 12 })?;
            }
            (b"mdhd", Some(track)) => {
                (self.tracks[track].scale, self.tracks[track].length) = header(body)?;
            }
            (b"hdlr", Some(track)) => self.tracks[track].sound |= body.get(8..12) == Some(b"soun"),
            (b"trex", _) => {
                let (id, sample) = (be32(body, 4)?, be32(body, 12)?);
                if let Some(track) = self.find(id) {
                    self.tracks[track].sample = sample.into();
                }
            }
            (b"tfhd", _) => {
                let flags = be32(body, 0)?;
                if let Some(track) = self.find(be32(body, 4)?) {
                    let before = if flags & 1 > 0 { 8 } else { 0 } + if flags & 2 > 0 { 4 } else { 0 };
                    let own = if flags & 8 > 0 { be32(body, 8 + before)?.into() } else { self.tracks[track].sample };
                    self.current = Some((track, own));
                }
            }
            (b"trun", _) => self.run(body)?,
            _ => {}
        }
        Ok(())
    }

    fn find(&self, id: u32) -> Option<usize> {
        self.tracks[..self.count].iter().position(|track| track.id == id)
    }

    /// A run of samples, each with a length of its own or the fragment's.
    fn run(&mut self, body: &[u8]) -> Result<(), NoDuration> {
        let Some((track, sample)) = self.current else { return Ok(()) };
        let (flags, count) = (be32(body, 0)?, u64::from(be32(body, 4)?));
        let sum = if flags & 0x100 == 0 {
            count.checked_mul(sample).ok_or(NoDuration::Malformed)?
        } else {
            let offset = 8 + if flags & 1 > 0 { 4 } else { 0 } + if flags & 4 > 0 { 4 } else { 0 };
            let fields = (flags >> 8 & 15).count_ones() as usize;
            let entries = body.get(offset..).unwrap_or_default().chunks_exact(fields * 4);
            entries.take(size(count)).map(|entry| be32(entry, 0).map(u64::from)).sum::<Result<u64, _>>()?
        };
        let fragments = &mut self.tracks[track].fragments;
        *fragments = fragments.saturating_add(sum);
        Ok(())
    }
}
