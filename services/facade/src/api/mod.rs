//! Weir's own REST API under `/api/v1`: sign-in, keys, users, usage, limits, statements.

mod balance;
mod body;
mod keys;
mod plans;
mod problem;
mod statement;
mod time;
mod tokens;
mod usage;
mod users;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Response, Uri};
use axum::middleware::{self, Next};
use axum::response::IntoResponse as _;
use axum::{Json, Router, body::Body};
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;

use crate::facade::Facade;
use crate::openai;
use problem::Problem;

/// The document's frame; paths and schemas are added by the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Weir",
        description = "The OpenAI routes (`/v1`) take what OpenAI's SDKs send. Everything else is under `/api/v1` and answers errors as RFC 9457 problems.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    security(("bearer" = [])),
    modifiers(&Bearer)
)]
struct Document;

struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API key (`weir_…`) or a token from `POST /api/v1/tokens`."));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme.build()));
    }
}

fn documented() -> OpenApiRouter<Arc<Facade>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(tokens::create))
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::get, keys::revoke))
        .routes(routes!(keys::rotate))
        .routes(routes!(users::create, users::list))
        .routes(routes!(users::get))
        .routes(routes!(users::disable))
        .routes(routes!(usage::query))
        .routes(routes!(usage::events))
        .routes(routes!(balance::get))
        .routes(routes!(plans::list))
        .routes(routes!(plans::subscription))
        .routes(routes!(statement::get))
        .routes(routes!(statement::ledger))
}

/// The OpenAPI document of all routes.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let (_, mut document) = documented().split_for_parts();
    document.merge(openai::document());
    document
}

/// The routes under `/api/v1`.
pub(crate) fn routes(facade: &Arc<Facade>) -> Router<Arc<Facade>> {
    let (router, _) = documented().split_for_parts();
    router
        .route("/api/v1/openapi.json", axum::routing::get(document))
        .route("/api/{*rest}", axum::routing::any(unknown_route))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(facade), serve))
}

/// Each request has an id and a deadline, and its answer says the id.
async fn serve(State(facade): State<Arc<Facade>>, request: Request, next: Next) -> Response<Body> {
    let id = weir_rpc::request_id(request.headers());
    let mut response = facade.serve(&id, facade.api_deadline, next.run(request)).await;
    response.headers_mut().insert(weir_rpc::REQUEST_ID, id);
    response
}

async fn document() -> Response<Body> {
    static TEXT: std::sync::LazyLock<utoipa::openapi::OpenApi> = std::sync::LazyLock::new(openapi);
    Json(&*TEXT).into_response()
}

async fn unknown_route(uri: Uri) -> Problem {
    let message = format!("There is no {}. The API's document is at /api/v1/openapi.json.", uri.path());
    Problem::from(Error::new(ErrorReason::NotFound, message))
}

async fn method_not_allowed(uri: Uri) -> Response<Body> {
    let message = format!("{} does not take this method. The API's document is at /api/v1/openapi.json.", uri.path());
    let problem = Problem::from(Error::new(ErrorReason::Unimplemented, message));
    let mut response = problem.into_response();
    *response.status_mut() = axum::http::StatusCode::METHOD_NOT_ALLOWED;
    response
}
