//! Inline media in messages: their bytes are not text, so they are not counted as tokens byte by byte.

use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What of a body is media.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Media {
    /// Bytes of inline data (`data:` URLs, base64 audio and files).
    pub(crate) bytes: usize,
    /// Parts that are not text, inline or by reference.
    pub(crate) parts: usize,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow)]
    image_url: Option<&'a RawValue>,
    #[serde(borrow)]
    input_audio: Option<&'a RawValue>,
    #[serde(borrow)]
    file: Option<&'a RawValue>,
    /// Of a response's input.
    #[serde(borrow)]
    file_data: Option<&'a RawValue>,
    /// Of Anthropic's pictures and documents.
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    /// What a tool of Anthropic's answered has parts of its own.
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

/// Whether a body can have media in it, in OpenAI's words.
pub(crate) fn may_be_in_chat(body: &[u8]) -> bool {
    find!(body, b"image_url").or_else(|| find!(body, b"input_audio")).or_else(|| find!(body, b"\"file\"")).is_some()
}

/// The same of a response's input.
pub(crate) fn may_be_in_response(body: &[u8]) -> bool {
    find!(body, b"image_url").or_else(|| find!(body, b"file_data")).is_some()
}

/// The same in Anthropic's words.
pub(crate) fn may_be_in_messages(body: &[u8]) -> bool {
    find!(body, b"\"source\"").is_some()
}

/// Finds the media in `messages`. A body that can't have any is not read a second time.
pub(crate) fn measure(body: &[u8], messages: Option<&RawValue>, may_have_media: fn(&[u8]) -> bool) -> Media {
    let messages: Option<Vec<Message<'_>>> = match messages {
        Some(raw) if may_have_media(body) => serde_json::from_str(raw.get()).ok(),
        _ => None,
    };
    let mut media = Media::default();
    for message in messages.into_iter().flatten() {
        let parts = parts(message.content);
        let answered = parts.iter().flat_map(|part| self::parts(part.content)).collect::<Vec<_>>();
        for part in parts.iter().chain(&answered) {
            for raw in [part.image_url, part.input_audio, part.file, part.file_data, part.source].into_iter().flatten()
            {
                media.parts += 1;
                media.bytes += inline_bytes(raw.get());
            }
        }
    }
    media
}

/// None if the content is text.
fn parts(content: Option<&RawValue>) -> Vec<Part<'_>> {
    content.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

/// The bytes of inline data in one part: the whole part less what could be text, which is small.
fn inline_bytes(part: &str) -> usize {
    let is_inline = memmem::find(part.as_bytes(), b"data:").is_some()
        || memmem::find(part.as_bytes(), b"\"data\"").is_some()
        || memmem::find(part.as_bytes(), b"\"file_data\"").is_some();
    if is_inline { part.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(messages: &str) -> Media {
        let raw = RawValue::from_string(messages.to_owned()).expect("JSON");
        measure(messages.as_bytes(), Some(&raw), may_be_in_chat)
    }

    #[test]
    fn inline_pictures_are_not_text() {
        let url = format!("data:image/png;base64,{}", "A".repeat(10_000));
        let media = measured(&format!(
            r#"[{{"role":"user","content":[{{"type":"text","text":"what?"}},{{"type":"image_url","image_url":{{"url":"{url}"}}}}]}}]"#
        ));
        assert_eq!(media.parts, 1);
        assert!(media.bytes >= 10_000 && media.bytes < 10_100, "{}", media.bytes);
    }

    #[test]
    fn a_picture_by_reference_counts_as_a_part_without_bytes() {
        let media = measured(r#"[{"content":[{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}]}]"#);
        assert_eq!(media, Media { bytes: 0, parts: 1 });
    }

    #[test]
    fn text_that_speaks_of_pictures_is_text() {
        assert_eq!(measured(r#"[{"content":"image_url data:image/png;base64,AAAA"}]"#), Media::default());
        assert_eq!(measured(r#"[{"content":[{"type":"text","text":"image_url data:"}]}]"#), Media::default());
    }
}
