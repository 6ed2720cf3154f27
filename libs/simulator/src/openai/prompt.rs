//! What a chat request asks for, read in one pass: texts are counted where they stand, and nothing is kept that is not needed.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::errors;
use crate::refusal::Refusal;
use crate::text::count_words;

/// The most output tokens that are produced for one choice.
const MOST_OUTPUT: i64 = 10_000_000;
/// The most choices, as at OpenAI.
const MOST_CHOICES: i64 = 128;

/// A chat request.
#[derive(Debug)]
pub(crate) struct Prompt {
    pub(crate) model: String,
    pub(crate) words: u64,
    pub(crate) images: u64,
    /// The most output tokens per choice, if the request says so.
    pub(crate) max_output: Option<u64>,
    pub(crate) choices: u64,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) shape: Shape,
    pub(crate) service_tier: Option<String>,
    pub(crate) simulate: Option<String>,
}

/// What the tokens of an answer are packed into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The message's text.
    Text,
    /// A JSON object in the message's text.
    Json,
    /// The arguments of a call of this function; the name is a JSON string.
    Tool(Box<str>),
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    messages: Option<Vec<Message>>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    n: Option<i64>,
    tools: Option<Vec<Tool>>,
    tool_choice: Option<ToolChoice>,
    response_format: Option<ResponseFormat>,
    service_tier: Option<String>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Content,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Tool {
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    name: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ToolChoice {
    Mode(String),
    Named { function: Function },
    Other(IgnoredAny),
}

#[derive(Deserialize)]
struct ResponseFormat {
    r#type: Option<String>,
}

/// Where the directive travels; other entries are the client's own.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) simulate: Option<String>,
}

/// The size of a message's content: a text, or parts of text and images.
#[derive(Debug, Clone, Copy, Default)]
struct Content {
    words: u64,
    images: u64,
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;
        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of objects")
            }

            fn visit_str<E>(self, text: &str) -> Result<Content, E> {
                Ok(Content { words: count_words(text), images: 0 })
            }

            fn visit_unit<E>(self) -> Result<Content, E> {
                Ok(Content::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content, A::Error> {
                let mut sum = Content::default();
                while let Some(Part(part)) = parts.next_element()? {
                    sum = Content { words: sum.words + part.words, images: sum.images + part.images };
                }
                Ok(sum)
            }
        }
        deserializer.deserialize_any(ContentVisitor)
    }
}

/// One part of a message's content.
struct Part(Content);

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PartVisitor;
        impl<'de> Visitor<'de> for PartVisitor {
            type Value = Part;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Part, A::Error> {
                let mut part = Content::default();
                while let Some(field) = fields.next_key::<Cow<'de, str>>()? {
                    match &*field {
                        "text" => part.words = fields.next_value::<Content>()?.words,
                        "image_url" => {
                            fields.next_value::<IgnoredAny>()?;
                            part.images = 1;
                        }
                        _ => drop(fields.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(Part(part))
            }
        }
        deserializer.deserialize_map(PartVisitor)
    }
}

impl Prompt {
    /// Reads a request's body.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Refusal> {
        let body: Body<'_> = read_json(body)?;
        let model = required_model(body.model)?;
        let messages = body.messages.ok_or_else(|| errors::missing("messages"))?;
        if messages.is_empty() {
            let message = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.";
            return Err(Refusal::invalid(message).param("messages").code("empty_array"));
        }
        let max_tokens = within("max_tokens", body.max_tokens, MOST_OUTPUT)?;
        let max_output = within("max_completion_tokens", body.max_completion_tokens, MOST_OUTPUT)?.or(max_tokens);
        let stream = body.stream.unwrap_or(false);
        if body.stream_options.is_some() && !stream {
            let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
            return Err(Refusal::invalid(message).param("stream_options"));
        }
        Ok(Self {
            words: messages.iter().map(|message| message.content.words).sum(),
            images: messages.iter().map(|message| message.content.images).sum(),
            max_output,
            choices: within("n", body.n, MOST_CHOICES)?.unwrap_or(1),
            stream,
            include_usage: body.stream_options.and_then(|options| options.include_usage).unwrap_or(false),
            service_tier: body.service_tier,
            shape: shape(body.tools, body.tool_choice, body.response_format)?,
            simulate: body.metadata.and_then(|metadata| metadata.simulate),
            model,
        })
    }
}

/// Reads JSON, and says what is wrong with it as OpenAI does.
pub(crate) fn read_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        if error.is_data() {
            Refusal::invalid(format!("Invalid type in the request body: {error}.")).code("invalid_type")
        } else {
            Refusal::invalid(
                "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library \
                 correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)",
            )
        }
    })
}

pub(crate) fn required_model(model: Option<Cow<'_, str>>) -> Result<String, Refusal> {
    model
        .filter(|model| !model.is_empty())
        .map(Cow::into_owned)
        .ok_or_else(|| Refusal::invalid("you must provide a model parameter"))
}

/// A number from 1 to `most`.
pub(crate) fn within(param: &'static str, value: Option<i64>, most: i64) -> Result<Option<u64>, Refusal> {
    let Some(value) = value else { return Ok(None) };
    let wrong = |what, sign, bound| {
        let message = format!(
            "Invalid '{param}': integer {what} value. Expected a value {sign} {bound}, but got {value} instead."
        );
        Refusal::invalid(message).param(param)
    };
    if value < 1 {
        return Err(wrong("below minimum", ">=", 1).code("integer_below_min_value"));
    }
    if value > most {
        return Err(wrong("above maximum", "<=", most).code("integer_above_max_value"));
    }
    Ok(u64::try_from(value).ok())
}

/// A tool is called when the request demands it: `required`, or a named function.
fn shape(
    tools: Option<Vec<Tool>>,
    choice: Option<ToolChoice>,
    format: Option<ResponseFormat>,
) -> Result<Shape, Refusal> {
    let mut names = tools.into_iter().flatten().filter_map(|tool| tool.function).map(|function| function.name);
    let named = match choice {
        Some(ToolChoice::Mode(mode)) if mode == "required" => match names.next() {
            Some(name) => Some(name),
            None => {
                return Err(
                    Refusal::invalid("'tool_choice' is only allowed when 'tools' are specified.").param("tool_choice")
                );
            }
        },
        Some(ToolChoice::Named { function }) => match names.find(|name| *name == function.name) {
            Some(name) => Some(name),
            None => {
                let message = format!("Tool choice '{}' not found in 'tools' parameter.", function.name);
                return Err(Refusal::invalid(message).param("tool_choice"));
            }
        },
        Some(ToolChoice::Mode(_) | ToolChoice::Other(_)) | None => None,
    };
    Ok(match named {
        Some(name) => Shape::Tool(serde_json::Value::from(name).to_string().into_boxed_str()),
        None if format.is_some_and(|format| format.r#type.is_some_and(|kind| kind.starts_with("json"))) => Shape::Json,
        None => Shape::Text,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;

    #[test]
    fn words_and_images_of_all_messages_are_counted() {
        let body = br#"{"model":"m","max_tokens":3,"x":{"text":"not counted"},"messages":[
            {"role":"system","content":"two words"},
            {"role":"assistant","content":null,"tool_calls":[]},
            {"role":"user","content":[{"type":"text","text":"one \u0061 \"two\""},{"type":"image_url","image_url":{"url":"data:a b c"}}]}]}"#;
        let prompt = Prompt::read(body).unwrap();
        assert_eq!((prompt.words, prompt.images, prompt.max_output, prompt.shape), (5, 1, Some(3), Shape::Text));
    }

    #[test]
    fn what_is_wrong_is_named_as_openai_names_it() {
        let code = |body: &str| Prompt::read(body.as_bytes()).unwrap_err().code;
        assert_eq!(code(r#"{"model":"m"}"#).as_deref(), Some("missing_required_parameter"));
        assert_eq!(code(r#"{"model":"m","messages":[]}"#).as_deref(), Some("empty_array"));
        assert_eq!(code(r#"{"model":"m","messages":[{}],"n":0}"#).as_deref(), Some("integer_below_min_value"));
        assert_eq!(code(r#"{"model":"m","messages":[{}],"n":129}"#).as_deref(), Some("integer_above_max_value"));
        assert_eq!(code(r#"{"model":"m","messages":[{}],"n":"1"}"#).as_deref(), Some("invalid_type"));
        assert_eq!(code("{").as_deref(), None);
    }

    #[test]
    fn a_tool_is_called_only_on_demand() {
        let shape = |rest: &str| {
            let tools =
                r#""tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"g"}}]"#;
            Prompt::read(format!(r#"{{"model":"m","messages":[{{}}],{tools}{rest}}}"#).as_bytes())
                .map(|prompt| prompt.shape)
        };
        assert_eq!(shape("").unwrap(), Shape::Text);
        assert_eq!(shape(r#","tool_choice":"auto""#).unwrap(), Shape::Text);
        assert_eq!(shape(r#","tool_choice":"required""#).unwrap(), Shape::Tool("\"f\"".into()));
        assert_eq!(
            shape(r#","tool_choice":{"type":"function","function":{"name":"g"}}"#).unwrap(),
            Shape::Tool("\"g\"".into())
        );
        assert!(shape(r#","tool_choice":{"type":"function","function":{"name":"h"}}"#).is_err());
    }
}
