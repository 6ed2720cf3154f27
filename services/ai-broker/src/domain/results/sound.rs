//! Sounds, which are stored as they are.

use super::Kind;

const MP3: Kind = Kind { content_type: "audio/mpeg", extension: "mp3" };
const WAV: Kind = Kind { content_type: "audio/wav", extension: "wav" };
const OGG: Kind = Kind { content_type: "audio/ogg", extension: "ogg" };
const FLAC: Kind = Kind { content_type: "audio/flac", extension: "flac" };
const AAC: Kind = Kind { content_type: "audio/aac", extension: "aac" };
const PCM: Kind = Kind { content_type: "audio/pcm", extension: "pcm" };

/// The kind of a sound, by how it begins, else by what its maker said; none for anything else. Nothing else that is stored is taken
/// for a sound because somebody says so: a picture and a text have beginnings of their own.
pub(crate) fn sound(content_type: &str, bytes: &[u8]) -> Option<Kind> {
    let begins = |what: &[u8]| bytes.starts_with(what);
    match () {
        () if begins(b"ID3") || begins(&[0xff, 0xfb]) || begins(&[0xff, 0xf3]) => return Some(MP3),
        () if begins(b"RIFF") && bytes.get(8..12) == Some(b"WAVE") => return Some(WAV),
        () if begins(b"OggS") => return Some(OGG),
        () if begins(b"fLaC") => return Some(FLAC),
        () => {}
    }
    let said = content_type.split(';').next().unwrap_or_default().trim();
    let kinds = [("audio/mp3", MP3), ("audio/x-wav", WAV), ("audio/wave", WAV), ("audio/opus", OGG)];
    let own = [MP3, WAV, OGG, FLAC, AAC, PCM].map(|kind| (kind.content_type, kind));
    kinds.into_iter().chain(own).find(|(name, _)| *name == said).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sound_is_known_by_its_beginning_or_by_its_makers_word() {
        assert_eq!(sound("application/octet-stream", b"ID3\x04"), Some(MP3));
        assert_eq!(sound("image/png", b"RIFF\0\0\0\0WAVEfmt "), Some(WAV));
        assert_eq!(sound("audio/pcm;rate=24000", &[0, 1]), Some(PCM));
        for (content_type, bytes) in [("image/png", &b"\x89PNG"[..]), ("text/html", b"<html>"), ("", b"RIFF")] {
            assert_eq!(sound(content_type, bytes), None, "{content_type}");
        }
    }
}
