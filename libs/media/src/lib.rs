//! How long audio plays, read from the file itself: what providers charge transcriptions by.
//!
//! Nothing is decoded, allocated or trusted: lengths are checked against the bytes that are there. Where a container counts its
//! samples (wav, flac, ogg, mp4), they are taken from there; where it does not (mp3, aac, most webm of browsers), the frames or
//! blocks are walked, so that a variable bit rate makes no difference. Own parsers, because those at hand estimate the length of
//! mp3 from the bit rate, do not read webm, or come under a licence that the house does not take.

mod aac;
mod flac;
mod mp3;
mod mp4;
mod ogg;
mod reader;
mod wav;
mod webm;

use std::time::Duration;

/// Why a file has no duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoDuration {
    /// None of wav, mp3, aac, flac, ogg, mp4 (m4a) and webm.
    #[error("the file is not audio in a known format")]
    Unknown,
    /// The file breaks its format's rules, or is cut off before anything can be said.
    #[error("the file's headers cannot be read")]
    Malformed,
    /// The file is well-formed but holds no sound, or does not say how much.
    #[error("the file does not say how long it plays")]
    Unstated,
}

/// A container that is told apart by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RIFF and RF64 wave files.
    Wav,
    /// MPEG audio layer III (and I and II), with or without ID3 tags.
    Mp3,
    /// AAC in ADTS frames.
    Aac,
    /// FLAC in its own container.
    Flac,
    /// Ogg with Opus, Vorbis, FLAC or Speex.
    Ogg,
    /// ISO base media: mp4, m4a, mov, fragmented or not.
    Mp4,
    /// WebM and Matroska.
    WebM,
}

/// What a file is, by its first bytes.
#[must_use]
pub fn format(file: &[u8]) -> Option<Format> {
    let body = &file[mp3::id3_length(file).min(file.len())..];
    match body {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..]
        | [b'R', b'F', b'6', b'4', _, _, _, _, b'W', b'A', b'V', b'E', ..] => Some(Format::Wav),
        [b'f', b'L', b'a', b'C', ..] => Some(Format::Flac),
        [b'O', b'g', b'g', b'S', ..] => Some(Format::Ogg),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] | [_, _, _, _, b's', b't', b'y', b'p', ..] => Some(Format::Mp4),
        [0x1a, 0x45, 0xdf, 0xa3, ..] => Some(Format::WebM),
        _ if aac::begins(body) => Some(Format::Aac),
        _ if mp3::begins(body) => Some(Format::Mp3),
        _ => None,
    }
}

/// How long an audio file plays.
///
/// # Errors
/// The format is not known, its headers cannot be read, or they do not say it.
pub fn audio_duration(file: &[u8]) -> Result<Duration, NoDuration> {
    let duration = match format(file).ok_or(NoDuration::Unknown)? {
        Format::Wav => wav::duration(file),
        Format::Mp3 => mp3::duration(file),
        Format::Aac => aac::duration(file),
        Format::Flac => flac::duration(file),
        Format::Ogg => ogg::duration(file),
        Format::Mp4 => mp4::duration(file),
        Format::WebM => webm::duration(file),
    }?;
    if duration.is_zero() { Err(NoDuration::Unstated) } else { Ok(duration) }
}

/// So many ticks of so many a second.
fn ticks(count: u64, per_second: u64) -> Result<Duration, NoDuration> {
    if per_second == 0 {
        return Err(NoDuration::Malformed);
    }
    let nanos = u128::from(count % per_second) * 1_000_000_000 / u128::from(per_second);
    Ok(Duration::new(count / per_second, u32::try_from(nanos).unwrap_or(0)))
}
