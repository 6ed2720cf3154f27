//! The admin listener: metrics, liveness, readiness.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Json;
use axum::response::IntoResponse;
use axum::routing::get;
use http::{StatusCode, header};
use parking_lot::RwLock;
use serde::Serialize;
use weir_telemetry::Telemetry;

use crate::readiness::Report;

/// The reports of all services in the process.
pub(crate) type Reports = Arc<RwLock<Vec<Arc<ArcSwap<Report>>>>>;

#[derive(Serialize)]
struct Ready {
    ready: bool,
    services: Vec<Report>,
}

/// `/metrics`, `/livez`, `/readyz`.
pub(crate) fn router(telemetry: Telemetry, reports: Reports) -> axum::Router {
    let metrics = move || async move {
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], telemetry.metrics())
    };
    let ready = move || async move {
        let services: Vec<Report> = reports.read().iter().map(|report| Report::clone(&report.load())).collect();
        // A process in which nothing has started yet is not ready.
        let ready = !services.is_empty() && services.iter().all(|service| service.ready);
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(Ready { ready, services })).into_response()
    };
    axum::Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
}
