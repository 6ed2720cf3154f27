//! Requests for speech, transcriptions and pictures: charged in units of their own.

use std::borrow::Cow;
use std::ops::Range;

use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde::Deserialize;

use super::{Fields, InvalidRequest, MediaUnits, ModelRequest, ServiceTier, boolean, count};
use crate::domain::api::Api;
use crate::domain::dialects::media::{Pictures, audio_millis, characters};
use crate::domain::multipart;

/// The longest text that any provider speaks.
const MAX_CHARACTERS: i64 = 100_000;
/// The most pictures that one edit begins with (OpenAI's own bound).
const MOST_GIVEN: i64 = 16;

impl ModelRequest {
    /// Reads `POST /v1/audio/speech`.
    pub(crate) fn speech(body: &[u8]) -> Result<Self, InvalidRequest> {
        let fields = Fields::read(body)?;
        let text = fields.input.and_then(|raw| serde_json::from_str::<Cow<'_, str>>(raw.get()).ok());
        let units = spoken("input", text.as_deref())?;
        Ok(Self { units, stream: true, ..Self::of_model(Api::Speech, &fields, body)? })
    }

    /// Reads ElevenLabs' `POST /v1/text-to-speech/{voice}`. A model that is not named is ElevenLabs' own default.
    pub(crate) fn text_to_speech(body: &[u8]) -> Result<Self, InvalidRequest> {
        let fields = Fields::read(body)?;
        let text = fields.text.and_then(|raw| serde_json::from_str::<Cow<'_, str>>(raw.get()).ok());
        let units = spoken("text", text.as_deref())?;
        let fields = Fields { model: fields.model_id, ..fields };
        if fields.model.is_none() {
            return Err(InvalidRequest::new("model_id", "`model_id` is required"));
        }
        Ok(Self { units, stream: true, ..Self::of_model(Api::TextToSpeech, &fields, body)? })
    }

    /// Reads `POST /v1/images/generations`.
    pub(crate) fn images(body: &[u8]) -> Result<Self, InvalidRequest> {
        let fields = Fields::read(body)?;
        let stream = boolean(fields.stream, "stream")?.unwrap_or(false);
        if fields.prompt.is_none_or(|prompt| !prompt.get().starts_with('"') || prompt.get() == "\"\"") {
            return Err(InvalidRequest::new("prompt", "`prompt` is required and must be a text"));
        }
        let pictures = drawn(Pictures::of_openai(body), stream)?;
        Ok(Self { units: MediaUnits::Pictures(pictures), stream, ..Self::of_model(Api::Images, &fields, body)? })
    }

    /// Reads `POST /v1/images/edits`, which is a form. What the pictures in it count is bounded as that of any picture.
    pub(crate) fn image_edits(body: &[u8], headers: &HeaderMap) -> Result<Self, InvalidRequest> {
        let form = Form::read(body, headers)?;
        let given = form.count(&["image", "image[]"]);
        if !(1..=MOST_GIVEN).contains(&given) {
            return Err(InvalidRequest::new("image", format!("`image` is required, {MOST_GIVEN} at most")));
        }
        let prompt = form.value("prompt").filter(|prompt| !prompt.is_empty());
        let prompt = prompt.ok_or_else(|| InvalidRequest::new("prompt", "`prompt` is required and must be a text"))?;
        let [n, size, quality, partial] = ["n", "size", "quality", "partial_images"].map(|name| form.text(name));
        let units = drawn(Pictures::of_form(n?, size?, quality?, partial?), form.streams())?;
        let (input_bytes, media_parts) = (count(prompt.len()), given + form.count(&["mask"]));
        Ok(Self { input_bytes, media_parts, units: MediaUnits::Pictures(units), ..form.request(Api::ImageEdits)? })
    }

    /// Reads `POST /v1/audio/transcriptions`, which is a form.
    pub(crate) fn transcription(body: &[u8], headers: &HeaderMap) -> Result<Self, InvalidRequest> {
        let form = Form::read(body, headers)?;
        let request = form.request(Api::Transcriptions)?;
        let file = form.value("file").ok_or_else(|| InvalidRequest::new("file", "`file` is required"))?;
        let millis = audio_millis(file)
            .map_err(|error| InvalidRequest::new("file", format!("`file` does not say how long it plays: {error}")))?;
        let seconds = millis.div_euclid(1_000) + i64::from(millis.rem_euclid(1_000) > 0);
        Ok(Self { units: MediaUnits::Seconds(seconds), ..request })
    }
}

/// A request that is a form.
struct Form<'a> {
    body: &'a [u8],
    parts: Vec<multipart::Part>,
}

impl<'a> Form<'a> {
    fn read(body: &'a [u8], headers: &HeaderMap) -> Result<Self, InvalidRequest> {
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let parts = multipart::parts(body, content_type)
            .ok_or_else(|| InvalidRequest::new("", "the body must be a form (multipart/form-data)"))?;
        Ok(Self { body, parts })
    }

    fn at(&self, name: &str) -> Option<Range<usize>> {
        self.parts.iter().find(|part| part.name == name).map(|part| part.at.clone())
    }

    fn value(&self, name: &str) -> Option<&'a [u8]> {
        self.at(name).map(|at| &self.body[at])
    }

    /// The text of a field; one that counts and stands there twice is refused, as each side might read another one.
    fn text(&self, name: &'static str) -> Result<Option<&'a str>, InvalidRequest> {
        if self.count(&[name]) > 1 {
            return Err(InvalidRequest::new(name, format!("`{name}` must stand in the form once")));
        }
        let text = |value| std::str::from_utf8(value).map(str::trim);
        let text = self.value(name).map(text).transpose();
        text.map_err(|_| InvalidRequest::new(name, format!("`{name}` must be a text")))
    }

    /// How many fields have one of these names.
    fn count(&self, names: &[&str]) -> i64 {
        count(self.parts.iter().filter(|part| names.contains(&&*part.name)).count())
    }

    fn streams(&self) -> bool {
        self.value("stream").is_some_and(|value| value.trim_ascii().eq_ignore_ascii_case(b"true"))
    }

    /// Without what the API counts in.
    fn request(&self, api: Api) -> Result<ModelRequest, InvalidRequest> {
        let model_at = self.at("model").ok_or_else(|| InvalidRequest::new("model", "`model` is required"))?;
        let model = std::str::from_utf8(&self.body[model_at.clone()]).unwrap_or_default();
        if model.is_empty() || model.len() > 200 {
            return Err(InvalidRequest::new("model", "`model` must have 1 to 200 characters"));
        }
        Ok(ModelRequest {
            api,
            model: model.to_owned(),
            stream: self.streams(),
            include_usage: false,
            max_output: None,
            choices: 1,
            input_bytes: i64::MAX,
            media_parts: 0,
            units: MediaUnits::None,
            tier: ServiceTier::Usual,
            suffix: String::new(),
            model_at,
            model_is_bare: true,
            stream_options: None,
            open: 0,
        })
    }
}

/// Pictures that can be made, and be streamed if they shall.
fn drawn(pictures: Option<Pictures>, stream: bool) -> Result<Pictures, InvalidRequest> {
    let pictures = pictures.ok_or_else(|| {
        InvalidRequest::new(
            "size",
            "`n` must be from 1 to 10, `size` as 1024x1024, `quality` a text, and `partial_images` from 0 to 3",
        )
    })?;
    // Of several streamed pictures it is not said whether each counts itself or all.
    if stream && pictures.count > 1 {
        return Err(InvalidRequest::new("n", "`n` can only be 1 with `stream`"));
    }
    Ok(pictures)
}

fn spoken(param: &'static str, text: Option<&str>) -> Result<MediaUnits, InvalidRequest> {
    let text = text.filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| InvalidRequest::new(param, format!("`{param}` is required and must be a text")))?;
    let characters = characters(text);
    if characters > MAX_CHARACTERS {
        return Err(InvalidRequest::new(param, format!("`{param}` must have at most {MAX_CHARACTERS} characters")));
    }
    Ok(MediaUnits::Characters(characters))
}

/// OpenAI's speech in ElevenLabs' words.
#[derive(Deserialize)]
struct Speech<'a> {
    #[serde(borrow)]
    input: Cow<'a, str>,
    voice: Option<serde_json::Value>,
    response_format: Option<String>,
    speed: Option<serde_json::Number>,
    instructions: Option<String>,
    stream_format: Option<String>,
}

/// A request to ElevenLabs: what stands behind the endpoint in its URL, and its body.
pub(crate) fn speech_of_elevenlabs(body: &[u8], model: &str) -> Result<(String, Vec<u8>), InvalidRequest> {
    let speech: Speech<'_> = serde_json::from_slice(body)
        .map_err(|error| InvalidRequest::new("", format!("the body can't be read: {error}")))?;
    let voice = speech.voice.as_ref().and_then(|voice| voice.as_str().or_else(|| voice["id"].as_str()));
    let voice = voice.filter(|voice| is_voice(voice)).ok_or_else(|| {
        InvalidRequest::new("voice", "`voice` must be the id of a voice of ElevenLabs: letters and digits")
    })?;
    let format = match speech.response_format.as_deref() {
        None | Some("mp3") => "mp3_44100_128",
        Some("opus") => "opus_48000_64",
        Some("wav") => "wav_24000",
        Some("pcm") => "pcm_24000",
        Some(_) => {
            return Err(InvalidRequest::new(
                "response_format",
                "`response_format` can be mp3, opus, wav or pcm at ElevenLabs",
            ));
        }
    };
    if speech.instructions.is_some_and(|told| !told.is_empty()) {
        return Err(InvalidRequest::new("instructions", "`instructions` have no counterpart at ElevenLabs"));
    }
    if speech.stream_format.is_some_and(|format| format != "audio") {
        return Err(InvalidRequest::new("stream_format", "`stream_format` can only be audio at ElevenLabs"));
    }
    let mut asked = serde_json::json!({"text": speech.input, "model_id": model});
    if let Some(speed) = speech.speed {
        asked["voice_settings"] = serde_json::json!({"speed": speed});
    }
    Ok((format!("/{voice}/stream?output_format={format}"), asked.to_string().into_bytes()))
}

/// Whether a text can stand for a voice in a URL.
pub(crate) fn is_voice(voice: &str) -> bool {
    !voice.is_empty() && voice.len() <= 64 && voice.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speech_is_charged_by_its_characters() {
        let request =
            ModelRequest::speech("{\"model\":\"tts-1\",\"input\":\"Gr\u{fc}\u{df}e\",\"voice\":\"a\"}".as_bytes());
        assert_eq!(request.expect("valid").units, MediaUnits::Characters(5));
        for bad in [r#"{"model":"m"}"#, r#"{"model":"m","input":""}"#, r#"{"model":"m","input":7}"#] {
            assert_eq!(ModelRequest::speech(bad.as_bytes()).expect_err("refused").param, "input", "{bad}");
        }
    }

    #[test]
    fn speech_is_said_in_elevenlabs_words() {
        let body = br#"{"model":"x","input":"hi","voice":"21m00Tcm4TlvDq8ikWAM","response_format":"pcm","speed":1.1}"#;
        let (suffix, body) = speech_of_elevenlabs(body, "eleven_v3").expect("said");
        assert_eq!(suffix, "/21m00Tcm4TlvDq8ikWAM/stream?output_format=pcm_24000");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body, serde_json::json!({"text": "hi", "model_id": "eleven_v3", "voice_settings": {"speed": 1.1}}));
        for (field, more) in [
            ("voice", r#""voice":"../x""#),
            ("response_format", r#""voice":"a","response_format":"flac""#),
            ("instructions", r#""voice":"a","instructions":"shout""#),
            ("stream_format", r#""voice":"a","stream_format":"sse""#),
        ] {
            let body = format!(r#"{{"input":"hi",{more}}}"#);
            assert_eq!(speech_of_elevenlabs(body.as_bytes(), "m").expect_err("refused").param, field);
        }
    }

    #[test]
    fn a_transcription_is_as_long_as_its_file() {
        let form = |file: &[u8]| {
            let head = b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n";
            [&head[..], file, b"\r\n--b--\r\n"].concat()
        };
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, "multipart/form-data; boundary=b".parse().expect("a value"))]);
        let pcm = include_bytes!("../../../../../libs/media/tests/audio/pcm.wav");
        let body = bytes::Bytes::from(form(pcm));
        let request = ModelRequest::transcription(&body, &headers).expect("valid");
        assert!(matches!(request.units, MediaUnits::Seconds(1..)), "{:?}", request.units);
        let passed = request.upstream_body(&body, "whisper-1", None);
        assert!(memchr::memmem::find(&passed, b"\r\n\r\nwhisper-1\r\n--b").is_some());
        assert_eq!(passed.len(), body.len() + 2);
        assert_eq!(ModelRequest::transcription(&form(b"no sound"), &headers).expect_err("refused").param, "file");
        assert_eq!(ModelRequest::transcription(b"{}", &headers).expect_err("refused").param, "");
    }

    #[test]
    fn an_edit_is_charged_by_what_it_makes_and_what_it_is_given() {
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, "multipart/form-data; boundary=b".parse().expect("a value"))]);
        let read = |fields: &[(&str, &str)]| {
            let part = |(name, value): &(&str, &str)| {
                format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
            };
            let body = fields.iter().map(part).collect::<String>() + "--b--\r\n";
            ModelRequest::image_edits(body.as_bytes(), &headers)
        };
        let least = [("model", "m"), ("prompt", "x"), ("image", "png")];
        let with = |more: &[(&'static str, &'static str)]| read(&[&least[..], more].concat());
        let request =
            with(&[("image[]", "png"), ("mask", "png"), ("n", "2"), ("size", "1024x1536"), ("quality", "low")]);
        let request = request.expect("valid");
        assert_eq!((request.media_parts, request.input_bytes, request.stream), (3, 1, false));
        let MediaUnits::Pictures(pictures) = request.units else { panic!("no pictures") };
        assert_eq!((pictures.count, pictures.price_key().as_str()), (2, "1024x1536/low"));
        assert!(with(&[("stream", "true"), ("partial_images", "2")]).expect("valid").stream);
        for (more, field) in [
            (&[("n", "2"), ("stream", "true")][..], "n"),
            (&[("n", "11")], "size"),
            (&[("n", "1"), ("n", "2")], "n"),
            (&[("size", "big")], "size"),
            (&[("partial_images", "4")], "size"),
            (&[("image[]", "png"); 16], "image"),
        ] {
            assert_eq!(with(more).expect_err("refused").param, field, "{more:?}");
        }
        for (left_out, field) in least.iter().map(|(name, _)| (*name, *name)) {
            let rest: Vec<_> = least.into_iter().filter(|(name, _)| *name != left_out).collect();
            assert_eq!(read(&rest).expect_err("refused").param, field);
        }
        assert_eq!(ModelRequest::image_edits(b"{}", &headers).expect_err("refused").param, "");
    }

    #[test]
    fn pictures_are_charged_by_size_and_quality() {
        let read = |more: &str| ModelRequest::images(format!(r#"{{"model":"m","prompt":"x"{more}}}"#).as_bytes());
        let MediaUnits::Pictures(pictures) = read(r#","n":2,"size":"1024x1024""#).expect("valid").units else {
            panic!("no pictures");
        };
        assert_eq!((pictures.count, pictures.size), (2, Some((1024, 1024))));
        assert!(read(r#","stream":true,"partial_images":2"#).expect("valid").stream);
        assert_eq!(read(r#","stream":true,"n":2"#).expect_err("refused").param, "n");
        assert_eq!(read(r#","partial_images":4"#).expect_err("refused").param, "size");
        assert_eq!(read(r#","n":99"#).expect_err("refused").param, "size");
        assert_eq!(ModelRequest::images(br#"{"model":"m"}"#).expect_err("refused").param, "prompt");
    }
}
