//! `POST /v1/chat/completions`.

use std::time::{SystemTime, UNIX_EPOCH};

use hyper::body::Incoming;

use super::completion::{Answer, Usage};
use super::prompt::{Prompt, Shape};
use super::{chunks, errors};
use crate::headers::EVENT_STREAM;
use crate::keys::Demand;
use crate::service::{Admitted, Answered, Asking, Call, Output};

pub(crate) async fn answer(call: &Call, body: Incoming) -> Answered {
    let body = call.read(body).await?;
    let prompt = Prompt::read(&body)?;
    drop(body);
    if !call.state.model_exists(&prompt.model) {
        return Err(errors::unknown_model(&prompt.model).into());
    }
    let input = prompt.words + prompt.images * call.state.options.image_tokens;
    let tokens = prompt.max_output.unwrap_or(call.state.options.default_output_tokens);
    let asking = Asking {
        streamed: prompt.stream,
        simulate: prompt.simulate.as_deref(),
        demand: Demand::tokens(input, tokens.saturating_mul(prompt.choices)),
        ..Asking::of("chat.completions", &prompt.model)
    };
    let all_choices =
        |admitted: &Admitted| admitted.directive.output_tokens.unwrap_or(tokens).saturating_mul(prompt.choices);
    let charge = |admitted: &Admitted| admitted.entry.charge(input, all_choices(admitted));
    let admitted = call.admit(asking).await.map_err(|ending| ending.charging(charge))?;
    let (tokens, output) = (admitted.directive.output_tokens.unwrap_or(tokens), all_choices(&admitted));
    let cached = admitted.directive.cached_tokens.unwrap_or(0).min(input);
    let usage = Some(Usage { input, cached, output }).filter(|_| !admitted.directive.without_usage);
    if prompt.stream {
        admitted.entry.charge(input, 0);
        let script = chunks::script(&describe(&prompt, &admitted, tokens, usage), prompt.include_usage, &call.id);
        return Ok(call.stream(admitted, EVENT_STREAM, script));
    }
    admitted.entry.charge(input, output);
    let body = describe(&prompt, &admitted, tokens, usage).json(&call.id);
    Ok(call.respond(admitted, Output::json(body)))
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn describe<'a>(prompt: &'a Prompt, admitted: &'a Admitted, tokens: u64, usage: Option<Usage>) -> Answer<'a> {
    let finish_reason = match prompt.shape {
        Shape::Tool(_) => "tool_calls",
        Shape::Text | Shape::Json if prompt.max_output.is_some_and(|most| tokens >= most) => "length",
        Shape::Text | Shape::Json => "stop",
    };
    let (model, choices, shape) = (&*admitted.entry.model().json, prompt.choices, &prompt.shape);
    let service_tier = admitted.directive.served(prompt.service_tier.as_deref());
    Answer { model, created: now(), choices, tokens, shape, finish_reason, service_tier, usage }
}
