//! FAL's image models, asked for in the words of OpenAI's images API (<https://fal.ai/docs/inference-api/queue>).
//!
//! FAL's models differ in what they understand beside a prompt, a size and a number: such fields (`seed`, `image_url`, `loras`) pass
//! untouched. What changes how much is made, and is not counted here, is refused.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{TranslateError, data_url};

/// Fields of FAL's that would make more, or larger, pictures than the request says in OpenAI's words, or lead results elsewhere.
const UNCOUNTED: [&str; 9] =
    ["num_images", "image_size", "max_images", "resolution", "width", "height", "upscale", "sync_mode", "fal_webhook"];
/// Hints of OpenAI's that change nothing in an answer.
const HINTS: [&str; 3] = ["user", "metadata", "moderation"];
/// The longest id of a request.
const MAX_ID: usize = 128;

/// What a model of FAL's is sent.
///
/// # Errors
/// A field can't be said, or is not what OpenAI allows.
pub fn request(body: &[u8]) -> Result<Vec<u8>, TranslateError> {
    let mut fields: Map<String, Value> = serde_json::from_slice(body)?;
    if let Some(field) = UNCOUNTED.iter().find(|field| fields.contains_key(**field)) {
        return Err(TranslateError::inexpressible(*field, "is said with `n`, `size` and `response_format` here"));
    }
    fields.remove("model");
    HINTS.iter().for_each(|hint| drop(fields.remove(*hint)));
    for (field, usual) in [("quality", "standard"), ("background", "opaque"), ("style", ""), ("stream", "")] {
        let value = fields.remove(field).unwrap_or_default();
        let implied = value.is_null() || value == false || value == "auto" || value == usual;
        if !implied {
            return Err(TranslateError::inexpressible(field, "has no counterpart at FAL"));
        }
    }
    if let Some(count) = fields.remove("n").filter(|count| !count.is_null()) {
        fields.insert("num_images".to_owned(), count);
    }
    match fields.remove("size").unwrap_or_default() {
        Value::Null => {}
        Value::String(auto) if auto == "auto" => {}
        size => {
            let sides = size.as_str().and_then(|size| size.split_once('x'));
            let side = |text: &str| text.parse::<u32>().ok();
            let sides = sides.and_then(|(width, height)| Some((side(width)?, side(height)?)));
            let (width, height) = sides.ok_or_else(|| TranslateError::invalid("size", "must be as 1024x1024"))?;
            fields.insert("image_size".to_owned(), json!({"width": width, "height": height}));
        }
    }
    match fields.remove("response_format").unwrap_or_default() {
        Value::Null => {}
        Value::String(url) if url == "url" => {}
        // Then pictures come as `data:` URLs.
        Value::String(base64) if base64 == "b64_json" => {
            fields.insert("sync_mode".to_owned(), true.into());
        }
        _ => return Err(TranslateError::invalid("response_format", "must be `url` or `b64_json`")),
    }
    Ok(serde_json::to_vec(&fields)?)
}

/// A result in the shape of OpenAI's images API, made at `created` (seconds since 1970).
///
/// # Errors
/// There is no picture in it.
pub fn answer(body: &[u8], created: i64) -> Result<Vec<u8>, TranslateError> {
    #[derive(Deserialize)]
    struct Made {
        url: String,
    }
    #[derive(Deserialize)]
    struct Answer {
        images: Option<Vec<Made>>,
        image: Option<Made>,
    }
    let answer: Answer = serde_json::from_slice(body)?;
    let made = answer.images.unwrap_or_else(|| answer.image.into_iter().collect());
    if made.is_empty() {
        return Err(TranslateError::Malformed("there is no picture in the result".to_owned()));
    }
    let picture = |Made { url }: Made| match data_url(&url) {
        Some((_, data)) => json!({"b64_json": data}),
        None => json!({"url": url}),
    };
    let data: Vec<Value> = made.into_iter().map(picture).collect();
    Ok(serde_json::to_vec(&json!({"created": created, "data": data}))?)
}

/// An error's body, `{"detail": …}`, in OpenAI's shape.
#[must_use]
pub fn error(body: &[u8]) -> Vec<u8> {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let detail = &body["detail"];
    // The validator's list names the field and what is wrong with it.
    let first = detail.get(0);
    let message =
        first.map_or(detail, |first| &first["msg"]).as_str().unwrap_or("The provider failed without saying why.");
    let param = first.and_then(|first| first["loc"].as_array()?.last()?.as_str());
    let param = param.map(|param| match param {
        "num_images" => "n",
        "image_size" => "size",
        other => other,
    });
    let code = first.map_or(&body["error_type"], |first| &first["type"]);
    let kind = if first.is_some() { "invalid_request_error" } else { "api_error" };
    json!({"error": {"message": message, "type": kind, "param": param, "code": code}}).to_string().into_bytes()
}

/// A request in FAL's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// FAL's id of the request.
    pub request_id: String,
    /// The part of the model's path under which requests are asked for: `fal-ai/flux` of `fal-ai/flux/dev`.
    pub app: String,
}

impl Ticket {
    /// What a submission to `model` was answered with; nothing if that can't be read.
    #[must_use]
    pub fn read(body: &[u8], model: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Submitted {
            request_id: String,
        }
        let Submitted { request_id } = serde_json::from_slice(body).ok()?;
        Self::of(request_id, model)
    }

    /// The request of this id; nothing if it has characters that could lead elsewhere in a URL.
    #[must_use]
    pub fn of(request_id: String, model: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let is_plain = !request_id.is_empty() && request_id.len() <= MAX_ID && request_id.bytes().all(plain);
        let mut parts = model.split('/');
        let app = format!("{}/{}", parts.next()?, parts.next()?);
        is_plain.then_some(Self { request_id, app })
    }

    /// Where it is asked for, behind the base URL.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/{}/requests/{}", self.app, self.request_id)
    }
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It waits or is worked on.
    UnderWay,
    /// Its result can be fetched.
    Done,
    /// It came to nothing: instead of a result there is an error.
    Failed,
}

/// Reads a request's status; nothing if it can't be read.
#[must_use]
pub fn progress(body: &[u8]) -> Option<Progress> {
    #[derive(Deserialize)]
    struct Status {
        status: String,
        error: Option<Value>,
    }
    let status: Status = serde_json::from_slice(body).ok()?;
    match (status.status.as_str(), status.error) {
        ("IN_QUEUE" | "IN_PROGRESS", _) => Some(Progress::UnderWay),
        ("COMPLETED", None | Some(Value::Null)) => Some(Progress::Done),
        ("COMPLETED" | "FAILED" | "CANCELED" | "CANCELLED", _) => Some(Progress::Failed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(body: Value) -> Value {
        serde_json::from_slice(&request(body.to_string().as_bytes()).expect("expressible")).expect("JSON")
    }

    #[test]
    fn a_request_is_said_in_fals_words_and_its_own_fields_pass() {
        let asked = json!({
            "model": "flux", "prompt": "a ring", "n": 2, "size": "1024x768", "response_format": "b64_json",
            "quality": "auto", "user": "u", "seed": 7, "image_url": "https://e.org/x.png",
        });
        let expected = json!({
            "prompt": "a ring", "seed": 7, "image_url": "https://e.org/x.png", "num_images": 2,
            "image_size": {"width": 1024, "height": 768}, "sync_mode": true,
        });
        assert_eq!(said(asked), expected);
        assert_eq!(said(json!({"prompt": "x", "size": "auto", "response_format": "url"})), json!({"prompt": "x"}));
    }

    #[test]
    fn what_is_not_counted_or_can_not_be_said_is_refused_by_name() {
        for (field, value) in [
            ("num_images", json!(4)),
            ("image_size", json!("square_hd")),
            ("resolution", json!("4K")),
            ("sync_mode", json!(true)),
            ("quality", json!("hd")),
            ("background", json!("transparent")),
            ("size", json!("big")),
            ("size", json!(7)),
            ("response_format", json!("png")),
        ] {
            let body = json!({"prompt": "x", field: value}).to_string();
            assert_eq!(request(body.as_bytes()).expect_err(field).field(), field);
        }
        assert_eq!(request(b"[]").expect_err("no object").field(), "");
    }

    #[test]
    fn a_result_is_told_as_openai_would() {
        let told =
            |body: &str| answer(body.as_bytes(), 5).map(|told| serde_json::from_slice::<Value>(&told).expect("JSON"));
        let body = r#"{"images":[{"url":"https://e.org/1"},{"url":"data:image/png;base64,YQ=="}],"seed":1}"#;
        let expected = json!({"created": 5, "data": [{"url": "https://e.org/1"}, {"b64_json": "YQ=="}]});
        assert_eq!(told(body), Ok(expected));
        assert_eq!(told(r#"{"image":{"url":"u"}}"#), Ok(json!({"created": 5, "data": [{"url": "u"}]})));
        assert!(told("{}").is_err() && told(r#"{"images":[]}"#).is_err() && told("no").is_err());
    }

    #[test]
    fn errors_keep_their_message_and_their_field() {
        let told = |body: &[u8]| serde_json::from_slice::<Value>(&error(body)).expect("JSON")["error"].clone();
        let list = br#"{"detail":[{"loc":["body","image_size"],"msg":"too large","type":"value_error"}]}"#;
        let told_of_list = told(list);
        assert_eq!((&told_of_list["message"], &told_of_list["param"]), (&json!("too large"), &json!("size")));
        let text = told(br#"{"detail":"User is locked.","error_type":"forbidden"}"#);
        assert_eq!((&text["message"], &text["code"]), (&json!("User is locked."), &json!("forbidden")));
        assert!(told(b"<html>")["message"].as_str().is_some_and(|message| !message.is_empty()));
    }

    #[test]
    fn a_ticket_leads_to_its_own_request_and_nowhere_else() {
        let ticket = Ticket::read(br#"{"request_id":"80e7-32_a","status_url":"https://evil"}"#, "fal-ai/flux/dev");
        assert_eq!(ticket.map(|ticket| ticket.path()).as_deref(), Some("/fal-ai/flux/requests/80e7-32_a"));
        for id in ["", "../x", "a/b", "a?b", &"x".repeat(129)] {
            assert_eq!(Ticket::of(id.to_owned(), "fal-ai/flux"), None, "{id}");
        }
        assert_eq!(Ticket::of("a".into(), "flux"), None);
    }

    #[test]
    fn progress_is_read() {
        assert_eq!(progress(br#"{"status":"IN_QUEUE","queue_position":3}"#), Some(Progress::UnderWay));
        assert_eq!(progress(br#"{"status":"COMPLETED","metrics":{}}"#), Some(Progress::Done));
        assert_eq!(progress(br#"{"status":"COMPLETED","error":"boom"}"#), Some(Progress::Failed));
        assert_eq!(progress(b"<html>"), None);
    }
}
