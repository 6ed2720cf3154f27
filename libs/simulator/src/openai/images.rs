//! `POST /v1/images/generations`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::HOST;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use super::chat::now;
use super::errors;
use super::prompt::{Metadata, read_json, within};
use crate::books::Extras;
use crate::dialect::header;
use crate::picture::{Picture, size_of};
use crate::refusal::Refusal;
use crate::service::{Admitted, Answered, Asking, Call, Output};
use crate::text::count_words;

const MOST_PICTURES: i64 = 10;

#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    prompt: Option<String>,
    n: Option<i64>,
    size: Option<String>,
    quality: Option<String>,
    response_format: Option<String>,
    metadata: Option<Metadata>,
}

pub(crate) async fn answer(call: &Call, body: Incoming) -> Answered {
    let body = call.read(body).await?;
    let body: Body = read_json(&body)?;
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
    let (input, output) = if gpt { (count_words(&prompt), output_tokens(size, quality) * pictures) } else { (0, 0) };
    let simulate = body.metadata.as_ref().and_then(|metadata| metadata.simulate.as_deref());
    let asking = Asking { simulate, ..Asking::of("images.generations", &model) };
    let charge = |admitted: &Admitted| {
        admitted.entry.charge(input, output);
        admitted.entry.charge_extras(Extras { images: pictures, ..Extras::default() });
    };
    let admitted = call.admit(asking).await.map_err(|ending| ending.charging(charge))?;
    charge(&admitted);
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
            answer["usage"] = json!({
                "input_tokens": input,
                "input_tokens_details": {"image_tokens": 0, "text_tokens": input},
                "output_tokens": output,
                "total_tokens": input + output,
            });
        }
    }
    Ok(call.respond(admitted, Output::json(answer.to_string())))
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
