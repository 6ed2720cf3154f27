//! `POST /v1/text-to-speech/{voice_id}` and `…/stream`: silence that lasts as long as the words would.

use http::header::HeaderValue;
use hyper::body::Incoming;
use serde::Deserialize;

use super::errors;
use crate::audio::Format;
use crate::books::Extras;
use crate::openai::speech::sound;
use crate::refusal::Refusal;
use crate::service::{Admitted, Answered, Asking, Call, Ending};
use crate::text::count_words;

/// A model, the longest text that it takes, and whether a character costs half a credit.
pub(crate) struct Model {
    pub(crate) id: &'static str,
    characters: usize,
    pub(crate) half: bool,
}

pub(crate) const MODELS: [Model; 4] = [
    Model { id: "eleven_multilingual_v2", characters: 10_000, half: false },
    Model { id: "eleven_flash_v2_5", characters: 40_000, half: true },
    Model { id: "eleven_turbo_v2_5", characters: 40_000, half: true },
    Model { id: "eleven_v3", characters: 5_000, half: false },
];

#[derive(Deserialize)]
struct Body {
    text: Option<String>,
    model_id: Option<String>,
}

pub(crate) async fn answer(call: &Call, voice: &str, streamed: bool, body: Incoming) -> Answered {
    let body = call.read(body).await?;
    let body: Body = serde_json::from_slice(&body)
        .map_err(|error| Refusal::new(422, "json_invalid", error.to_string()).param("body"))?;
    let text = body.text.ok_or_else(|| errors::missing("text"))?;
    if text.is_empty() {
        return Err(errors::wrong("text", "String should have at least 1 character").into());
    }
    if voice.len() != 20 || !voice.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(errors::voice_not_found(voice).into());
    }
    let id = body.model_id.as_deref().unwrap_or(MODELS[0].id);
    let Some(model) = MODELS.iter().find(|model| model.id == id) else {
        return Err(Refusal::new(400, "model_not_found", format!("A model with model ID {id} does not exist.")).into());
    };
    let characters = text.chars().count();
    if characters > model.characters {
        let message = format!(
            "This request's text has {characters} characters and exceeds the character limit of {} characters.",
            model.characters
        );
        return Err(Refusal::new(400, "max_character_limit_exceeded", message).into());
    }
    let format = format(&call.query)?;
    let cost = if model.half { (characters as u64).div_ceil(2) } else { characters as u64 };
    let asking = Asking { streamed, ..Asking::of("text-to-speech", model.id) };
    let charge = |admitted: &Admitted| {
        admitted.entry.charge(0, 0);
        admitted.entry.charge_extras(Extras { characters: characters as u64, ..Extras::default() });
    };
    let admitted = call.admit(asking).await.map_err(|ending| ending.charging(charge))?;
    if let Err(left) = call.state.credits.spend(&call.secret, cost, call.state.options.characters) {
        return Err(Ending::Refused(errors::quota_exceeded(left, cost), Some(admitted)));
    }
    charge(&admitted);
    let script = sound(format, count_words(&text).max(1));
    let mut response = call.stream(admitted, HeaderValue::from_static(format.content_type()), script);
    let headers = response.headers_mut();
    headers.insert("character-cost", HeaderValue::from(cost));
    if let Some(id) = call.id.header("") {
        headers.insert("history-item-id", id);
    }
    Ok(response)
}

/// `output_format` of the query: codec, sample rate and, for mp3, bit rate.
fn format(query: &str) -> Result<Format, Refusal> {
    let asked = query.split('&').find_map(|pair| pair.strip_prefix("output_format="));
    match asked {
        None => Ok(Format::Mp3),
        Some(name) if name.starts_with("mp3_") => Ok(Format::Mp3),
        Some("pcm_24000") => Ok(Format::Pcm),
        Some("wav_24000") => Ok(Format::Wav),
        Some(other) => {
            let message = format!("'{other}' is not simulated: mp3, pcm_24000 and wav_24000 are.");
            Err(Refusal::new(400, "invalid_output_format", message))
        }
    }
}
