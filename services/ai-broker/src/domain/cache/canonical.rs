//! One text for all JSON texts that say the same.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Deeper bodies are taken as they are.
const MAX_DEPTH: usize = 32;

/// The text without spaces, with the members of objects in the order of their names and strings without needless escapes; numbers
/// stay as they are written. `ignored` members of the whole are left out. What can't be told for sure to mean the same (an object
/// with one name twice, half a surrogate pair) is left as it is.
pub(crate) fn canonical(body: &[u8], ignored: &[String]) -> Vec<u8> {
    let mut text = Vec::with_capacity(body.len());
    match serde_json::from_slice::<&RawValue>(body) {
        Ok(raw) if write(&mut text, raw.get(), ignored, 0).is_some() => text,
        _ => body.to_vec(),
    }
}

fn write(text: &mut Vec<u8>, json: &str, ignored: &[String], depth: usize) -> Option<()> {
    match json.as_bytes().first()? {
        b'{' | b'[' if depth == MAX_DEPTH => return None,
        b'{' => {
            let Members(mut members) = serde_json::from_str(json).ok()?;
            members.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            if members.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                return None;
            }
            text.push(b'{');
            for (name, value) in members.iter().filter(|(name, _)| depth > 0 || !ignored.contains(name)) {
                serde_json::to_writer(&mut *text, name).ok()?;
                text.push(b':');
                write(text, value.get(), ignored, depth + 1)?;
                text.push(b',');
            }
            text.push(b'}');
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
            text.push(b'[');
            for item in items {
                write(text, item.get(), ignored, depth + 1)?;
                text.push(b',');
            }
            text.push(b']');
        }
        b'"' if json.contains('\\') => {
            let string: String = serde_json::from_str(json).ok()?;
            serde_json::to_writer(&mut *text, &string).ok()?;
        }
        _ => text.extend_from_slice(json.as_bytes()),
    }
    Some(())
}

/// An object's members in their order, repeated ones included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn of(text: &str) -> Vec<u8> {
        canonical(text.as_bytes(), &["user".to_owned()])
    }

    #[test]
    fn what_says_the_same_has_one_text() {
        let one = of(r#"{"model":"m","messages":[{"role":"user","content":"Gr\u00fc\u00dfe\/"}],"n":1}"#);
        let other = of("{ \"n\":1, \"messages\" : [ {\"content\":\"Grüße/\",\n\"role\":\"user\"} ],\"model\":\"m\" }");
        assert_eq!(String::from_utf8(one).ok(), String::from_utf8(other).ok());
    }

    #[test]
    fn what_says_something_else_has_another() {
        let texts = [
            r#"{"a":1}"#,
            r#"{"a":1.0}"#,
            r#"{"a":"1"}"#,
            r#"{"a":[1]}"#,
            r#"{"a":[1,2]}"#,
            r#"{"a":[12]}"#,
            r#"{"a":[2,1]}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":null}"#,
            r#"{"a":18446744073709551616}"#,
            r#"{"a":18446744073709551617}"#,
            r#"{"a":1,"b":1}"#,
            r#"{"b":1}"#,
            "{}",
        ];
        let canonical: std::collections::HashSet<_> = texts.iter().map(|text| of(text)).collect();
        assert_eq!(canonical.len(), texts.len());
    }

    #[test]
    fn only_the_whole_loses_what_is_ignored() {
        assert_eq!(of(r#"{"a":1,"user":"u"}"#), of(r#"{"a":1}"#));
        assert_ne!(of(r#"{"a":{"user":"u"}}"#), of(r#"{"a":{}}"#));
    }

    #[test]
    fn what_is_doubtful_stays_as_it_is() {
        for text in [r#"{"a":1, "a":2}"#, "\"\\ud800\\u0041\" ", "not json", &"[".repeat(10_000)] {
            assert_eq!(of(text), text.as_bytes(), "{text:.20}");
        }
        let deep = format!("{}1{}", "[ ".repeat(40), " ]".repeat(40));
        assert_eq!(of(&deep), deep.as_bytes());
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[a-c\"\\\\é]{0,3}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn two_values_have_one_text_only_if_they_are_equal(a in values(), b in values()) {
            let same = of(&a.to_string()) == of(&b.to_string());
            let strip = |value: &Value| match value {
                Value::Object(members) => {
                    Value::Object(members.iter().filter(|(name, _)| *name != "user").map(|(k, v)| (k.clone(), v.clone())).collect())
                }
                other => other.clone(),
            };
            prop_assert_eq!(same, strip(&a) == strip(&b));
            prop_assert_eq!(of(&a.to_string()), of(&serde_json::to_string_pretty(&a).expect("json")));
        }
    }
}
