//! Errors of one dialect in the shape of the other: class for class, so that a client's own handling fits.

use super::json::{Object, Raw, Text, read};
use super::wire::{ErrorDetail, object_of_error};

/// Anthropic's class of error, OpenAI's, and OpenAI's code.
const CLASSES: [(&str, &str, Option<&str>); 9] = [
    ("invalid_request_error", "invalid_request_error", None),
    ("authentication_error", "invalid_request_error", Some("invalid_api_key")),
    ("billing_error", "insufficient_quota", Some("insufficient_quota")),
    ("permission_error", "invalid_request_error", Some("permission_denied")),
    ("not_found_error", "invalid_request_error", Some("model_not_found")),
    ("request_too_large", "invalid_request_error", Some("request_too_large")),
    ("rate_limit_error", "requests", Some("rate_limit_exceeded")),
    ("overloaded_error", "server_error", Some("overloaded")),
    ("api_error", "server_error", None),
];
/// What is said where the provider said nothing that can be read.
const SILENT: &str = "\"The provider failed without saying why.\"";

/// The body of an error of Anthropic's, `{"type":"error","error":{…}}`, in OpenAI's shape.
#[must_use]
pub fn to_chat(body: &[u8]) -> String {
    chat_from_messages(object_of_error(body))
}

/// The body of an error of OpenAI's, `{"error":{…}}`, in Anthropic's shape.
#[must_use]
pub fn to_messages(body: &[u8]) -> String {
    messages_from_chat(object_of_error(body))
}

pub(super) fn chat_from_messages(error: Option<Raw<'_>>) -> String {
    let error: ErrorDetail<'_> = error.and_then(|error| read(error).ok()).unwrap_or_default();
    let class = error.kind.as_deref().unwrap_or("api_error");
    let (_, kind, code) = CLASSES.iter().find(|(own, ..)| *own == class).unwrap_or(&CLASSES[8]);
    let mut out = String::with_capacity(160);
    let mut object = Object::open(&mut out);
    let mut inner = Object::open(object.field("error"));
    inner.raw("message", error.message.map_or(SILENT, Text::literal)).string("type", kind).raw("param", "null");
    match code {
        Some(code) => inner.string("code", code),
        None => inner.raw("code", "null"),
    };
    inner.close();
    object.close();
    out
}

pub(super) fn messages_from_chat(error: Option<Raw<'_>>) -> String {
    let error: ErrorDetail<'_> = error.and_then(|error| read(error).ok()).unwrap_or_default();
    let code = error.code.and_then(Text::of).and_then(|code| code.decoded().ok());
    let kind = error.kind.as_deref().unwrap_or_default();
    let by_code = CLASSES.iter().find(|(_, _, own)| own.is_some() && *own == code.as_deref());
    let class = match (by_code, kind) {
        (Some((class, ..)), _) => class,
        (None, "tokens" | "requests" | "rate_limit_error") => "rate_limit_error",
        (None, "insufficient_quota") => "billing_error",
        (None, "invalid_request_error") => "invalid_request_error",
        (None, "authentication_error") => "authentication_error",
        (None, "permission_error") => "permission_error",
        (None, "not_found_error") => "not_found_error",
        (None, _) => "api_error",
    };
    let mut out = String::with_capacity(160);
    let mut object = Object::open(&mut out);
    object.raw("type", "\"error\"");
    let mut inner = Object::open(object.field("error"));
    inner.string("type", class).raw("message", error.message.map_or(SILENT, Text::literal));
    inner.close();
    object.close();
    out
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn classes_survive_the_way_there_and_back() {
        for (class, ..) in CLASSES {
            let body =
                format!(r#"{{"type":"error","error":{{"type":"{class}","message":"no \"x\""}},"request_id":"r"}}"#);
            let back: Value = serde_json::from_str(&to_messages(to_chat(body.as_bytes()).as_bytes())).expect("JSON");
            assert_eq!(
                (&back["error"]["type"], &back["error"]["message"]),
                (&Value::from(class), &Value::from("no \"x\""))
            );
        }
    }

    #[test]
    fn openais_errors_keep_their_class() {
        for (error, class) in [
            (
                r#"{"error":{"message":"m","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
                "rate_limit_error",
            ),
            (r#"{"error":{"message":"m","type":"insufficient_quota","code":"insufficient_quota"}}"#, "billing_error"),
            (
                r#"{"error":{"message":"m","type":"invalid_request_error","param":"n","code":null}}"#,
                "invalid_request_error",
            ),
            (r#"{"error":{"message":"m","code":503}}"#, "api_error"),
            ("<html>", "api_error"),
        ] {
            let told: Value = serde_json::from_str(&to_messages(error.as_bytes())).expect("JSON");
            assert_eq!(
                (&told["type"], &told["error"]["type"]),
                (&Value::from("error"), &Value::from(class)),
                "{error}"
            );
        }
    }
}
