//! Files of 1.7 s of a tone, each as a common encoder writes it.

#![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

use std::time::Duration;

use proptest::prelude::*;
use weir_media::{Format, NoDuration, audio_duration, format};

/// Name, format, milliseconds, and how much more than the tone's 1,700 the codec pads it by.
const FILES: [(&str, Format, &[u8]); 16] = [
    ("pcm.wav", Format::Wav, include_bytes!("../audio/pcm.wav")),
    ("adpcm.wav", Format::Wav, include_bytes!("../audio/adpcm.wav")),
    ("streamed.wav", Format::Wav, include_bytes!("../audio/streamed.wav")),
    ("cbr.mp3", Format::Mp3, include_bytes!("../audio/cbr.mp3")),
    ("vbr.mp3", Format::Mp3, include_bytes!("../audio/vbr.mp3")),
    ("bare.mp3", Format::Mp3, include_bytes!("../audio/bare.mp3")),
    ("adts.aac", Format::Aac, include_bytes!("../audio/adts.aac")),
    ("plain.flac", Format::Flac, include_bytes!("../audio/plain.flac")),
    ("streamed.flac", Format::Flac, include_bytes!("../audio/streamed.flac")),
    ("opus.ogg", Format::Ogg, include_bytes!("../audio/opus.ogg")),
    ("vorbis.ogg", Format::Ogg, include_bytes!("../audio/vorbis.ogg")),
    ("flac.ogg", Format::Ogg, include_bytes!("../audio/flac.ogg")),
    ("plain.m4a", Format::Mp4, include_bytes!("../audio/plain.m4a")),
    ("fragmented.mp4", Format::Mp4, include_bytes!("../audio/fragmented.mp4")),
    ("stated.webm", Format::WebM, include_bytes!("../audio/stated.webm")),
    ("streamed.webm", Format::WebM, include_bytes!("../audio/streamed.webm")),
];

fn millis(file: &[u8]) -> u128 {
    audio_duration(file).unwrap().as_millis()
}

#[test]
fn every_container_says_how_long_the_tone_lasts() {
    for (name, kind, file) in FILES {
        assert_eq!(format(file), Some(kind), "{name}");
        // Codecs pad the ends by up to two frames; what is not coded in frames is exact.
        let padding = if matches!(kind, Format::Wav | Format::Flac) { 0 } else { 130 };
        let millis = millis(file);
        assert!((1_700..=1_700 + padding).contains(&millis), "{name}: {millis} ms");
    }
}

#[test]
fn tags_before_and_after_the_sound_are_not_sound() {
    let (_, _, file) = FILES[5];
    let mut tagged = b"ID3\x04\0\0\0\0\x01\x02".to_vec();
    // Sync words inside the tag must not count as frames.
    tagged.extend(std::iter::repeat_n(0xff, 130));
    tagged.extend_from_slice(file);
    tagged.extend_from_slice(b"TAG");
    tagged.extend(std::iter::repeat_n(b' ', 125));
    assert_eq!(millis(&tagged), millis(file));
}

#[test]
fn a_variable_rate_makes_no_difference() {
    let [(_, _, constant), (_, _, variable), ..] = FILES[3..] else { unreachable!() };
    assert!(constant.len() > 2 * variable.len());
    assert!(millis(constant).abs_diff(millis(variable)) < 60);
}

#[test]
fn a_recording_that_states_no_duration_lasts_as_long_as_one_that_does() {
    let [stated, streamed] = [FILES[14].2, FILES[15].2].map(millis);
    // To the end of the last block, less the codec's delay before the first.
    assert!(stated.abs_diff(streamed) <= 15, "{stated} {streamed}");
}

#[test]
fn a_file_cut_off_in_the_middle_lasts_as_long_as_what_is_there() {
    for index in [0, 3, 6, 9, 15] {
        let (name, _, file) = FILES[index];
        let half = audio_duration(&file[..file.len() / 2 + 200]).unwrap_or_default();
        assert!(half > Duration::from_millis(500) && half < Duration::from_millis(1_500), "{name}: {half:?}");
    }
}

#[test]
fn chained_streams_play_one_after_the_other() {
    let chained = [FILES[9].2, FILES[10].2].concat();
    assert_eq!(
        audio_duration(&chained),
        Ok(audio_duration(FILES[9].2).unwrap() + audio_duration(FILES[10].2).unwrap())
    );
}

#[test]
fn what_is_no_audio_is_told_apart_from_what_is_broken() {
    for nothing in [&b""[..], b"ID3", b"<html></html>", &[0; 4_096], b"\x89PNG\r\n\x1a\n", b"{\"file\":1}"] {
        assert_eq!(audio_duration(nothing), Err(NoDuration::Unknown), "{nothing:?}");
    }
    assert_eq!(audio_duration(b"RIFF\0\0\0\0WAVEfmt "), Err(NoDuration::Malformed));
    assert_eq!(audio_duration(b"RIFF\0\0\0\0WAVE"), Err(NoDuration::Unstated));
    assert_eq!(audio_duration(b"fLaC"), Err(NoDuration::Malformed));
    assert_eq!(audio_duration(b"\x1a\x45\xdf\xa3\x80"), Err(NoDuration::Unstated));
}

proptest! {
    #[test]
    fn no_file_makes_the_reader_panic(
        index in 0..FILES.len(),
        cut in 0.0..1.0_f64,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
    ) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a length")]
        let mut file = FILES[index].2[..(FILES[index].2.len() as f64 * cut) as usize].to_vec();
        // Mostly in the headers, where it matters.
        for (place, byte) in flips {
            if !file.is_empty() {
                let most = file.len().min(600);
                file[place.index(most)] = byte;
            }
        }
        let _ = audio_duration(&file);
    }
}
