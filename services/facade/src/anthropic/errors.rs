//! Errors in Anthropic's shape: `{"type":"error","error":{"type","message"},"request_id"}`.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Call;

use crate::refusal::{Class, Refusal};

/// In milliseconds; Anthropic's SDKs prefer it to `retry-after`.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// Anthropic's SDKs retry by it, whatever the status.
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// Anthropic's SDKs do not wait longer than this: they would repeat a hopeless request within seconds.
const SDK_PATIENCE: Duration = Duration::from_secs(60);

/// An error on its way to a client of Anthropic's.
#[derive(Debug)]
pub(crate) struct AnthropicError {
    status: StatusCode,
    body: Bytes,
    retry_after: Option<Duration>,
    is_final: bool,
}

/// A refusal, as Anthropic writes it.
#[derive(Serialize, ToSchema)]
#[schema(as = AnthropicError)]
pub(crate) struct ErrorBody {
    /// `error`.
    #[serde(rename = "type")]
    kind: &'static str,
    error: ErrorDetail,
    /// The request's id.
    request_id: Option<String>,
}

/// What went wrong.
#[derive(Serialize, ToSchema)]
#[schema(as = AnthropicErrorDetail)]
pub(crate) struct ErrorDetail {
    /// What programs branch on.
    #[serde(rename = "type")]
    #[schema(example = "rate_limit_error")]
    kind: &'static str,
    /// What happened, and what to do.
    message: String,
}

impl From<Refusal> for AnthropicError {
    fn from(refusal: Refusal) -> Self {
        let retry_after = refusal.retry_after();
        if let Some((status, body)) = refusal.passed_on() {
            return Self { status, body, retry_after, is_final: false };
        }
        let status = refusal.status();
        let error = ErrorDetail { kind: naming(refusal.class()), message: refusal.message().to_owned() };
        let request_id = Call::current().and_then(|call| call.request_id().to_str().map(str::to_owned).ok());
        let body = serde_json::to_vec(&ErrorBody { kind: "error", error, request_id }).unwrap_or_default().into();
        let is_final = refusal.is_final() || retry_after.is_some_and(|delay| delay > SDK_PATIENCE);
        Self { status, body, retry_after, is_final }
    }
}

impl IntoResponse for AnthropicError {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(delay) = self.retry_after {
            let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            headers.insert(RETRY_AFTER, HeaderValue::from(millis.div_ceil(1000)));
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(millis));
        }
        if self.is_final {
            headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }
}

impl AnthropicError {
    /// As the last event of a stream.
    pub(crate) fn event(self) -> Bytes {
        let mut event = b"event: error\ndata: ".to_vec();
        event.extend(self.body.iter().map(|&b| if b == b'\n' || b == b'\r' { b' ' } else { b }));
        event.extend_from_slice(b"\n\n");
        event.into()
    }
}

/// Anthropic's `type` for a class (<https://platform.claude.com/docs/en/api/errors>). SDKs branch on the status and on it.
fn naming(class: Class) -> &'static str {
    use ErrorReason as R;
    let Class::Reason(reason) = class else { return "invalid_request_error" };
    match reason {
        R::Unauthenticated | R::CredentialRevoked => "authentication_error",
        R::BudgetExhausted => "billing_error",
        R::PermissionDenied | R::ModelNotAllowed | R::FeatureNotAllowed | R::OwnKeyRefused | R::OwnKeyRequired => {
            "permission_error"
        }
        R::NotFound | R::ModelNotFound => "not_found_error",
        R::TooLarge => "request_too_large",
        R::QuotaExceeded | R::ProviderExhausted | R::OwnKeyLimited => "rate_limit_error",
        R::Overloaded => "overloaded_error",
        R::DeadlineExceeded => "timeout_error",
        R::InvalidArgument
        | R::ModelNotPriced
        | R::Unimplemented
        | R::InvalidPageToken
        | R::AlreadyExists
        | R::IdReused
        | R::NotRepeatable
        | R::CallInProgress => "invalid_request_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use weir_rpc::Error;

    use super::*;

    fn told(error: Error) -> (u16, serde_json::Value) {
        let error = AnthropicError::from(Refusal::from(error));
        (error.status.as_u16(), serde_json::from_slice(&error.body).expect("JSON"))
    }

    #[test]
    fn each_class_has_anthropics_name() {
        use ErrorReason as R;
        for (reason, status, kind) in [
            (R::InvalidArgument, 400, "invalid_request_error"),
            (R::Unauthenticated, 401, "authentication_error"),
            (R::BudgetExhausted, 402, "billing_error"),
            (R::ModelNotAllowed, 403, "permission_error"),
            (R::ModelNotFound, 404, "not_found_error"),
            (R::TooLarge, 413, "request_too_large"),
            (R::QuotaExceeded, 429, "rate_limit_error"),
            (R::ProviderFailed, 502, "api_error"),
            (R::Overloaded, 503, "overloaded_error"),
            (R::DeadlineExceeded, 504, "timeout_error"),
        ] {
            let (actual, body) = told(Error::new(reason, "why"));
            assert_eq!(
                (actual, body["type"].as_str(), body["error"]["type"].as_str()),
                (status, Some("error"), Some(kind))
            );
            assert_eq!(body["error"]["message"], "why");
        }
    }

    #[test]
    fn a_wait_that_no_client_waits_is_not_to_be_repeated() {
        let header = |seconds| {
            let limited = Error::new(ErrorReason::QuotaExceeded, "later").retry_after(Duration::from_secs(seconds));
            let response = AnthropicError::from(Refusal::from(limited)).into_response();
            assert_eq!(response.headers()[RETRY_AFTER], seconds.to_string());
            response.headers().get(X_SHOULD_RETRY).is_some()
        };
        assert!(header(61) && !header(60));
    }

    #[test]
    fn an_error_in_a_stream_is_one_event() {
        let event = AnthropicError::from(Refusal::from(Error::new(ErrorReason::ProviderFailed, "a\nb"))).event();
        let text = String::from_utf8(event.to_vec()).expect("text");
        assert!(text.starts_with("event: error\ndata: {\"type\":\"error\"") && text.ends_with("\n\n"), "{text}");
        assert_eq!(text.matches('\n').count(), 3);
    }
}
