//! The routes under `/simulator/`: what was served, and what shall go wrong.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::json;

use crate::body::Reply;
use crate::faults::Fault;
use crate::headers::{JSON, JSON_LINES};
use crate::service::State;

/// A fault takes a few hundred bytes.
const MOST_BYTES: usize = 64 << 10;
/// Records of one page of the log, unless the query says otherwise.
const PAGE: usize = 50_000;

pub(crate) async fn answer(
    state: &State,
    method: &Method,
    route: &str,
    query: Option<&str>,
    body: Incoming,
) -> Response<Reply> {
    match (method, route) {
        (&Method::GET, "stats") => json_of(StatusCode::OK, &state.stats()),
        (&Method::GET, "served") => served(state, query.unwrap_or_default()),
        (&Method::GET, "faults") => json_of(StatusCode::OK, &state.faults.list()),
        (&Method::POST, "faults") => add_fault(state, body).await,
        (&Method::DELETE, "faults") => {
            state.faults.clear();
            json_of(StatusCode::OK, &json!({}))
        }
        (&Method::POST, "reset") => {
            state.reset();
            json_of(StatusCode::OK, &json!({}))
        }
        _ => problem(StatusCode::NOT_FOUND, &format!("there is no {method} /simulator/{route}")),
    }
}

async fn add_fault(state: &State, body: Incoming) -> Response<Reply> {
    let body = match Limited::new(body, MOST_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match serde_json::from_slice::<Fault>(&body) {
        Ok(fault) => {
            state.faults.add(fault.clone());
            json_of(StatusCode::OK, &fault)
        }
        Err(error) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

/// One page of the log as lines of JSON; the next page begins after the last line's `sequence`.
fn served(state: &State, query: &str) -> Response<Reply> {
    let (mut after, mut limit) = (0, PAGE);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let understood = match pair.split_once('=') {
            Some(("after", value)) => value.parse().map(|value| after = value).is_ok(),
            Some(("limit", value)) => value.parse().map(|value| limit = value).is_ok(),
            _ => false,
        };
        if !understood {
            return problem(
                StatusCode::BAD_REQUEST,
                &format!("cannot read `{pair}`: expected after=SEQUENCE or limit=RECORDS"),
            );
        }
    }
    let mut lines = Vec::new();
    for record in state.books.served(after, limit) {
        if serde_json::to_writer(&mut lines, &record).is_ok() {
            lines.push(b'\n');
        }
    }
    response(StatusCode::OK, JSON_LINES, Bytes::from(lines))
}

fn problem(status: StatusCode, message: &str) -> Response<Reply> {
    json_of(status, &json!({"error": {"message": message}}))
}

fn json_of(status: StatusCode, value: &impl Serialize) -> Response<Reply> {
    response(status, JSON, serde_json::to_vec(value).map(Bytes::from).unwrap_or_default())
}

fn response(status: StatusCode, kind: HeaderValue, body: Bytes) -> Response<Reply> {
    let mut response = Response::new(Reply::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
