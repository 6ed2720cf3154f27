//! Which pages may call the API from a browser.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use weir_rpc::REQUEST_ID;

/// What pages may read of an answer.
const EXPOSED: [&str; 15] = [
    "idempotent-replayed",
    "retry-after-ms",
    "weir-attempts",
    "weir-cached",
    "weir-coalesced",
    "weir-cost-usd",
    "weir-model",
    "weir-overhead-ms",
    "weir-own-key",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
];

/// Pages of these origins, and no others, may call the API. Without credentials of the browser's own: a page has to
/// send its token.
pub(crate) fn layer(origins: &[String]) -> CorsLayer {
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    let exposed = EXPOSED.map(HeaderName::from_static);
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        // Whatever an origin that is named sends: OpenAI's SDK for browsers has a dozen headers of its own.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(
            exposed.into_iter().chain([REQUEST_ID, header::RETRY_AFTER, header::LOCATION]).collect::<Vec<_>>(),
        )
        .max_age(Duration::from_secs(3600))
}
