//! Errors of our own API: problem details (RFC 9457).

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;
use weir_rpc::{Call, Error, Violation};

use crate::refusal::Refusal;

/// What went wrong (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// `urn:weir:problem:` and the reason: what programs branch on.
    #[serde(rename = "type")]
    #[schema(example = "urn:weir:problem:quota-exceeded")]
    kind: String,
    /// The reason in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What happened this time, and what to do.
    detail: String,
    /// As in the header `x-request-id`: what to ask an operator about.
    #[serde(skip_serializing_if = "String::is_empty")]
    request_id: String,
    /// The parameters at fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    parameters: Vec<Fault>,
    /// The limits that refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    limits: Vec<Fault>,
    #[serde(skip)]
    retry_after_seconds: Option<u64>,
}

/// A parameter or a limit, and what is wrong with it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Fault {
    name: String,
    detail: String,
}

impl From<&Violation> for Fault {
    fn from(violation: &Violation) -> Self {
        Self { name: violation.subject.clone(), detail: violation.description.clone() }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let code = refusal.class().code();
        let title = code.replace('_', " ");
        let request = Call::current();
        let request_id = request.as_ref().and_then(|call| call.request_id().to_str().ok()).unwrap_or_default();
        let seconds = |delay: std::time::Duration| u64::try_from(delay.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
        Self {
            kind: format!("urn:weir:problem:{}", code.replace('_', "-")),
            title: title[..1].to_ascii_uppercase() + &title[1..],
            status: refusal.status().as_u16(),
            detail: refusal.message().to_owned(),
            request_id: request_id.to_owned(),
            parameters: refusal.fields().iter().map(Fault::from).collect(),
            limits: refusal.violations().iter().map(Fault::from).collect(),
            retry_after_seconds: refusal.retry_after().map(seconds),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Refusal::from(error).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(serde_json::to_vec(&self).unwrap_or_default()));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
