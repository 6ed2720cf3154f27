//! The OpenAI routes in our own OpenAPI document: their bodies are OpenAI's, so they are described
//! by reference and not a second time.

use utoipa::OpenApi;

/// The OpenAI routes.
pub(crate) fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(paths(chat_completions, embeddings, list_models, get_model))]
struct Document;

/// OpenAI's chat completions: plain, or with `stream` as server-sent events.
#[utoipa::path(
    post, path = "/v1/chat/completions", tag = "openai",
    request_body(content = Object, description = "As OpenAI documents it; unknown fields reach the provider untouched."),
    responses(
        (status = 200, description = "As the provider answers; headers say what it was and cost: `weir-model`, `weir-cost-usd`, `weir-attempts`, `x-ratelimit-*`.", body = Object),
        (status = 401, description = "Missing, wrong or revoked key.", body = Object),
        (status = 402, description = "The budget is used up.", body = Object),
        (status = 429, description = "A rate limit refused; `retry-after` says when to try again.", body = Object),
        (status = 503, description = "Not available now; `retry-after` says when to try again.", body = Object)
    )
)]
#[expect(dead_code, reason = "only its description is used")]
fn chat_completions() {}

/// OpenAI's embeddings.
#[utoipa::path(
    post, path = "/v1/embeddings", tag = "openai", request_body(content = Object, description = "As OpenAI documents it."),
    responses((status = 200, body = Object), (status = "4XX", body = Object))
)]
#[expect(dead_code, reason = "only its description is used")]
fn embeddings() {}

/// The models that the caller may use.
#[utoipa::path(get, path = "/v1/models", tag = "openai", responses((status = 200, body = Object)))]
#[expect(dead_code, reason = "only its description is used")]
fn list_models() {}

/// One model.
#[utoipa::path(
    get, path = "/v1/models/{model}", tag = "openai", params(("model" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = Object))
)]
#[expect(dead_code, reason = "only its description is used")]
fn get_model() {}
