//! Errors in OpenAI's shape: `{"error":{"message","type","param","code"}}`.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Response, StatusCode, Uri};
use bytes::Bytes;
use serde::Serialize;
use tonic::Status;
use weir_proto::common::v1::{ErrorReason, ProviderError};
use weir_rpc::{Error, Failure};

use crate::status;

/// An error on its way to an OpenAI client.
pub(crate) struct OpenAiError {
    status: StatusCode,
    body: Bytes,
    content_type: HeaderValue,
    retry_after: Option<Duration>,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Detail<'a>,
}

#[derive(Serialize)]
struct Detail<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'a str>,
    code: Option<String>,
}

impl From<Error> for OpenAiError {
    fn from(error: Error) -> Self {
        // Made a status first: that is where an error's internal detail is logged.
        let failure = Failure::from(Status::from(error));
        failure.provider_error().and_then(passed_on).unwrap_or_else(|| Self::of(&failure))
    }
}

impl OpenAiError {
    fn of(error: &Failure) -> Self {
        let status = status::of(error.reason());
        let (kind, code) = naming(error.reason());
        let param = error.fields().first().map(|field| field.subject.as_str()).filter(|name| !name.is_empty());
        let message = error.fields().first().map_or_else(|| error.message(), |field| field.description.as_str());
        let envelope = Envelope { error: Detail { message, kind, param, code } };
        let body = serde_json::to_vec(&envelope).unwrap_or_default().into();
        Self {
            status,
            body,
            content_type: HeaderValue::from_static("application/json"),
            retry_after: error.retry_after(),
        }
    }

    /// As an answer.
    pub(crate) fn response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, self.content_type);
        if let Some(delay) = self.retry_after {
            let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            headers.insert(RETRY_AFTER, HeaderValue::from(millis.div_ceil(1000)));
            headers.insert("retry-after-ms", HeaderValue::from(millis));
        }
        response
    }

    /// As the last events of a stream.
    pub(crate) fn event(self) -> Bytes {
        let mut event = b"data: ".to_vec();
        event.extend(self.body.iter().map(|&b| if b == b'\n' || b == b'\r' { b' ' } else { b }));
        event.extend_from_slice(b"\n\ndata: [DONE]\n\n");
        event.into()
    }
}

/// A provider's own refusal, passed on as it came; what is not JSON is replaced.
fn passed_on(answer: &ProviderError) -> Option<OpenAiError> {
    let status = u16::try_from(answer.http_status).ok().and_then(|status| StatusCode::from_u16(status).ok())?;
    let is_error = (status.is_client_error() || status.is_server_error())
        && serde_json::from_slice::<serde::de::IgnoredAny>(&answer.body).is_ok();
    is_error.then(|| OpenAiError {
        status,
        body: answer.body.clone(),
        content_type: HeaderValue::from_static("application/json"),
        retry_after: None,
    })
}

/// OpenAI's `type` and `code` for a reason. SDKs branch on both.
fn naming(reason: ErrorReason) -> (&'static str, Option<String>) {
    let own = || Some(reason.as_str_name().trim_start_matches("ERROR_REASON_").to_ascii_lowercase());
    match reason {
        ErrorReason::InvalidArgument => ("invalid_request_error", None),
        ErrorReason::Unauthenticated | ErrorReason::CredentialRevoked => {
            ("invalid_request_error", Some("invalid_api_key".into()))
        }
        ErrorReason::PermissionDenied => ("invalid_request_error", Some("insufficient_permissions".into())),
        ErrorReason::QuotaExceeded | ErrorReason::ProviderExhausted => {
            ("rate_limit_error", Some("rate_limit_exceeded".into()))
        }
        ErrorReason::BudgetExhausted => ("insufficient_quota", Some("insufficient_quota".into())),
        ErrorReason::ModelNotFound
        | ErrorReason::ModelNotAllowed
        | ErrorReason::ModelNotPriced
        | ErrorReason::NotFound
        | ErrorReason::TooLarge
        | ErrorReason::Unimplemented => ("invalid_request_error", own()),
        _ => ("api_error", own()),
    }
}

/// A path under `/v1` that does not exist.
pub(crate) async fn unknown_route(uri: Uri) -> Response<Body> {
    let message = format!("There is no {}. The API's document is at /api/v1/openapi.json.", uri.path());
    OpenAiError::from(Error::new(ErrorReason::NotFound, message)).response()
}
