//! What is measured of every request, by handles that are looked up once.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use axum::http::StatusCode;
use metrics::{Counter, Histogram};
use parking_lot::RwLock;
use tokio::time::Instant;

/// What we answer; anything else is counted as `other`. A client that left before its answer is `left`.
const STATUSES: [&str; 21] = [
    "200", "201", "400", "401", "402", "403", "404", "405", "408", "409", "413", "415", "422", "429", "500", "501",
    "502", "503", "504", "other", LEFT,
];
const LEFT: &str = "left";

/// The metrics of all routes.
#[derive(Default)]
pub(super) struct Metrics(RwLock<HashMap<String, Arc<RouteMetrics>>>);

struct RouteMetrics {
    route: String,
    seconds: Histogram,
    /// By status; made when one first occurs, so that there are no series of things that never happen.
    requests: [OnceLock<Counter>; STATUSES.len()],
}

/// A request that is being measured. Dropped before its end, its client left.
pub(super) struct Measured {
    route: Arc<RouteMetrics>,
    started: Instant,
    ended: bool,
}

impl Metrics {
    /// A request to a route (its pattern, never its path), or to none.
    pub(super) fn start(&self, route: Option<&str>, now: Instant) -> Measured {
        let route = route.unwrap_or("none");
        let known = self.0.read().get(route).map(Arc::clone);
        let route = known.unwrap_or_else(|| {
            let new = || Arc::new(RouteMetrics::new(route));
            Arc::clone(self.0.write().entry(route.to_owned()).or_insert_with(new))
        });
        Measured { route, started: now, ended: false }
    }
}

impl RouteMetrics {
    fn new(route: &str) -> Self {
        // Until the answer's head goes out; of a stream, until its first byte.
        let seconds = metrics::histogram!("weir_http_request_seconds", "route" => route.to_owned());
        Self { route: route.to_owned(), seconds, requests: [const { OnceLock::new() }; STATUSES.len()] }
    }

    fn record(&self, started: Instant, status: &str) {
        self.seconds.record(started.elapsed().as_secs_f64());
        let known = STATUSES.iter().position(|known| *known == status);
        let index = known.unwrap_or(STATUSES.len() - 2);
        let counter = self.requests[index].get_or_init(|| {
            let (route, status) = (self.route.clone(), STATUSES[index]);
            metrics::counter!("weir_http_requests_total", "route" => route, "status" => status)
        });
        counter.increment(1);
    }
}

impl Measured {
    pub(super) fn end(mut self, status: StatusCode) {
        self.ended = true;
        self.route.record(self.started, status.as_str());
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        if !self.ended {
            self.route.record(self.started, LEFT);
        }
    }
}
