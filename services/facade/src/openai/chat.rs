//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;
use weir_proto::broker::v1::Operation;

use super::errors::{ErrorBody, OpenAiError};
use crate::calls;
use crate::facade::Facade;
use crate::shape::Shape;

/// Answers a chat, plain or, with `stream`, as server-sent events. Takes what OpenAI's endpoint takes.
#[utoipa::path(
    post, path = "/v1/chat/completions", operation_id = "createChatCompletion", tag = "openai",
    params(("Idempotency-Key" = Option<String>, Header, description = "At most 255 visible ASCII characters. The same request again is answered with the first answer, for 24 hours, and marked `idempotent-replayed: true`. Every call to a model takes it.")),
    request_body(content = Object, description = "As OpenAI documents it; fields that Weir does not know reach the provider untouched."),
    responses(
        (
            status = 200, content_type = "application/json", body = Object,
            description = "As the provider answers; `text/event-stream` with `stream`. Headers say what it was: `weir-model`, `weir-attempts`, `weir-overhead-ms`, `weir-cost-usd` (not with `stream`), `weir-queue-position` and `weir-queue-ms` if it had to wait for the provider, `weir-load` and `weir-downgraded` if the load was not normal; and what is left: `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`.",
        ),
        (status = 409, description = "With `Idempotency-Key`: its call is still under way (`call_in_progress`), was another one (`id_reused`), or can't be answered again (`not_repeatable`).", body = ErrorBody),
        (status = 402, description = "The budget is used up.", body = ErrorBody),
        (status = 429, description = "A rate limit refused; `retry-after` and `retry-after-ms` say when to try again.", body = ErrorBody),
        (status = "default", description = "Any other refusal; an error of the provider keeps its status and body.", body = ErrorBody)
    )
)]
pub(crate) async fn create(State(facade): State<Arc<Facade>>, request: Request) -> Result<Response<Body>, OpenAiError> {
    let incoming = facade.receive(request).await?;
    Ok(calls::answer(&facade, incoming, Operation::ChatCompletions.into(), Shape::OpenAi).await?)
}
