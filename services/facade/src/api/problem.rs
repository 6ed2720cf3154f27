//! Errors of our own API: problem details (RFC 9457).

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use serde::Serialize;
use tonic::Status;
use utoipa::ToSchema;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::{Error, Failure, Violation};

use crate::status;

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// `urn:weir:problem:` and the reason: what clients branch on.
    #[serde(rename = "type")]
    #[schema(example = "urn:weir:problem:quota-exceeded")]
    kind: String,
    /// The reason in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What happened this time, and what to do.
    detail: String,
    /// The parameters at fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parameters: Vec<Fault>,
    /// The limits that refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
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

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        // Made a status first: that is where an error's internal detail is logged.
        let failure = Failure::from(Status::from(error));
        let reason = failure.reason().as_str_name().trim_start_matches("ERROR_REASON_").to_ascii_lowercase();
        let title = reason.replace('_', " ");
        Self {
            kind: format!("urn:weir:problem:{}", reason.replace('_', "-")),
            title: title[..1].to_ascii_uppercase() + &title[1..],
            status: status::of(failure.reason()).as_u16(),
            detail: failure.message().to_owned(),
            parameters: failure.fields().iter().map(Fault::from).collect(),
            limits: failure.violations().iter().map(Fault::from).collect(),
            retry_after_seconds: failure.retry_after().map(|delay| delay.as_millis().div_ceil(1000) as u64),
        }
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

/// A request that can't be read.
pub(crate) fn unreadable(message: impl Into<String>) -> Problem {
    Error::new(ErrorReason::InvalidArgument, message.into()).into()
}
