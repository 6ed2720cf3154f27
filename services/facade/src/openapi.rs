//! The routes and the document that describes them, from one list: a route can't be without its description.

use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response};
use axum::routing::get;
use axum::{Router, http::StatusCode};
use bytes::Bytes;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;

use crate::facade::Facade;
use crate::{anthropic, api, elevenlabs, openai, results};

/// Where the document is.
const PATH: &str = "/api/v1/openapi.json";

/// The document's frame; paths and schemas are added by the routes.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Weir",
        description = "The OpenAI routes (`/v1`) take what OpenAI's SDKs send, and answer errors in OpenAI's shape; `/v1/messages` does the same for Anthropic's. Everything else is under `/api/v1` and answers errors as problems (RFC 9457). Every answer has an `x-request-id`; money is in nano-USD (10⁻⁹ USD), as integers; times are RFC 3339.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "openai", description = "Calls to models, as OpenAI's SDKs make them."),
        (name = "anthropic", description = "Calls to models, as Anthropic's SDKs make them."),
        (name = "elevenlabs", description = "Speech, as ElevenLabs' SDKs ask for it."),
        (name = "tokens", description = "Signing in."),
        (name = "keys", description = "API keys."),
        (name = "users", description = "People of the organisation."),
        (name = "usage", description = "What was used."),
        (name = "limits", description = "What is left."),
        (name = "cache", description = "Answers that are kept and given again."),
        (name = "jobs", description = "Work that outlives its request: steps, retries, results, schedules, webhooks."),
        (name = "results", description = "Pictures and sounds that jobs have stored."),
        (name = "billing", description = "Plans, statements and the ledger."),
    ),
    security(("bearer" = [])),
    modifiers(&Bearer)
)]
struct Document;

struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, document: &mut OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API key (`weir_…`) or a token from `POST /api/v1/tokens`."));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme.build()));
    }
}

fn documented() -> OpenApiRouter<Arc<Facade>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(openai::routes())
        .merge(anthropic::routes())
        .merge(elevenlabs::routes())
        .merge(api::routes())
        .merge(results::routes())
}

/// Every route, and the document itself.
pub(crate) fn routes() -> Router<Arc<Facade>> {
    documented().split_for_parts().0.route(PATH, get(document))
}

/// The OpenAPI document of all routes.
#[must_use]
pub fn openapi() -> OpenApi {
    let mut document = documented().into_openapi();
    // axum's patterns of several segments are not OpenAPI's.
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    document
}

async fn document() -> Result<Response<Body>, StatusCode> {
    static TEXT: LazyLock<Option<Bytes>> = LazyLock::new(|| openapi().to_json().ok().map(Bytes::from));
    let text = TEXT.clone().ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The patterns that axum routes by, which its `Debug` shows as keys of a map.
    fn routed() -> BTreeSet<String> {
        let shown = format!("{:?}", routes());
        let paths =
            shown.split('"').filter(|text| ["/v1/", "/api/", "/results/"].iter().any(|root| text.starts_with(root)));
        paths.map(|path| path.replace("{*", "{")).collect()
    }

    #[test]
    fn every_route_is_in_the_document() {
        let mut described: BTreeSet<String> = openapi().paths.paths.into_keys().collect();
        described.insert(PATH.to_owned());
        assert_eq!(routed(), described);
    }

    #[test]
    fn operations_have_ids_of_their_own_and_a_description() {
        let document = serde_json::to_value(openapi()).expect("JSON");
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                let id = operation["operationId"].as_str().unwrap_or_default();
                assert!(id.len() > 4 && ids.insert(id.to_owned()), "{method} {path}: {id}");
                assert!(operation["summary"].is_string(), "{method} {path}");
                assert!(operation["responses"]["default"].is_object(), "{method} {path}");
            }
        }
    }
}
