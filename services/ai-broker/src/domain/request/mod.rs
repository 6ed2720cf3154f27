//! What a request asks for, read without touching what Weir does not know, and written again with only what must change.

pub(crate) mod media;
mod messages;
mod responses;
mod tier;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::api::Api;
use super::dialects::media::Pictures;
use super::media as inline;

pub(crate) use tier::ServiceTier;

/// Why a request is refused before anything is reserved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct InvalidRequest {
    /// The parameter at fault; empty when it is the body as a whole.
    pub(crate) param: Cow<'static, str>,
    pub(crate) message: String,
}

impl InvalidRequest {
    pub(crate) fn new(param: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { param: param.into(), message: message.into() }
    }
}

/// Media that a request asks for, in what they are charged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MediaUnits {
    /// Tokens alone.
    None,
    /// Audio that is heard.
    Seconds(i64),
    /// Text that is spoken.
    Characters(i64),
    /// Pictures that are made.
    Pictures(Pictures),
}

/// What the broker needs to know of a request, and where in the body it stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ModelRequest {
    pub(crate) api: Api,
    pub(crate) model: String,
    pub(crate) stream: bool,
    /// The client itself asked for the usage chunk of a stream.
    pub(crate) include_usage: bool,
    /// The most tokens of one answer, if the request says so.
    pub(crate) max_output: Option<i64>,
    /// Answers asked for (`n`).
    pub(crate) choices: i64,
    /// Bytes that can become input tokens, and media parts that are counted apart.
    pub(crate) input_bytes: i64,
    pub(crate) media_parts: i64,
    pub(crate) units: MediaUnits,
    pub(crate) tier: ServiceTier,
    /// What stands behind the endpoint in the URL.
    pub(crate) suffix: String,
    model_at: Range<usize>,
    /// The model's name stands without quotes.
    model_is_bare: bool,
    stream_options: Option<(Range<usize>, String)>,
    open: usize,
}

/// The most answers that one request may ask for (OpenAI's own bound).
const MAX_CHOICES: i64 = 128;
/// A `max_tokens` beyond this is a mistake: no model answers a hundred million tokens.
const MAX_OUTPUT: i64 = 100_000_000;

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    stream: Option<&'a RawValue>,
    #[serde(borrow)]
    stream_options: Option<&'a RawValue>,
    #[serde(borrow)]
    max_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    max_completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    n: Option<&'a RawValue>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    max_output_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    background: Option<&'a RawValue>,
    #[serde(borrow)]
    previous_response_id: Option<&'a RawValue>,
    #[serde(borrow)]
    conversation: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    model_id: Option<&'a RawValue>,
    #[serde(borrow)]
    speed: Option<&'a RawValue>,
    #[serde(borrow)]
    inference_geo: Option<&'a RawValue>,
    #[serde(borrow)]
    service_tier: Option<&'a RawValue>,
}

impl ModelRequest {
    /// Reads a request of this API.
    pub(crate) fn read(api: Api, body: &[u8], headers: &HeaderMap) -> Result<Self, InvalidRequest> {
        match api {
            Api::Chat => Self::chat(body),
            Api::Embeddings => Self::embeddings(body),
            Api::Messages => Self::messages(body),
            Api::CountTokens => Self::count_tokens(body),
            Api::Responses => Self::responses(body),
            Api::Transcriptions => Self::transcription(body, headers),
            Api::Speech => Self::speech(body),
            Api::TextToSpeech => Self::text_to_speech(body),
            Api::Images => Self::images(body),
            Api::ImageEdits => Self::image_edits(body, headers),
            Api::FalQueue => Err(InvalidRequest::new("", "pictures are asked for in OpenAI's words")),
        }
    }

    /// Reads `POST /v1/chat/completions`.
    pub(crate) fn chat(body: &[u8]) -> Result<Self, InvalidRequest> {
        let fields = Fields::read(body)?;
        non_empty_array(fields.messages, "messages")?;
        let max_output = match integer(fields.max_completion_tokens, "max_completion_tokens", 1, MAX_OUTPUT)? {
            Some(max) => Some(max),
            None => integer(fields.max_tokens, "max_tokens", 1, MAX_OUTPUT)?,
        };
        let choices = integer(fields.n, "n", 1, MAX_CHOICES)?.unwrap_or(1);
        let stream = boolean(fields.stream, "stream")?.unwrap_or(false);
        let options = StreamOptions::read(&fields, body)?;
        let media = inline::measure(body, fields.messages, inline::may_be_in_chat);
        Ok(Self {
            max_output,
            choices,
            stream,
            include_usage: options.include_usage,
            input_bytes: count(body.len() - media.bytes),
            media_parts: count(media.parts),
            stream_options: if stream { options.replacement } else { None },
            ..Self::of_model(Api::Chat, &fields, body)?
        })
    }

    /// Reads `POST /v1/embeddings`.
    pub(crate) fn embeddings(body: &[u8]) -> Result<Self, InvalidRequest> {
        let fields = Fields::read(body)?;
        match fields.input.map(RawValue::get) {
            Some(input) if input.starts_with(['"', '[']) && input != "\"\"" && input != "[]" => {}
            Some("\"\"" | "[]") => return Err(InvalidRequest::new("input", "`input` must not be empty")),
            _ => return Err(InvalidRequest::new("input", "`input` is required and must be a string or an array")),
        }
        Ok(Self { max_output: Some(0), ..Self::of_model(Api::Embeddings, &fields, body)? })
    }

    fn of_model(api: Api, fields: &Fields<'_>, body: &[u8]) -> Result<Self, InvalidRequest> {
        let raw = fields.model.ok_or_else(|| InvalidRequest::new("model", "`model` is required"))?;
        let model: Cow<'_, str> =
            serde_json::from_str(raw.get()).map_err(|_| InvalidRequest::new("model", "`model` must be a string"))?;
        if model.is_empty() || model.len() > 200 {
            return Err(InvalidRequest::new("model", "`model` must have 1 to 200 characters"));
        }
        Ok(Self {
            api,
            model: model.into_owned(),
            stream: false,
            include_usage: false,
            max_output: None,
            choices: 1,
            input_bytes: count(body.len()),
            media_parts: 0,
            units: MediaUnits::None,
            tier: ServiceTier::of(fields.service_tier),
            suffix: String::new(),
            model_at: position(body, raw),
            model_is_bare: false,
            stream_options: None,
            open: body.iter().position(|&b| b == b'{').map_or(0, |at| at + 1),
        })
    }

    /// The body for the provider: as it came, but for the model's name there, the request for
    /// usage in a stream, and `max_output` (a field's name and value) where the client set none.
    pub(crate) fn upstream_body(&self, body: &Bytes, model: &str, max_output: Option<(&str, i64)>) -> Bytes {
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        if let Some((field, value)) = max_output {
            edits.push((self.open..self.open, format!("\"{field}\":{value},")));
        }
        if let Some(edit) = &self.stream_options {
            edits.push(edit.clone());
        }
        if model != self.model {
            let name = if self.model_is_bare { model.to_owned() } else { serde_json::Value::from(model).to_string() };
            edits.push((self.model_at.clone(), name));
        }
        if edits.is_empty() {
            return body.clone();
        }
        edits.sort_by_key(|(range, _)| range.start);
        let mut written = Vec::with_capacity(body.len() + edits.iter().map(|(_, text)| text.len()).sum::<usize>());
        let mut from = 0;
        for (range, text) in edits {
            written.extend_from_slice(&body[from..range.start]);
            written.extend_from_slice(text.as_bytes());
            from = range.end;
        }
        written.extend_from_slice(&body[from..]);
        written.into()
    }
}

impl<'a> Fields<'a> {
    fn read(body: &'a [u8]) -> Result<Self, InvalidRequest> {
        if body.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
            return Err(InvalidRequest::new("", "the body must be a JSON object"));
        }
        serde_json::from_slice(body)
            .map_err(|error| InvalidRequest::new("", format!("the body is not valid JSON: {error}")))
    }
}

/// How a stream is made to end with a usage chunk.
struct StreamOptions {
    include_usage: bool,
    replacement: Option<(Range<usize>, String)>,
}

impl StreamOptions {
    fn read(fields: &Fields<'_>, body: &[u8]) -> Result<Self, InvalidRequest> {
        let invalid = || InvalidRequest::new("stream_options", "`stream_options` must be an object");
        let Some(raw) = fields.stream_options else {
            let open = body.iter().position(|&b| b == b'{').map_or(0, |at| at + 1);
            let inserted = "\"stream_options\":{\"include_usage\":true},".to_owned();
            return Ok(Self { include_usage: false, replacement: Some((open..open, inserted)) });
        };
        let options: Option<serde_json::Map<String, serde_json::Value>> =
            serde_json::from_str(raw.get()).map_err(|_| invalid())?;
        let mut options = options.unwrap_or_default();
        match options.get("include_usage") {
            Some(serde_json::Value::Bool(true)) => return Ok(Self { include_usage: true, replacement: None }),
            None | Some(serde_json::Value::Bool(false) | serde_json::Value::Null) => {}
            Some(_) => {
                return Err(InvalidRequest::new(
                    "stream_options",
                    "`stream_options.include_usage` must be true or false",
                ));
            }
        }
        options.insert("include_usage".into(), true.into());
        let text = serde_json::Value::Object(options).to_string();
        Ok(Self { include_usage: false, replacement: Some((position(body, raw), text)) })
    }
}

fn non_empty_array(raw: Option<&RawValue>, param: &'static str) -> Result<(), InvalidRequest> {
    match raw.map(RawValue::get) {
        Some(array) if array.starts_with('[') && array[1..].trim_start() != "]" => Ok(()),
        Some(array) if array.starts_with('[') => {
            Err(InvalidRequest::new(param, format!("`{param}` must not be empty")))
        }
        _ => Err(InvalidRequest::new(param, format!("`{param}` is required and must be an array"))),
    }
}

fn integer(raw: Option<&RawValue>, param: &'static str, min: i64, max: i64) -> Result<Option<i64>, InvalidRequest> {
    match raw.map(RawValue::get) {
        None | Some("null") => Ok(None),
        Some(text) => match text.parse::<i64>() {
            Ok(value) if (min..=max).contains(&value) => Ok(Some(value)),
            _ => Err(InvalidRequest::new(
                param,
                format!(
                    "`{param}` must be an integer from {min} to {max}, not {}",
                    text.chars().take(40).collect::<String>()
                ),
            )),
        },
    }
}

fn boolean(raw: Option<&RawValue>, param: &'static str) -> Result<Option<bool>, InvalidRequest> {
    match raw.map(RawValue::get) {
        None | Some("null") => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(InvalidRequest::new(param, format!("`{param}` must be true or false"))),
    }
}

/// Where `raw`, which was read from `body`, stands in it.
fn position(body: &[u8], raw: &RawValue) -> Range<usize> {
    let start = raw.get().as_ptr() as usize - body.as_ptr() as usize;
    start..start + raw.get().len()
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(text: &str) -> Result<ModelRequest, InvalidRequest> {
        ModelRequest::chat(text.as_bytes())
    }

    fn param(text: &str) -> Cow<'static, str> {
        chat(text).expect_err("must be refused").param
    }

    #[test]
    fn a_body_that_needs_no_change_is_passed_on_as_the_same_bytes() {
        let body = Bytes::from_static(br#" {"x":{"y":[1e400]},"model":"m","messages":[{}],"max_tokens":5}"#);
        let request = ModelRequest::chat(&body).expect("valid");
        let passed = request.upstream_body(&body, "m", None);
        assert_eq!(passed.as_ptr(), body.as_ptr());
        assert_eq!((request.max_output, request.choices, request.stream), (Some(5), 1, false));
    }

    #[test]
    fn only_what_must_change_is_written_again() {
        let body = Bytes::from_static(br#"{"messages":[{}], "model" : "fast\u0021", "stream":true,"weird":1.0}"#);
        let request = ModelRequest::chat(&body).expect("valid");
        assert_eq!(request.model, "fast!");
        let passed = request.upstream_body(&body, "gpt\"4", Some(("max_tokens", 9)));
        let expected = br#"{"max_tokens":9,"stream_options":{"include_usage":true},"messages":[{}], "model" : "gpt\"4", "stream":true,"weird":1.0}"#;
        assert_eq!(passed.as_ref(), expected.as_slice());
    }

    #[test]
    fn other_stream_options_survive() {
        let body = Bytes::from_static(
            br#"{"model":"m","messages":[{}],"stream":true,"stream_options":{"a":1,"include_usage":false}}"#,
        );
        let request = ModelRequest::chat(&body).expect("valid");
        assert!(!request.include_usage);
        let passed = request.upstream_body(&body, "m", None);
        assert!(passed.ends_with(br#""stream_options":{"a":1,"include_usage":true}}"#), "{passed:?}");
        let asked = chat(r#"{"model":"m","messages":[{}],"stream":true,"stream_options":{"include_usage":true}}"#);
        assert!(asked.expect("valid").include_usage);
    }

    #[test]
    fn a_plain_request_is_not_asked_for_stream_usage() {
        let body = Bytes::from_static(br#"{"model":"m","messages":[{}],"stream":false}"#);
        let request = ModelRequest::chat(&body).expect("valid");
        assert_eq!(request.upstream_body(&body, "m", None), body);
    }

    #[test]
    fn bad_input_names_the_parameter() {
        assert_eq!(param("{"), "");
        assert_eq!(param("[1]"), "");
        assert_eq!(param(r#"{"model":"m","model":"n","messages":[{}]}"#), "");
        assert_eq!(param(r#"{"messages":[{}]}"#), "model");
        assert_eq!(param(r#"{"model":7,"messages":[{}]}"#), "model");
        assert_eq!(param(r#"{"model":"m"}"#), "messages");
        assert_eq!(param(r#"{"model":"m","messages":[ ]}"#), "messages");
        for bad in ["-1", "0", "1.5", "\"5\"", "1e99", "99999999999999999999"] {
            assert_eq!(param(&format!(r#"{{"model":"m","messages":[{{}}],"max_tokens":{bad}}}"#)), "max_tokens");
        }
        assert_eq!(param(r#"{"model":"m","messages":[{}],"max_completion_tokens":-5}"#), "max_completion_tokens");
        assert_eq!(param(r#"{"model":"m","messages":[{}],"n":1000}"#), "n");
        assert_eq!(param(r#"{"model":"m","messages":[{}],"stream":"yes"}"#), "stream");
        assert_eq!(param(r#"{"model":"m","messages":[{}],"stream_options":7}"#), "stream_options");
    }

    #[test]
    fn null_counts_as_absent() {
        let request = chat(r#"{"model":"m","messages":[{}],"max_tokens":null,"n":null,"stream":null}"#).expect("valid");
        assert_eq!((request.max_output, request.choices, request.stream), (None, 1, false));
    }

    #[test]
    fn embeddings_need_an_input() {
        let read = |text: &str| ModelRequest::embeddings(text.as_bytes());
        assert_eq!(read(r#"{"model":"m","input":"hello"}"#).expect("valid").max_output, Some(0));
        assert!(read(r#"{"model":"m","input":[[1,2],[3]]}"#).is_ok());
        for bad in [r#"{"model":"m"}"#, r#"{"model":"m","input":""}"#, r#"{"model":"m","input":7}"#] {
            assert_eq!(read(bad).expect_err("must be refused").param, "input");
        }
    }
}
