//! What is in an answer: pictures and sounds, as they are or by an address.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;

/// One of an answer's parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// Here it is.
    Bytes(Bytes),
    /// It is to be fetched.
    Url(String),
}

/// The parts of an answer: its body if it is no JSON; of JSON what OpenAI (`data[].b64_json`, `data[].url`) and FAL (`images[].url`,
/// `image.url`, `audio.url`) say.
///
/// # Errors
/// There is none, or one can't be read.
pub(crate) fn found(content_type: &str, body: &Bytes) -> Result<Vec<Found>, String> {
    if !content_type.starts_with("application/json") {
        return Ok(vec![Found::Bytes(body.clone())]);
    }
    let value: Value = serde_json::from_slice(body).map_err(|error| format!("the answer can't be read: {error}"))?;
    let lists = ["data", "images"].into_iter().filter_map(|name| value.get(name)?.as_array()).flatten();
    let single = ["image", "audio"].into_iter().filter_map(|name| value.get(name));
    let parts: Vec<Found> = lists.chain(single).filter_map(part).collect::<Result<_, _>>()?;
    if parts.is_empty() { Err("the answer has no picture and no sound in it".to_owned()) } else { Ok(parts) }
}

fn part(value: &Value) -> Option<Result<Found, String>> {
    if let Some(text) = value.get("b64_json").and_then(Value::as_str) {
        let bytes = STANDARD.decode(text).map_err(|_| "a picture of the answer is no base64".to_owned());
        return Some(bytes.map(|bytes| Found::Bytes(bytes.into())));
    }
    let url = value.get("url").and_then(Value::as_str)?;
    // FAL answers small pictures in the address itself.
    match url.split_once(";base64,").filter(|_| url.starts_with("data:")) {
        Some((_, text)) => {
            let bytes = STANDARD.decode(text).map_err(|_| "a picture of the answer is no base64".to_owned());
            Some(bytes.map(|bytes| Found::Bytes(bytes.into())))
        }
        None => Some(Ok(Found::Url(url.to_owned()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content_type: &str, body: &'static str) -> Result<Vec<Found>, String> {
        found(content_type, &Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn parts_are_found_in_every_dialect() {
        let bytes = |text: &'static str| Found::Bytes(Bytes::from_static(text.as_bytes()));
        let url = |text: &str| Found::Url(text.to_owned());
        assert_eq!(of("audio/mpeg", "sound"), Ok(vec![bytes("sound")]));
        assert_eq!(
            of("application/json", r#"{"data":[{"b64_json":"YQ=="},{"url":"https://e.org/1"}]}"#),
            Ok(vec![bytes("a"), url("https://e.org/1")])
        );
        assert_eq!(
            of("application/json", r#"{"images":[{"url":"https://e.org/2"},{"url":"data:image/png;base64,Yg=="}]}"#),
            Ok(vec![url("https://e.org/2"), bytes("b")])
        );
        assert_eq!(
            of("application/json; charset=utf-8", r#"{"audio":{"url":"https://e.org/3"}}"#),
            Ok(vec![url("https://e.org/3")])
        );
        for nothing in [r#"{"choices":[]}"#, r#"{"data":[{"b64_json":"?"}]}"#, "no json"] {
            assert!(of("application/json", nothing).is_err(), "{nothing}");
        }
    }
}
