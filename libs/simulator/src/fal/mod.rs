//! FAL's queue: a request is submitted, stands in line, is worked on, and its result is fetched or sent to a webhook.

pub(crate) mod errors;
mod job;
mod queue;
mod submit;
mod webhook;

use std::sync::Arc;

use http::header::{HOST, HeaderMap};
use http::{Method, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

pub(crate) use queue::Queue;

use crate::dialect::{Dialect, header};
use crate::ids::Id;
use crate::keys::Demand;
use crate::route::nowhere;
use crate::service::{Admitted, Answered, Asking, Call, Ending, Output};
use job::{Job, Phase};

/// Sets what every answer carries.
pub(crate) fn set_headers(headers: &mut HeaderMap, id: &Id) {
    if let Some(id) = id.header("") {
        headers.insert("x-fal-request-id", id);
    }
}

pub(crate) async fn route(call: &Call, method: &Method, path: &str, body: Incoming) -> Answered {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (method, parts.as_slice()) {
        (&Method::GET, [_, _, "requests", id, "status"]) => {
            let (admitted, job) = find(call, "queue.status", id).await?;
            let (status, body) = status(call, &job);
            Ok(call.respond(admitted, Output::json(body.to_string()).status(status)))
        }
        (&Method::GET, [_, _, "requests", id]) => result(call, id).await,
        (&Method::PUT, [_, _, "requests", id, "cancel"]) => cancel(call, id).await,
        (_, [_, _, "requests", _] | [_, _, "requests", _, "status" | "cancel"]) => {
            Err(nowhere(Dialect::Fal, method, path, true).into())
        }
        (&Method::POST, [owner, app, ..]) if !owner.is_empty() && !app.is_empty() => {
            submit::answer(call, &parts, body).await
        }
        _ => Err(nowhere(Dialect::Fal, method, path, false).into()),
    }
}

/// A job of this key. Polls take nothing of the rate limit.
async fn find(call: &Call, operation: &'static str, id: &str) -> Result<(Admitted, Arc<Job>), Ending> {
    let admitted = call.admit(Asking { demand: Demand::default(), ..Asking::of(operation, "") }).await?;
    match call.state.queue.find(&call.secret, id) {
        Some(job) => Ok((admitted, job)),
        None => Err(Ending::Refused(errors::unknown_request(), Some(admitted))),
    }
}

fn urls(call: &Call, job: &Job) -> Value {
    let host = header(&call.headers, HOST.as_str()).unwrap_or("localhost");
    let base = format!("http://{host}/{}/requests/{}", job.app, job.id);
    json!({
        "request_id": job.id,
        "response_url": base,
        "status_url": format!("{base}/status"),
        "cancel_url": format!("{base}/cancel"),
    })
}

fn status(call: &Call, job: &Job) -> (StatusCode, Value) {
    let mut body = urls(call, job);
    let phase = job.phase();
    body["status"] = phase.name().into();
    match phase {
        Phase::Queued => body["queue_position"] = call.state.queue.position(job).into(),
        Phase::Running => body["logs"] = json!([]),
        Phase::Done { seconds, .. } => {
            body["logs"] = json!([]);
            body["metrics"] = json!({"inference_time": seconds});
        }
        Phase::Failed { message, kind, .. } => {
            body["logs"] = json!([]);
            body["error"] = message.into();
            body["error_type"] = kind.into();
        }
    }
    let done = body["status"] == "COMPLETED";
    (if done { StatusCode::OK } else { StatusCode::ACCEPTED }, body)
}

async fn result(call: &Call, id: &str) -> Answered {
    let (admitted, job) = find(call, "queue.result", id).await?;
    match job.phase() {
        Phase::Done { result, .. } => Ok(call.respond(admitted, Output::json(result.to_string()))),
        Phase::Failed { status, message, kind } => {
            let refusal = crate::refusal::Refusal::new(status, kind, message);
            Err(Ending::Refused(refusal, Some(admitted)))
        }
        Phase::Queued | Phase::Running => {
            let refusal = crate::refusal::Refusal::new(400, "bad_request", "Request is still in progress");
            Err(Ending::Refused(refusal, Some(admitted)))
        }
    }
}

async fn cancel(call: &Call, id: &str) -> Answered {
    let asking = Asking { demand: Demand::default(), ..Asking::of("queue.cancel", "") };
    let admitted = call.admit(asking).await?;
    let (status, word) = match call.state.queue.find(&call.secret, id) {
        None => (StatusCode::NOT_FOUND, "NOT_FOUND"),
        Some(job) if job.is_over() => (StatusCode::BAD_REQUEST, "ALREADY_COMPLETED"),
        Some(job) => {
            job.cancel.cancel();
            (StatusCode::ACCEPTED, "CANCELLATION_REQUESTED")
        }
    };
    Ok(call.respond(admitted, Output::json(json!({"status": word}).to_string()).status(status)))
}
