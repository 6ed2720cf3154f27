//! `POST /v1/audio/transcriptions`: two words for each second that the file lasts.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::errors;
use super::multipart::Form;
use crate::audio;
use crate::books::Extras;
use crate::headers::{EVENT_STREAM, TEXT};
use crate::keys::Demand;
use crate::refusal::Refusal;
use crate::service::{Admitted, Answered, Asking, Call, Output};
use crate::stream::{Script, Segment};
use crate::text::{append_words, word};

/// Tokens of one second of audio, where a model counts tokens.
const TOKENS_A_SECOND: u64 = 10;
const FORMATS: [&str; 5] = ["json", "text", "srt", "verbose_json", "vtt"];

/// What was heard.
struct Heard {
    duration: Duration,
    words: u64,
    text: String,
}

pub(crate) async fn answer(call: &Call, body: Incoming) -> Answered {
    let body = call.read(body).await?;
    let form = Form::read(&call.headers, &body)?;
    let model = form.text("model").filter(|model| !model.is_empty()).ok_or_else(|| errors::missing("model"))?;
    let file = form.file("file").ok_or_else(|| errors::missing("file"))?;
    let format = form.text("response_format").unwrap_or("json");
    if !FORMATS.contains(&format) {
        return Err(Refusal::invalid(format!("Invalid value: '{format}'.")).param("response_format").into());
    }
    if !call.state.model_exists(model) {
        return Err(errors::unknown_model(model).into());
    }
    let whisper = model.starts_with("whisper");
    if !whisper && !matches!(format, "json" | "text") {
        let message = format!("response_format '{format}' is not compatible with model '{model}'.");
        return Err(Refusal::invalid(message).param("response_format").code("unsupported_value").into());
    }
    let streamed = !whisper && form.text("stream") == Some("true");
    let read = audio::duration(&file.data);
    let asking = Asking { streamed, demand: Demand::REQUEST, ..Asking::of("audio.transcriptions", model) };
    let heard = |admitted: &Admitted| admitted.directive.heard.or(read).map(Heard::of);
    let spoilt = |admitted: &Admitted| {
        if let Some(heard) = heard(admitted) {
            charge(admitted, &heard, whisper, heard.words);
        }
    };
    let admitted = call.admit(asking).await.map_err(|ending| ending.charging(spoilt))?;
    let Some(heard) = heard(&admitted) else {
        let message = "Invalid file format. Supported formats: ['flac', 'm4a', 'mp3', 'mp4', 'mpeg', 'mpga', 'oga', 'ogg', \
                       'wav', 'webm']";
        return Err(crate::service::Ending::Refused(Refusal::invalid(message).param("file"), Some(admitted)));
    };
    let usage = (!admitted.directive.without_usage).then(|| heard.usage(whisper));
    if streamed {
        charge(&admitted, &heard, whisper, 0);
        return Ok(call.stream(admitted, EVENT_STREAM, heard.script(usage)));
    }
    charge(&admitted, &heard, whisper, heard.words);
    Ok(call.respond(admitted, heard.output(format, usage)))
}

/// Whisper is charged by the second, the others by the token.
fn charge(admitted: &Admitted, heard: &Heard, whisper: bool, output: u64) {
    let (input, output) = if whisper { (0, 0) } else { (heard.input_tokens(), output) };
    admitted.entry.charge(input, output);
    let audio_ms = u64::try_from(heard.duration.as_millis()).unwrap_or(u64::MAX);
    admitted.entry.charge_extras(Extras { audio_ms, ..Extras::default() });
}

impl Heard {
    fn of(duration: Duration) -> Self {
        let words = (duration.as_secs() * 2).max(1);
        let mut text = Vec::new();
        append_words(&mut text, words);
        Self { duration, words, text: String::from_utf8(text).unwrap_or_default() }
    }

    fn seconds(&self) -> u64 {
        self.duration.as_secs() + u64::from(self.duration.subsec_nanos() > 0)
    }

    fn input_tokens(&self) -> u64 {
        self.seconds() * TOKENS_A_SECOND
    }

    fn usage(&self, whisper: bool) -> Value {
        if whisper {
            return json!({"type": "duration", "seconds": self.seconds()});
        }
        let input = self.input_tokens();
        json!({
            "type": "tokens",
            "input_tokens": input,
            "input_token_details": {"text_tokens": 0, "audio_tokens": input},
            "output_tokens": self.words,
            "total_tokens": input + self.words,
        })
    }

    fn output(&self, format: &str, usage: Option<Value>) -> Output {
        let (text, duration) = (&self.text, self.duration);
        match format {
            "text" => Output::new(TEXT, format!("{text}\n")),
            "srt" => {
                Output::new(TEXT, format!("1\n{} --> {}\n{text}\n\n", stamp(Duration::ZERO, ','), stamp(duration, ',')))
            }
            "vtt" => Output::new(
                TEXT,
                format!("WEBVTT\n\n{} --> {}\n{text}\n\n", stamp(Duration::ZERO, '.'), stamp(duration, '.')),
            ),
            _ => {
                let mut body = json!({"text": text});
                if format == "verbose_json" {
                    let seconds = duration.as_secs_f64();
                    body = json!({
                        "task": "transcribe",
                        "language": "english",
                        "duration": seconds,
                        "text": text,
                        "segments": [{
                            "id": 0, "seek": 0, "start": 0.0, "end": seconds, "text": text, "tokens": [], "temperature": 0.0,
                            "avg_logprob": -0.2, "compression_ratio": 1.0, "no_speech_prob": 0.01,
                        }],
                    });
                }
                if let Some(usage) = usage {
                    body["usage"] = usage;
                }
                Output::json(body.to_string())
            }
        }
    }

    fn script(&self, usage: Option<Value>) -> Script {
        let mut done = json!({"type": "transcript.text.done", "text": self.text});
        if let Some(usage) = usage {
            done["usage"] = usage;
        }
        let make = Box::new(|nth: u64| {
            let mut text = String::with_capacity(80);
            let space = if nth == 0 { "" } else { " " };
            let _ = write!(text, "data: {{\"type\":\"transcript.text.delta\",\"delta\":\"{space}{}\"}}\n\n", word(nth));
            Bytes::from(text)
        });
        Script {
            segments: vec![
                Segment::Made { count: self.words, tokens: 1, make },
                Segment::Event(Bytes::from(format!("data: {done}\n\n"))),
                Segment::Event(Bytes::from_static(b"data: [DONE]\n\n")),
            ],
            failure: Bytes::from_static(b"data: {\"error\":{\"message\":\"The server had an error.\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n"),
            garbage: Bytes::from_static(b"data: {\"type\":\"transcript\n\n"),
        }
    }
}

/// `00:01:02,500`
fn stamp(at: Duration, point: char) -> String {
    let seconds = at.as_secs();
    let (hours, minutes, rest) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{rest:02}{point}{:03}", at.subsec_millis())
}
