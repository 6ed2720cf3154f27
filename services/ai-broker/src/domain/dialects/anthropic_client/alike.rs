//! Chunks that differ from the last one in their text alone, as most of a stream do: known by their bytes, and not parsed.

use super::super::json::Text;
use super::super::wire::{ChatAnswer, ChatMessage, Choice};

/// Longer chunks are parsed, so that a stream's memory stays small.
const LONGEST: usize = 4 << 10;

/// What stands before and after the text of a chunk that adds text and does nothing else.
#[derive(Debug)]
pub(super) struct Alike {
    before: Box<[u8]>,
    after: Box<[u8]>,
}

impl Alike {
    /// Of this chunk, as it stands in `data`; none if it does more than to add text.
    pub(super) fn to(chunk: &ChatAnswer<'_>, data: &[u8]) -> Option<Self> {
        let ChatAnswer { choices: Some(choices), usage: None, error: None, .. } = chunk else { return None };
        let [Choice { delta: Some(delta), finish_reason: None, stop_reason: None, .. }] = &choices[..] else {
            return None;
        };
        let ChatMessage {
            content: Some(content),
            refusal: None,
            tool_calls: None,
            reasoning_content: None,
            reasoning: None,
            thinking_blocks: None,
            ..
        } = delta
        else {
            return None;
        };
        let text = Text::of(content)?.literal();
        let start = (text.as_ptr() as usize).checked_sub(data.as_ptr() as usize)?;
        let end = start + text.len();
        let is_there = data.len() <= LONGEST && data.get(start..end) == Some(text.as_bytes());
        is_there.then(|| Self { before: data[..start].into(), after: data[end..].into() })
    }

    /// The text of a chunk that is like this one; none if it is another one, has none, or one with escapes in it.
    pub(super) fn text<'a>(&self, data: &'a [u8]) -> Option<Text<'a>> {
        let text = data.strip_prefix(&*self.before)?.strip_suffix(&*self.after)?;
        Text::plain(text).filter(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: &str =
        r#"{"id":"c","choices":[{"index":0,"delta":{"content":"one"},"finish_reason":null}],"usage":null}"#;

    fn alike(data: &str) -> Option<Alike> {
        Alike::to(&serde_json::from_str(data).expect("a chunk"), data.as_bytes())
    }

    #[test]
    fn a_chunk_with_another_text_is_known_and_every_other_one_is_not() {
        let known = alike(CHUNK).expect("a chunk of text");
        let text = |data: &str| known.text(data.as_bytes()).map(|text| text.literal().to_owned());
        assert_eq!(text(&CHUNK.replace("one", "zwölf und mehr")).as_deref(), Some("\"zwölf und mehr\""));
        for other in [
            CHUNK.replace("one", ""),
            CHUNK.replace("one", "a\\n"),
            CHUNK.replace("one", "a\u{1}"),
            CHUNK.replace("one", r#"","refusal":"no"#),
            CHUNK.replace("\"one\"", "null"),
            CHUNK.replace("\"one\"", "\""),
            CHUNK.replace("\"c\"", "\"d\""),
            CHUNK.replace("finish_reason\":null", "finish_reason\":\"stop\""),
            CHUNK.replace("usage\":null", "usage\":{}"),
        ] {
            assert_eq!(text(&other), None, "{other}");
        }
        let mut broken = CHUNK.as_bytes().to_vec();
        broken[CHUNK.find("one").expect("it is there")] = 0xff;
        assert!(known.text(&broken).is_none(), "what is no text is for the parser to refuse");
    }

    #[test]
    fn what_does_more_than_to_add_text_is_no_example() {
        let with = |delta: &str| format!(r#"{{"choices":[{{"delta":{{"content":"one"{delta}}}}}]}}"#);
        assert!(alike(&with("")).is_some());
        for more in [
            r#","refusal":"no""#,
            r#","reasoning_content":"hm""#,
            r#","reasoning":"hm""#,
            r#","thinking_blocks":[]"#,
            r#","tool_calls":[]"#,
        ] {
            assert!(alike(&with(more)).is_none(), "{more}");
        }
        for other in [
            CHUNK.replace("finish_reason\":null", "finish_reason\":\"stop\""),
            CHUNK.replace("usage\":null", "usage\":{}"),
            CHUNK.replace("\"one\"", "null"),
            CHUNK.replace("\"one\"", "[]"),
            CHUNK.replace("}],", r#"},{"index":1}],"#),
            CHUNK.replace("one", &"x".repeat(LONGEST)),
        ] {
            assert!(alike(&other).is_none());
        }
    }
}
