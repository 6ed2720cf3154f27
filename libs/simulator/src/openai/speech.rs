//! `POST /v1/audio/speech`: silence that lasts as long as the words would, sent word by word.

use bytes::Bytes;
use http::header::HeaderValue;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;

use super::errors;
use super::prompt::read_json;
use crate::audio::Format;
use crate::books::Extras;
use crate::headers::EVENT_STREAM;
use crate::refusal::Refusal;
use crate::service::{Admitted, Answered, Asking, Call};
use crate::stream::{Script, Segment};
use crate::text::count_words;

/// The longest input, as at OpenAI.
const MOST_CHARACTERS: usize = 4_096;

#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    input: Option<String>,
    voice: Option<serde_json::Value>,
    response_format: Option<String>,
    stream_format: Option<String>,
}

pub(crate) async fn answer(call: &Call, body: Incoming) -> Answered {
    let body = call.read(body).await?;
    let body: Body = read_json(&body)?;
    let model = body.model.filter(|model| !model.is_empty()).ok_or_else(|| errors::missing("model"))?;
    let input = body.input.filter(|input| !input.is_empty()).ok_or_else(|| errors::missing("input"))?;
    body.voice.ok_or_else(|| errors::missing("voice"))?;
    let characters = input.chars().count();
    if characters > MOST_CHARACTERS {
        let message = format!(
            "[{{'type': 'string_too_long', 'loc': ('body', 'input'), 'msg': 'String should have at most {MOST_CHARACTERS} characters'}}]"
        );
        return Err(Refusal::invalid(message).param("input").into());
    }
    let format = match body.response_format.as_deref() {
        None | Some("mp3") => Format::Mp3,
        Some("wav") => Format::Wav,
        Some("pcm") => Format::Pcm,
        Some(other) => {
            let message = format!("'{other}' is not simulated: 'mp3', 'wav' and 'pcm' are.");
            return Err(Refusal::invalid(message).param("response_format").into());
        }
    };
    if !call.state.model_exists(&model) {
        return Err(errors::unknown_model(&model).into());
    }
    let words = count_words(&input).max(1);
    let asking = Asking { streamed: true, ..Asking::of("audio.speech", &model) };
    let charge = |admitted: &Admitted| {
        admitted.entry.charge(0, 0);
        let extras = Extras { characters: characters as u64, ..Extras::default() };
        admitted.entry.charge_extras(extras);
    };
    let admitted = call.admit(asking).await.map_err(|ending| ending.charging(charge))?;
    charge(&admitted);
    if body.stream_format.as_deref() == Some("sse") {
        return Ok(call.stream(admitted, EVENT_STREAM, events(format, words)));
    }
    let kind = HeaderValue::from_static(format.content_type());
    Ok(call.stream(admitted, kind, sound(format, words)))
}

/// The bare file.
pub(crate) fn sound(format: Format, words: u64) -> Script {
    let word = Bytes::from(format.word());
    let mut segments = Vec::new();
    let head = format.head(words);
    if !head.is_empty() {
        segments.push(Segment::Event(Bytes::from(head)));
    }
    segments.push(Segment::Made { count: words, tokens: 0, make: Box::new(move |_| word.clone()) });
    // A sound has no room for an error: a failure can only cut it off.
    Script { segments, failure: Bytes::new(), garbage: Bytes::from_static(b"<html>") }
}

fn events(format: Format, words: u64) -> Script {
    use base64::Engine;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let delta =
        |audio: String| Bytes::from(format!("data: {}\n\n", json!({"type": "speech.audio.delta", "audio": audio})));
    let word = delta(encode(&format.word()));
    let mut segments = Vec::new();
    let head = format.head(words);
    if !head.is_empty() {
        segments.push(Segment::Event(delta(encode(&head))));
    }
    segments.push(Segment::Made { count: words, tokens: 0, make: Box::new(move |_| word.clone()) });
    let usage = json!({"input_tokens": words, "output_tokens": words * 4, "total_tokens": words * 5});
    let done = json!({"type": "speech.audio.done", "usage": usage});
    segments.push(Segment::Event(Bytes::from(format!("data: {done}\n\n"))));
    Script { segments, failure: Bytes::new(), garbage: Bytes::from_static(b"data: {\"type\":\n\n") }
}
