//! `POST /v1/messages` and `POST /v1/messages/count_tokens`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;
use weir_proto::broker::v1::Operation;

use super::errors::{AnthropicError, ErrorBody};
use crate::calls::{self, Asked};
use crate::facade::Facade;
use crate::refusal::Refusal;
use crate::shape::Shape;

/// Answers a message, plain or, with `stream`, as server-sent events. Takes what Anthropic's endpoint takes.
#[utoipa::path(
    post, path = "/v1/messages", operation_id = "createMessage", tag = "anthropic",
    request_body(content = Object, description = "As Anthropic documents it. A model of an Anthropic provider gets it untouched; for any other it is translated, and what can't be is refused by its field's name."),
    responses(
        (
            status = 200, content_type = "application/json", body = Object,
            description = "As Anthropic answers; `text/event-stream` with `stream`. Headers say what it was: `weir-model`, `weir-attempts`, `weir-overhead-ms`, `weir-cost-usd` (not with `stream`), `weir-queue-position` and `weir-queue-ms` if it had to wait for the provider, `weir-load` and `weir-downgraded` if the load was not normal; and what is left: `anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}`.",
        ),
        (status = 402, description = "The budget is used up.", body = ErrorBody),
        (status = 429, description = "A rate limit refused; `retry-after` and `retry-after-ms` say when to try again.", body = ErrorBody),
        (status = "default", description = "Any other refusal; an error of the provider keeps its status, and its body where that is Anthropic's.", body = ErrorBody)
    )
)]
pub(crate) async fn create(
    State(facade): State<Arc<Facade>>,
    request: Request,
) -> Result<Response<Body>, AnthropicError> {
    Ok(answer(&facade, request).await?)
}

/// Counts the tokens of a message before it is sent. Costs nothing; limits of requests hold.
#[utoipa::path(
    post, path = "/v1/messages/count_tokens", operation_id = "countMessageTokens", tag = "anthropic",
    request_body(content = Object, description = "As Anthropic documents it, for a model of an Anthropic provider."),
    responses(
        (status = 200, content_type = "application/json", body = Object, description = "As Anthropic answers, with the headers of a message."),
        (status = 429, description = "A rate limit refused; `retry-after` and `retry-after-ms` say when to try again.", body = ErrorBody),
        (status = "default", description = "Any other refusal, for instance of a model whose provider can't count (400).", body = ErrorBody)
    )
)]
pub(crate) async fn count_tokens(
    State(facade): State<Arc<Facade>>,
    request: Request,
) -> Result<Response<Body>, AnthropicError> {
    Ok(counted(&facade, request).await?)
}

async fn counted(facade: &Facade, request: Request) -> Result<Response<Body>, Refusal> {
    let headers = super::passed_on(request.headers());
    let incoming = facade.receive(request).await?;
    let asked = Asked { headers: headers?, ..Operation::CountTokens.into() };
    calls::invoke(facade, incoming, asked, Shape::Anthropic).await
}

async fn answer(facade: &Facade, request: Request) -> Result<Response<Body>, Refusal> {
    let headers = super::passed_on(request.headers());
    let incoming = facade.receive(request).await?;
    let asked = Asked { headers: headers?, ..Operation::Messages.into() };
    calls::answer(facade, incoming, asked, Shape::Anthropic).await
}
