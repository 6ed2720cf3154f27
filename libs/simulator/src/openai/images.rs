//! `POST /v1/images/generations` and `POST /v1/images/edits`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::HOST;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use super::chat::now;
use super::errors;
use super::multipart::Form;
use super::prompt::{Metadata, read_json, within};
use crate::books::Extras;
use crate::dialect::header;
use crate::headers::EVENT_STREAM;
use crate::picture::{Picture, size_of};
use crate::refusal::Refusal;
use crate::service::{Admitted, Answered, Asking, Call, Output};
use crate::stream::{Script, Segment};
use crate::text::count_words;

const MOST_PICTURES: i64 = 10;
const MOST_PARTIAL: i64 = 3;
/// Output tokens of a picture that is shown before it is done.
const PARTIAL_TOKENS: u64 = 100;

#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    prompt: Option<String>,
    n: Option<i64>,
    size: Option<String>,
    quality: Option<String>,
    response_format: Option<String>,
    stream: Option<bool>,
    partial_images: Option<i64>,
    metadata: Option<Metadata>,
    /// What is edited, with the mask.
    #[serde(skip)]
    given: u64,
}

pub(crate) async fn generate(call: &Call, body: Incoming) -> Answered {
    let body = call.read(body).await?;
    make(call, read_json(&body)?, &GENERATIONS).await
}

pub(crate) async fn edit(call: &Call, body: Incoming) -> Answered {
    let body = call.read(body).await?;
    let form = Form::read(&call.headers, &body)?;
    let number = |name: &'static str| {
        let wrong = |_| Refusal::invalid(format!("Invalid type for '{name}': expected an integer.")).param(name);
        form.text(name).map(str::parse).transpose().map_err(wrong)
    };
    let text = |name| form.text(name).map(str::to_owned);
    let pictures = form.files(&["image", "image[]"]);
    if pictures == 0 {
        return Err(errors::missing("image").into());
    }
    let body = Body {
        model: text("model"),
        prompt: text("prompt"),
        n: number("n")?,
        size: text("size"),
        quality: text("quality"),
        response_format: text("response_format"),
        stream: form.text("stream").map(|text| text == "true"),
        partial_images: number("partial_images")?,
        metadata: None,
        given: pictures + form.files(&["mask"]),
    };
    make(call, body, &EDITS).await
}

/// How an endpoint calls what it does.
struct Words {
    operation: &'static str,
    event: &'static str,
}

const GENERATIONS: Words = Words { operation: "images.generations", event: "image_generation" };
const EDITS: Words = Words { operation: "images.edits", event: "image_edit" };

async fn make(call: &Call, body: Body, words: &Words) -> Answered {
    let given = if body.given == 0 { 0 } else { body.given * call.state.options.image_tokens };
    let model = body.model.unwrap_or_else(|| "dall-e-2".to_owned());
    let prompt = body.prompt.filter(|prompt| !prompt.is_empty()).ok_or_else(|| errors::missing("prompt"))?;
    let pictures = within("n", body.n, MOST_PICTURES)?.unwrap_or(1);
    let gpt = model.starts_with("gpt-image");
    if model == "dall-e-3" && pictures > 1 {
        return Err(Refusal::invalid("You must provide n=1 for this model.").param("n").into());
    }
    if gpt && body.response_format.is_some() {
        let message = "Unknown parameter: 'response_format'.";
        return Err(Refusal::invalid(message).param("response_format").code("unknown_parameter").into());
    }
    let size = match body.size.as_deref() {
        None | Some("auto") => (1_024, 1_024),
        Some(size) => size_of(size)
            .ok_or_else(|| Refusal::invalid(format!("Invalid value: '{size}'.")).param("size").code("invalid_value"))?,
    };
    let quality = quality(&model, body.quality.as_deref())?;
    if !call.state.model_exists(&model) {
        return Err(errors::unknown_model(&model).into());
    }
    let streamed = body.stream.unwrap_or(false);
    let partial = u64::try_from(body.partial_images.unwrap_or(0).clamp(0, MOST_PARTIAL)).unwrap_or(0);
    if streamed && !gpt {
        let message = "Unknown parameter: 'stream'.";
        return Err(Refusal::invalid(message).param("stream").code("unknown_parameter").into());
    }
    let (input, output) =
        if gpt { (count_words(&prompt) + given, output_tokens(size, quality) * pictures) } else { (0, 0) };
    let simulate = body.metadata.as_ref().and_then(|metadata| metadata.simulate.as_deref());
    let asking = Asking { simulate, streamed, ..Asking::of(words.operation, &model) };
    let charge = |admitted: &Admitted| {
        admitted.entry.charge(input, output);
        admitted.entry.charge_extras(Extras { images: pictures, ..Extras::default() });
    };
    let admitted = call.admit(asking).await.map_err(|ending| ending.charging(charge))?;
    charge(&admitted);
    if streamed {
        let drawn = Drawn {
            picture: STANDARD.encode(Picture::of_prompt(&prompt, 0, size).png()),
            said: json!({
                "created_at": now(), "size": format!("{}x{}", size.0, size.1), "quality": quality,
                "background": "opaque", "output_format": "png",
            }),
        };
        let usage =
            (!admitted.directive.without_usage).then(|| usage((input, given), output + partial * PARTIAL_TOKENS));
        return Ok(call.stream(admitted, EVENT_STREAM, drawn.script(words.event, partial, usage)));
    }
    let base64 = gpt || body.response_format.as_deref() == Some("b64_json");
    let host = header(&call.headers, HOST.as_str()).unwrap_or("localhost").to_owned();
    let data: Vec<Value> = (0..pictures)
        .map(|nth| {
            let picture = Picture::of_prompt(&prompt, nth, size);
            let mut entry = if base64 {
                json!({"b64_json": STANDARD.encode(picture.png())})
            } else {
                json!({"url": format!("http://{host}/files/{}", picture.name())})
            };
            if model == "dall-e-3" {
                entry["revised_prompt"] = prompt.as_str().into();
            }
            entry
        })
        .collect();
    let mut answer = json!({"created": now(), "data": data});
    if gpt {
        answer["background"] = "opaque".into();
        answer["output_format"] = "png".into();
        answer["quality"] = quality.into();
        answer["size"] = format!("{}x{}", size.0, size.1).into();
        if !admitted.directive.without_usage {
            answer["usage"] = usage((input, given), output);
        }
    }
    Ok(call.respond(admitted, Output::json(answer.to_string())))
}

/// `given`: of the input, what were pictures.
fn usage((input, given): (u64, u64), output: u64) -> Value {
    json!({
        "input_tokens": input,
        "input_tokens_details": {"image_tokens": given, "text_tokens": input - given},
        "output_tokens": output,
        "total_tokens": input + output,
    })
}

/// A picture that is streamed.
struct Drawn {
    /// In base64.
    picture: String,
    /// What each event says of it.
    said: Value,
}

impl Drawn {
    fn event(&self, of: &str, name: &str, more: impl FnOnce(&mut Value)) -> Bytes {
        let mut data = self.said.clone();
        let name = format!("{of}.{name}");
        data["type"] = name.as_str().into();
        data["b64_json"] = self.picture.as_str().into();
        more(&mut data);
        Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
    }

    /// It is shown so many times, and then done.
    fn script(self, of: &'static str, partial: u64, usage: Option<Value>) -> Script {
        let completed = self.event(of, "completed", |data| {
            if let Some(usage) = usage {
                data["usage"] = usage;
            }
        });
        let make =
            Box::new(move |nth: u64| self.event(of, "partial_image", |data| data["partial_image_index"] = nth.into()));
        Script {
            segments: vec![
                Segment::Made { count: partial, tokens: PARTIAL_TOKENS, make },
                Segment::Event(completed),
            ],
            failure: Bytes::from_static(b"event: error\ndata: {\"type\":\"error\",\"error\":{\"message\":\"The server had an error.\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n"),
            garbage: Bytes::from_static(b"event: image_generation.partial_image\ndata: {\"type\":\"image\n\n"),
        }
    }
}

fn quality(model: &str, asked: Option<&str>) -> Result<&'static str, Refusal> {
    let allowed: &[&'static str] = match model {
        "dall-e-2" => &["standard"],
        "dall-e-3" => &["standard", "hd"],
        _ => &["medium", "low", "high"],
    };
    match asked {
        None | Some("auto") => Ok(allowed[0]),
        Some(asked) => allowed.iter().find(|quality| **quality == asked).copied().ok_or_else(|| {
            Refusal::invalid(format!("Invalid value: '{asked}'.")).param("quality").code("invalid_value")
        }),
    }
}

/// Output tokens of one picture by size and quality, as OpenAI lists them for gpt-image-1.
fn output_tokens((width, height): (u32, u32), quality: &str) -> u64 {
    let by_size = match quality {
        "low" => [272, 408, 400],
        "high" => [4_160, 6_240, 6_208],
        _ => [1_056, 1_584, 1_568],
    };
    match width.cmp(&height) {
        std::cmp::Ordering::Equal => by_size[0],
        std::cmp::Ordering::Less => by_size[1],
        std::cmp::Ordering::Greater => by_size[2],
    }
}
