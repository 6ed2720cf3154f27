//! JSON that is read by reference and written by hand.

use std::borrow::Cow;
use std::fmt::{self, Write};

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde_json::value::RawValue;

use super::error::TranslateError;

/// A JSON value as it stands in the body.
pub(super) type Raw<'a> = &'a RawValue;

/// A JSON string as it stands in the body, quotes and escapes included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    pub(super) const EMPTY: Text<'static> = Text("\"\"");

    /// Nothing if the value is not a string.
    pub(super) fn of(raw: Raw<'a>) -> Option<Self> {
        raw.get().starts_with('"').then_some(Self(raw.get()))
    }

    /// A whole literal, if it is a string without escapes.
    pub(super) fn plain(literal: &'a [u8]) -> Option<Self> {
        let inner = literal.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        let is_plain = inner.iter().all(|&byte| byte >= b' ' && byte != b'"' && byte != b'\\');
        std::str::from_utf8(literal).ok().filter(|_| is_plain).map(Self)
    }

    /// With its quotes.
    pub(super) fn literal(self) -> &'a str {
        self.0
    }

    /// Without its quotes, still escaped.
    pub(super) fn inner(self) -> &'a str {
        &self.0[1..self.0.len() - 1]
    }

    pub(super) fn is_empty(self) -> bool {
        self.0.len() == 2
    }

    /// What it says.
    pub(super) fn decoded(self) -> Result<Cow<'a, str>, TranslateError> {
        if self.0.contains('\\') {
            Ok(Cow::Owned(serde_json::from_str(self.0)?))
        } else {
            Ok(Cow::Borrowed(self.inner()))
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?;
        Text::of(raw).ok_or_else(|| D::Error::custom("expected a string"))
    }
}

/// A short string, decoded: borrowed unless it has escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word<'a>(pub(super) Cow<'a, str>);

impl std::ops::Deref for Word<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Word<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordVisitor;
        impl<'de> Visitor<'de> for WordVisitor {
            type Value = Word<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Word<'de>, E> {
                Ok(Word(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Word<'de>, E> {
                Ok(Word(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(WordVisitor)
    }
}

/// A struct of optional fields of a JSON object. `null` is the same as nothing, and the first field that is not known is kept by
/// name, so that it can be refused by name.
macro_rules! object {
    ($(#[$doc:meta])* $name:ident { $($key:literal $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(super) struct $name<'a> {
            $(pub(super) $field: Option<$type>,)*
            pub(super) unknown: Option<$crate::domain::dialects::json::Word<'a>>,
        }

        impl<'de: 'a, 'a> serde::de::Deserialize<'de> for $name<'a> {
            fn deserialize<D: serde::de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Fields<'a>(std::marker::PhantomData<&'a ()>);
                impl<'de: 'a, 'a> serde::de::Visitor<'de> for Fields<'a> {
                    type Value = $name<'a>;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                        let mut object = $name::default();
                        while let Some(key) = map.next_key::<$crate::domain::dialects::json::Word<'de>>()? {
                            match &*key {
                                $($key => {
                                    object.$field = map.next_value().map_err(|error| {
                                        serde::de::Error::custom(format_args!("`{}`: {error}", $key))
                                    })?;
                                })*
                                _ => {
                                    if map.next_value::<Option<serde::de::IgnoredAny>>()?.is_some() {
                                        object.unknown.get_or_insert(key);
                                    }
                                }
                            }
                        }
                        Ok(object)
                    }
                }
                deserializer.deserialize_map(Fields(std::marker::PhantomData))
            }
        }

        impl $name<'_> {
            /// Refuses what is not known.
            #[allow(dead_code, reason = "answers are read without refusing anything")]
            pub(super) fn refuse_unknown(&self) -> Result<(), $crate::domain::dialects::error::TranslateError> {
                match &self.unknown {
                    Some(name) => Err($crate::domain::dialects::error::TranslateError::unknown(name)),
                    None => Ok(()),
                }
            }
        }
    };
}
pub(super) use object;

/// Writes a JSON object field by field.
#[derive(Debug)]
pub(super) struct Object<'o> {
    out: &'o mut String,
    empty: bool,
}

impl<'o> Object<'o> {
    pub(super) fn open(out: &'o mut String) -> Self {
        out.push('{');
        Self { out, empty: true }
    }

    /// The place of a field's value.
    pub(super) fn field(&mut self, name: &str) -> &mut String {
        self.out.push_str(if self.empty { "\"" } else { ",\"" });
        self.empty = false;
        self.out.push_str(name);
        self.out.push_str("\":");
        self.out
    }

    /// A value that is JSON already.
    pub(super) fn raw(&mut self, name: &str, json: &str) -> &mut Self {
        self.field(name).push_str(json);
        self
    }

    /// A string, escaped.
    pub(super) fn string(&mut self, name: &str, text: &str) -> &mut Self {
        quote(self.field(name), text);
        self
    }

    pub(super) fn number(&mut self, name: &str, number: impl fmt::Display) -> &mut Self {
        let _ = write!(self.field(name), "{number}");
        self
    }

    /// More of the value that was begun last.
    pub(super) fn append(&mut self, json: &str) {
        self.out.push_str(json);
    }

    pub(super) fn close(self) {
        self.out.push('}');
    }

    /// [`Object::close`], at the end of a chain.
    pub(super) fn end(&mut self) {
        self.out.push('}');
    }
}

/// Appends a string as JSON.
pub(super) fn quote(out: &mut String, text: &str) {
    out.push('"');
    escape(out, text);
    out.push('"');
}

/// Appends what stands between the quotes of a JSON string (RFC 8259, 7).
pub(super) fn escape(out: &mut String, text: &str) {
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[plain..at]);
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            byte => {
                let _ = write!(out, "\\u{byte:04x}");
            }
        }
        plain = at + 1;
    }
    out.push_str(&text[plain..]);
}

/// Separates the elements of an array that is being written.
pub(super) fn comma(out: &mut String) {
    if !out.ends_with('[') {
        out.push(',');
    }
}

/// Reads a value that stands in another.
pub(super) fn read<'a, T: Deserialize<'a>>(raw: Raw<'a>) -> Result<T, TranslateError> {
    Ok(serde_json::from_str(raw.get())?)
}

/// Whether a value says nothing: `null`, `false`, `0`, an empty list, object or string.
pub(super) fn is_nothing(raw: Raw<'_>) -> bool {
    match raw.get() {
        "null" | "false" | "0" | "0.0" | "-0" | "\"\"" => true,
        text if text.starts_with(['[', '{']) => text[1..text.len() - 1].trim_ascii().is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_quoted_reads_back(text in any::<String>()) {
            let mut out = String::new();
            quote(&mut out, &text);
            prop_assert_eq!(serde_json::from_str::<String>(&out).expect("JSON"), text);
        }
    }

    #[test]
    fn a_text_is_kept_as_it_stands() {
        let raw = RawValue::from_string(r#""a\u0041\n\"""#.to_owned()).expect("JSON");
        let text = Text::of(&raw).expect("a string");
        assert_eq!(text.inner(), r#"a\u0041\n\""#);
        assert_eq!(text.decoded().expect("valid"), "aA\n\"");
        let number = RawValue::from_string("1".to_owned()).expect("JSON");
        assert!(Text::of(&number).is_none());
    }
}
