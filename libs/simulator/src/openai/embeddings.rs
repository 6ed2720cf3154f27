//! `POST /v1/embeddings`: unit vectors, the same for the same input.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};

use super::completion::put;
use super::errors;
use super::prompt::{Metadata, read_json, required_model, within};
use crate::keys::Demand;
use crate::refusal::Refusal;
use crate::service::{Answered, Asking, Call, Output};
use crate::text::count_words;

/// The most inputs of one request, as at OpenAI.
const MOST_INPUTS: usize = 2_048;
const MOST_DIMENSIONS: i64 = 3_072;
/// How many different vectors there are of each length: enough to tell a mixed-up order.
const VARIANTS: u64 = 16;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    input: Option<Inputs>,
    encoding_format: Option<String>,
    dimensions: Option<i64>,
    metadata: Option<Metadata>,
}

/// One text, several, one list of tokens, or several.
struct Inputs(Vec<Input>);

#[derive(Debug, Clone, Copy)]
struct Input {
    tokens: u64,
    variant: u64,
}

/// An element of a list: a token, a text, or a list of tokens.
enum Element {
    Token(u64),
    Input(Input),
}

fn variant(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish() % VARIANTS
}

fn text(text: &str) -> Input {
    Input { tokens: count_words(text), variant: variant(&text) }
}

fn tokens(tokens: &[u64]) -> Input {
    Input { tokens: tokens.len() as u64, variant: variant(&tokens) }
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InputsVisitor;
        impl<'de> Visitor<'de> for InputsVisitor {
            type Value = Inputs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, an array of strings, an array of tokens or an array of arrays of tokens")
            }

            fn visit_str<E>(self, input: &str) -> Result<Inputs, E> {
                Ok(Inputs(vec![text(input)]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Inputs, A::Error> {
                let (mut inputs, mut ids) = (Vec::new(), Vec::new());
                while let Some(element) = elements.next_element()? {
                    match element {
                        Element::Token(id) => ids.push(id),
                        Element::Input(input) => inputs.push(input),
                    }
                }
                if !ids.is_empty() {
                    inputs.push(tokens(&ids));
                }
                Ok(Inputs(inputs))
            }
        }
        deserializer.deserialize_any(InputsVisitor)
    }
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementVisitor;
        impl<'de> Visitor<'de> for ElementVisitor {
            type Value = Element;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a token or an array of tokens")
            }

            fn visit_u64<E>(self, id: u64) -> Result<Element, E> {
                Ok(Element::Token(id))
            }

            fn visit_str<E>(self, input: &str) -> Result<Element, E> {
                Ok(Element::Input(text(input)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Element, A::Error> {
                let mut ids = Vec::new();
                while let Some(id) = elements.next_element::<u64>()? {
                    ids.push(id);
                }
                Ok(Element::Input(tokens(&ids)))
            }
        }
        deserializer.deserialize_any(ElementVisitor)
    }
}

pub(crate) async fn answer(call: &Call, body: Incoming) -> Answered {
    let bytes = call.read(body).await?;
    let body: Body<'_> = read_json(&bytes)?;
    let model = required_model(body.model)?;
    let inputs = body.input.ok_or_else(|| errors::missing("input"))?.0;
    if inputs.is_empty() || inputs.len() > MOST_INPUTS || inputs.iter().any(|input| input.tokens == 0) {
        return Err(Refusal::invalid("'$.input' is invalid. Please check the API reference.").param("input").into());
    }
    let base64 = match body.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => {
            return Err(Refusal::invalid("'encoding_format' is neither 'float' nor 'base64'.")
                .param("encoding_format")
                .into());
        }
    };
    let dimensions = within("dimensions", body.dimensions, MOST_DIMENSIONS)?;
    let dimensions = dimensions.unwrap_or(if model.contains("-3-large") { 3_072 } else { 1_536 });
    if !call.state.model_exists(&model) {
        return Err(errors::unknown_model(&model).into());
    }
    let tokens = inputs.iter().map(|input| input.tokens).sum();
    let simulate = body.metadata.and_then(|metadata| metadata.simulate);
    let demand = Demand::tokens(tokens, 0);
    let asking = Asking { simulate: simulate.as_deref(), demand, ..Asking::of("embeddings", &model) };
    let admitted =
        call.admit(asking).await.map_err(|ending| ending.charging(|admitted| admitted.entry.charge(tokens, 0)))?;
    admitted.entry.charge(tokens, 0);
    let usage = Some(tokens).filter(|_| !admitted.directive.without_usage);
    let vectors = inputs.iter().map(|input| call.state.embeddings.get(dimensions, input.variant, base64));
    let body = json(&admitted.entry.model().json, vectors, usage);
    Ok(call.respond(admitted, Output::json(body)))
}

fn json(model: &str, vectors: impl Iterator<Item = Bytes>, usage: Option<u64>) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 << 10);
    out.extend_from_slice(br#"{"object":"list","data":["#);
    for (index, vector) in vectors.enumerate() {
        put!(out, r#"{}{{"object":"embedding","index":{index},"embedding":"#, if index > 0 { "," } else { "" });
        out.extend_from_slice(&vector);
        out.push(b'}');
    }
    put!(out, r#"],"model":{model}"#);
    if let Some(tokens) = usage {
        put!(out, r#","usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}"#);
    }
    out.push(b'}');
    out
}

/// Vectors that were written once, as JSON: by length, variant and form.
#[derive(Debug, Default)]
pub(crate) struct Vectors {
    written: Mutex<HashMap<(u64, u64, bool), Bytes>>,
}

impl Vectors {
    fn get(&self, dimensions: u64, variant: u64, base64: bool) -> Bytes {
        let mut written = self.written.lock();
        written
            .entry((dimensions, variant, base64))
            .or_insert_with(|| write_vector(&vector(dimensions, variant), base64))
            .clone()
    }
}

/// A unit vector from a small generator (splitmix64), seeded by the variant.
fn vector(dimensions: u64, variant: u64) -> Vec<f32> {
    let mut seed = variant.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
    let mut next = || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let high = u16::try_from(mixed >> 48).unwrap_or(0);
        f32::from(high) / 32_768.0 - 1.0
    };
    let raw: Vec<f32> = (0..dimensions).map(|_| next()).collect();
    let length = raw.iter().map(|value| value * value).sum::<f32>().sqrt();
    raw.into_iter().map(|value| value / length).collect()
}

fn write_vector(vector: &[f32], base64: bool) -> Bytes {
    let mut out = Vec::with_capacity(vector.len() * 12);
    if base64 {
        let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
        put!(out, "\"{}\"", STANDARD.encode(bytes));
    } else {
        out.push(b'[');
        for (index, value) in vector.iter().enumerate() {
            put!(out, "{}{value}", if index > 0 { "," } else { "" });
        }
        out.push(b']');
    }
    Bytes::from(out)
}
