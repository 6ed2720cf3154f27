//! What a step takes from the results of earlier ones: `{"$from": "{step}#{pointer}"}` in its body stands for the value at the JSON
//! Pointer (RFC 6901) in that step's result.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;

const FROM: &str = "$from";

/// A reference, read.
#[derive(Debug, PartialEq, Eq)]
struct Reference<'a> {
    step: &'a str,
    pointer: &'a str,
}

/// The reference that `value` is, if it is one; an object with another use of `$from` is a mistake.
fn reference(value: &Value) -> Option<Result<Reference<'_>, String>> {
    let object = value.as_object()?;
    let from = object.get(FROM)?;
    let parts = from.as_str().filter(|_| object.len() == 1).and_then(|text| text.split_once('#'));
    let Some((step, pointer)) = parts.filter(|(_, pointer)| pointer.is_empty() || pointer.starts_with('/')) else {
        return Some(Err(format!("a reference is {{\"{FROM}\": \"step#/pointer\"}}, not {value}")));
    };
    Some(Ok(Reference { step, pointer }))
}

/// Whether a body has nothing to be filled in.
pub(crate) fn is_resolved(body: &RawValue) -> bool {
    !body.get().contains("\"$from\"")
}

/// Refuses references to steps that are not `earlier`.
///
/// # Errors
/// What is wrong with the first one.
pub(super) fn check(body: &RawValue, earlier: &[&str]) -> Result<(), String> {
    if is_resolved(body) {
        return Ok(());
    }
    let mut value: Value = serde_json::from_str(body.get()).map_err(|error| error.to_string())?;
    replace(&mut value, &mut |reference| {
        let known = earlier.contains(&reference.step);
        known.then_some(Value::Null).ok_or_else(|| format!("`{}` is no earlier step", reference.step))
    })
}

/// The body with its references filled in from `results`, which are by the steps' keys.
///
/// # Errors
/// A result has nothing at the pointer, or is no JSON.
pub(crate) fn resolve(body: &RawValue, results: &BTreeMap<String, Bytes>) -> Result<Bytes, String> {
    if is_resolved(body) {
        return Ok(Bytes::copy_from_slice(body.get().as_bytes()));
    }
    let mut value: Value = serde_json::from_str(body.get()).map_err(|error| error.to_string())?;
    let mut read: BTreeMap<&str, Value> = BTreeMap::new();
    replace(&mut value, &mut |Reference { step, pointer }| {
        let (key, bytes) = results.get_key_value(step).ok_or_else(|| format!("`{step}` has no result"))?;
        if !read.contains_key(key.as_str()) {
            let result = serde_json::from_slice(bytes).map_err(|_| format!("the result of `{step}` is no JSON"))?;
            read.insert(key, result);
        }
        let found = read.get(key.as_str()).and_then(|result| result.pointer(pointer)).cloned();
        found.ok_or_else(|| format!("the result of `{step}` has nothing at `{pointer}`"))
    })?;
    serde_json::to_vec(&value).map(Bytes::from).map_err(|error| error.to_string())
}

/// Replaces each reference; what comes in its place is not looked into.
fn replace(value: &mut Value, with: &mut impl FnMut(Reference<'_>) -> Result<Value, String>) -> Result<(), String> {
    if let Some(reference) = reference(value) {
        *value = with(reference?)?;
        return Ok(());
    }
    match value {
        Value::Array(items) => items.iter_mut().try_for_each(|item| replace(item, with)),
        Value::Object(fields) => fields.values_mut().try_for_each(|field| replace(field, with)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.into()).expect("JSON")
    }

    fn results() -> BTreeMap<String, Bytes> {
        let json = br#"{"choices":[{"message":{"content":"a \"ring\"","$from":"x"}}],"a/b":2}"#;
        [("write".to_owned(), Bytes::from_static(json)), ("speak".to_owned(), Bytes::from_static(b"\xff"))].into()
    }

    #[test]
    fn references_are_filled_in_and_nothing_else_is_touched() {
        let body =
            raw(r#"{"prompt":{"$from":"write#/choices/0/message/content"},"n":[{"$from":"write#/a~1b"}],"x":1}"#);
        let resolved = resolve(&body, &results()).expect("resolved");
        assert_eq!(resolved, r#"{"prompt":"a \"ring\"","n":[2],"x":1}"#);
        let plain = r#"{"seed": 12345678901234567890.10 }"#;
        assert_eq!(resolve(&raw(plain), &results()).expect("as it was"), plain);
    }

    #[test]
    fn what_a_result_says_is_never_taken_for_a_reference() {
        let resolved = resolve(&raw(r#"{"$from":"write#/choices/0/message"}"#), &results()).expect("resolved");
        assert_eq!(resolved, r#"{"content":"a \"ring\"","$from":"x"}"#);
    }

    #[test]
    fn what_leads_nowhere_is_said() {
        for (body, part) in [
            (r#"{"$from":"write#/nothing"}"#, "nothing at `/nothing`"),
            (r#"{"$from":"speak#"}"#, "no JSON"),
            (r#"{"$from":"other#"}"#, "`other` has no result"),
        ] {
            assert!(resolve(&raw(body), &results()).expect_err(body).contains(part), "{body}");
        }
        for body in
            [r#"{"$from":1}"#, r#"{"$from":"write"}"#, r##"{"$from":"write#x"}"##, r#"{"$from":"write#","a":1}"#]
        {
            assert!(check(&raw(body), &["write"]).is_err(), "{body}");
        }
        assert_eq!(check(&raw(r#"[{"$from":"write#"}]"#), &["write"]), Ok(()));
        assert!(check(&raw(r#"{"$from":"later#"}"#), &["write"]).is_err());
    }
}
