//! `POST /v1/messages` and `POST /v1/messages/count_tokens`.

use hyper::body::Incoming;
use serde_json::json;

use super::answer::{Answer, Usage};
use super::cache::Cached;
use super::request::Request;
use super::{errors, events};
use crate::books::Extras;
use crate::directive::Directive;
use crate::headers::EVENT_STREAM;
use crate::keys::Demand;
use crate::service::{Admitted, Answered, Asking, Call, Output};
use crate::text::{VOCABULARY, word};

pub(crate) async fn answer(call: &Call, body: Incoming) -> Answered {
    let body = call.read(body).await?;
    let request = Request::read(&body, call.state.options.image_tokens, false)?;
    drop(body);
    if !call.state.model_exists(&request.model) {
        return Err(errors::unknown_model(&request.model).into());
    }
    let most = request.max_tokens.unwrap_or(u64::MAX);
    let usual = most.min(call.state.options.default_output_tokens);
    // The limit on output counts what is asked for at most, the one on input leaves out what the cache will give.
    let shortest = call.state.options.cacheable_tokens;
    let held = call.state.cache.peek(&call.secret, &request.model, &request.breakpoints, shortest);
    let asking = Asking {
        streamed: request.stream,
        simulate: request.simulate.as_deref(),
        demand: Demand::tokens(request.input - held, most),
        ..Asking::of("messages", &request.model)
    };
    let uncached = Usage { input: request.input, cached: Cached::default(), service_tier: "standard" };
    let spoilt = |admitted: &Admitted| charge(admitted, uncached, admitted.directive.output_tokens.unwrap_or(usual));
    let admitted = call.admit(asking).await.map_err(|ending| ending.charging(spoilt))?;
    let service_tier = match admitted.directive.service_tier.as_deref() {
        Some("priority") => "priority",
        Some("batch") => "batch",
        _ => "standard",
    };
    let usage = Usage { input: request.input, cached: cached(call, &request, &admitted.directive), service_tier };
    let (tokens, stop_reason, stop_sequence) = ending(&request, &admitted.directive, usual, most);
    let answer = Answer {
        model: &request.model,
        tokens,
        thought: request.thinking.then_some(tokens / 2),
        tool: request.tool.as_deref(),
        stop_reason,
        stop_sequence,
        usage,
        without_usage: admitted.directive.without_usage,
    };
    if request.stream {
        charge(&admitted, usage, 0);
        let script = events::script(&answer, &call.id);
        return Ok(call.stream(admitted, EVENT_STREAM, script));
    }
    charge(&admitted, usage, tokens);
    let body = answer.json(&call.id).to_string();
    Ok(call.respond(admitted, Output::json(body)))
}

/// Counting costs nothing.
pub(crate) async fn count(call: &Call, body: Incoming) -> Answered {
    let body = call.read(body).await?;
    let request = Request::read(&body, call.state.options.image_tokens, true)?;
    let admitted = call.admit(Asking::of("messages.count_tokens", &request.model)).await?;
    Ok(call.respond(admitted, Output::json(json!({"input_tokens": request.input}).to_string())))
}

fn charge(admitted: &Admitted, usage: Usage, output: u64) {
    admitted.entry.charge(usage.input, output);
    let Cached { read, write_short, write_long } = usage.cached;
    let extras = Extras { cached: read, cache_write: write_short + write_long, ..Extras::default() };
    admitted.entry.charge_extras(extras);
}

/// What the cache gave and took, unless the directive says it.
fn cached(call: &Call, request: &Request, directive: &Directive) -> Cached {
    if directive.cached_tokens.is_some() || directive.cache_write_tokens.is_some() {
        let read = directive.cached_tokens.unwrap_or(0).min(request.input);
        let write_short = directive.cache_write_tokens.unwrap_or(0).min(request.input - read);
        return Cached { read, write_short, write_long: 0 };
    }
    let shortest = call.state.options.cacheable_tokens;
    call.state.cache.visit(&call.secret, &request.model, &request.breakpoints, shortest)
}

/// How many tokens there are, and why they end.
fn ending<'a>(
    request: &'a Request,
    directive: &Directive,
    usual: u64,
    most: u64,
) -> (u64, &'static str, Option<&'a str>) {
    let tokens = directive.output_tokens.unwrap_or(usual);
    if request.tool.is_some() {
        return (tokens, "tool_use", None);
    }
    let stops = request.stop_sequences.iter().filter_map(|sequence| {
        let place = (0..VOCABULARY.len() as u64).find(|&nth| word(nth) == sequence.trim())?;
        Some((place, sequence.as_str()))
    });
    match stops.min_by_key(|&(place, _)| place) {
        Some((place, sequence)) if place < tokens => (place, "stop_sequence", Some(sequence)),
        _ if tokens >= most => (tokens, "max_tokens", None),
        _ => (tokens, "end_turn", None),
    }
}
