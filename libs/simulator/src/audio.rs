//! Audio: how long a file says it lasts, and files of silence.

use std::time::Duration;

/// How long a word takes to say.
pub(crate) const WORD: Duration = Duration::from_millis(400);
/// Samples a second of what is spoken here.
const RATE: u32 = 24_000;

/// The duration of an audio file as its own headers have it; nothing if it is not one that is known.
pub(crate) fn duration(file: &[u8]) -> Option<Duration> {
    weir_media::audio_duration(file).ok()
}

/// What speech is delivered as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// MPEG-1 layer III, 128 kbit/s, 44.1 kHz, mono.
    Mp3,
    /// 16 bits, 24 kHz, mono.
    Wav,
    /// As [`Format::Wav`], without a header.
    Pcm,
}

impl Format {
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Mp3 => "audio/mpeg",
            Self::Wav => "audio/wav",
            Self::Pcm => "audio/pcm",
        }
    }

    /// What stands before the sound.
    pub(crate) fn head(self, words: u64) -> Vec<u8> {
        if self != Self::Wav {
            return Vec::new();
        }
        let data = u32::try_from(self.of_words(words).saturating_mul(words)).unwrap_or(u32::MAX - 36);
        let mut head = Vec::with_capacity(44);
        head.extend_from_slice(b"RIFF");
        head.extend_from_slice(&data.saturating_add(36).to_le_bytes());
        head.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
        head.extend_from_slice(&RATE.to_le_bytes());
        head.extend_from_slice(&(RATE * 2).to_le_bytes());
        head.extend_from_slice(b"\x02\0\x10\0data");
        head.extend_from_slice(&data.to_le_bytes());
        head
    }

    fn of_words(self, words: u64) -> u64 {
        let samples = u64::from(RATE) * 2 * u64::try_from(WORD.as_millis()).unwrap_or(0) / 1_000;
        if words == 0 { 0 } else { samples }
    }

    /// The silence of one word.
    pub(crate) fn word(self) -> Vec<u8> {
        match self {
            Self::Mp3 => silent_frames(),
            Self::Wav | Self::Pcm => vec![0; usize::try_from(self.of_words(1)).unwrap_or(0)],
        }
    }
}

/// Frames of 1,152 samples (26 ms): a header, and side information and data of zeros, which decodes to silence. Fifteen of them
/// last 392 ms.
fn silent_frames() -> Vec<u8> {
    /// 144 * 128,000 / 44,100, rounded down: no padding.
    const FRAME: usize = 417;
    let mut frames = vec![0; 15 * FRAME];
    for frame in frames.chunks_exact_mut(FRAME) {
        frame[..4].copy_from_slice(&[0xff, 0xfb, 0x90, 0xc4]);
    }
    frames
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;

    fn spoken(format: Format, words: u64) -> Vec<u8> {
        let mut file = format.head(words);
        (0..words).for_each(|_| file.extend(format.word()));
        file
    }

    #[test]
    fn what_is_spoken_lasts_as_long_as_its_words() {
        assert_eq!(duration(&spoken(Format::Wav, 10)), Some(Duration::from_secs(4)));
        let mp3 = duration(&spoken(Format::Mp3, 10)).unwrap();
        assert!(mp3 > Duration::from_millis(3_850) && mp3 < Duration::from_millis(4_050), "{mp3:?}");
    }

    #[test]
    fn a_file_that_is_no_audio_has_no_duration() {
        for file in [&b""[..], b"hello", b"\x1a\x45\xdf\xa3", &[0; 5_000]] {
            assert_eq!(duration(file), None);
        }
    }
}
