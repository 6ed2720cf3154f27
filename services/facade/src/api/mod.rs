//! Weir's own REST API under `/api/v1`: sign-in, keys, users, usage, limits, statements, jobs, results, kept answers.

mod alerts;
mod balance;
mod cache;
mod convert;
mod created;
mod explain;
pub(crate) mod extract;
mod jobs;
mod keys;
mod page;
mod plans;
mod preflight;
mod problem;
mod provider_keys;
mod results;
mod statement;
mod tokens;
mod usage;
mod usage_events;
mod users;

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, Response};
use axum::middleware::map_response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::facade::Facade;

pub(crate) use problem::Problem;

/// The routes under `/api/v1`, with their documentation.
pub(crate) fn routes() -> OpenApiRouter<Arc<Facade>> {
    OpenApiRouter::new()
        .routes(routes!(tokens::create))
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::get, keys::revoke))
        .routes(routes!(keys::rotate))
        .routes(routes!(provider_keys::create, provider_keys::list))
        .routes(routes!(provider_keys::get, provider_keys::update, provider_keys::delete))
        .routes(routes!(provider_keys::rotate))
        .routes(routes!(users::create, users::list))
        .routes(routes!(users::get))
        .routes(routes!(users::disable))
        .routes(routes!(usage::query))
        .routes(routes!(usage_events::list))
        .routes(routes!(balance::get))
        .routes(routes!(preflight::ask))
        .routes(routes!(alerts::list))
        .routes(routes!(explain::get))
        .routes(routes!(plans::list))
        .routes(routes!(plans::subscription))
        .routes(routes!(statement::get))
        .routes(routes!(statement::ledger))
        .merge(jobs::routes())
        .merge(results::routes())
        .merge(cache::routes())
        .route_layer(map_response(unstored))
}

/// Answers have secrets and other people's data in them: no cache keeps them.
async fn unstored(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
