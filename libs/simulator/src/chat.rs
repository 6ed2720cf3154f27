//! `POST /v1/chat/completions`.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::StatusCode;
use hyper::body::Incoming;

use crate::body::Reply;
use crate::completion::{Answer, Usage};
use crate::directive::{Directive, Reset};
use crate::headers::EVENT_STREAM;
use crate::prompt::{Prompt, Shape};
use crate::refusal::Refusal;
use crate::service::{Admitted, Answered, Call, Ending};
use crate::stream::{Pace, Stream};

pub(crate) async fn answer(call: &Call, body: Incoming) -> Answered {
    let body = call.read(body).await?;
    let prompt = Prompt::read(&body)?;
    drop(body);
    if !call.state.model_exists(&prompt.model) {
        return Err(Refusal::unknown_model(&prompt.model).into());
    }
    let (input, tokens) =
        (input_tokens(call, &prompt), prompt.max_output.unwrap_or(call.state.options.default_output_tokens));
    let admitted = match call.admit("chat.completions", &prompt.model, prompt.stream, prompt.simulate.as_deref()).await
    {
        Ok(admitted) => admitted,
        Err(Ending::Bad(body, admitted)) => {
            // The provider did the work; only its answer was spoilt on the way.
            if admitted.directive.status.is_none() {
                let tokens = admitted.directive.output_tokens.unwrap_or(tokens);
                admitted.entry.charge(input, tokens.saturating_mul(prompt.choices));
            }
            return Err(Ending::Bad(body, admitted));
        }
        Err(other) => return Err(other),
    };
    let tokens = admitted.directive.output_tokens.unwrap_or(tokens);
    let output = tokens.saturating_mul(prompt.choices);
    let cached = admitted.directive.cached_tokens.unwrap_or(0).min(input);
    let usage = Some(Usage { input, cached, output }).filter(|_| !admitted.directive.without_usage);
    admitted.entry.charge(input, if prompt.stream { 0 } else { output });
    if prompt.stream {
        return Ok(stream(call, &prompt, admitted, tokens, usage));
    }
    let body = Bytes::from(describe(&prompt, &admitted, tokens, usage).json(&call.id));
    Ok(call.respond(admitted, body))
}

fn stream(
    call: &Call,
    prompt: &Prompt,
    admitted: Admitted,
    tokens: u64,
    usage: Option<Usage>,
) -> http::Response<Reply> {
    let headroom = admitted.headroom();
    let answer = describe(prompt, &admitted, tokens, usage);
    let (pace, reset) = (pace(call, &admitted.directive), admitted.directive.reset == Some(Reset::After));
    let layout = Stream::layout(&answer, prompt.include_usage, &call.id);
    admitted.entry.answer(200);
    let stream = Stream::new(layout, pace, admitted.entry, Arc::clone(&call.link), reset);
    call.response(StatusCode::OK, EVENT_STREAM, headroom, Reply::Stream(Box::new(stream)))
}

fn input_tokens(call: &Call, prompt: &Prompt) -> u64 {
    prompt.words + prompt.images * call.state.options.image_tokens
}

fn describe<'a>(prompt: &'a Prompt, admitted: &'a Admitted, tokens: u64, usage: Option<Usage>) -> Answer<'a> {
    let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let finish_reason = match prompt.shape {
        Shape::Tool(_) => "tool_calls",
        Shape::Text | Shape::Json if prompt.max_output.is_some_and(|most| tokens >= most) => "length",
        Shape::Text | Shape::Json => "stop",
    };
    let (model, choices, shape) = (&*admitted.entry.model().json, prompt.choices, &prompt.shape);
    Answer { model, created, choices, tokens, shape, finish_reason, usage }
}

fn pace(call: &Call, directive: &Directive) -> Pace {
    let options = &call.state.options;
    Pace {
        interval: directive.chunk_latency.unwrap_or(options.chunk_latency),
        coalesce: directive.coalesce.unwrap_or(options.coalesce),
        break_after: directive.break_after,
    }
}
