//! Errors in OpenAI's shape: `{"error":{"message","type","param","code"}}`.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;
use weir_proto::broker::v1::RateLimit;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;

use crate::calls::headers;
use crate::refusal::{Class, Refusal};

/// In milliseconds; OpenAI's SDKs prefer it to `retry-after`.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// OpenAI's SDKs retry by it, whatever the status.
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// OpenAI's SDKs do not wait longer than this (older ones a minute): those that do not give up by themselves then would
/// repeat a hopeless request within seconds.
const SDK_PATIENCE: Duration = Duration::from_secs(120);

/// An error on its way to an OpenAI client.
#[derive(Debug)]
pub(crate) struct OpenAiError {
    status: StatusCode,
    body: Bytes,
    retry_after: Option<Duration>,
    is_final: bool,
    /// Those that refused.
    limits: Vec<RateLimit>,
}

/// A refusal, as OpenAI writes it.
#[derive(Serialize, ToSchema)]
#[schema(as = OpenAiError)]
pub(crate) struct ErrorBody {
    error: ErrorDetail,
}

/// What went wrong.
#[derive(Serialize, ToSchema)]
#[schema(as = OpenAiErrorDetail)]
pub(crate) struct ErrorDetail {
    /// What happened, and what to do.
    message: String,
    /// The kind of error.
    #[serde(rename = "type")]
    #[schema(example = "rate_limit_error")]
    kind: &'static str,
    /// The parameter at fault.
    param: Option<String>,
    /// What programs branch on.
    #[schema(example = "rate_limit_exceeded")]
    code: Option<String>,
}

impl From<Refusal> for OpenAiError {
    fn from(refusal: Refusal) -> Self {
        let retry_after = refusal.retry_after();
        if let Some((status, body)) = refusal.passed_on() {
            return Self { status, body, retry_after, is_final: false, limits: Vec::new() };
        }
        let status = refusal.status();
        let (kind, code) = naming(refusal.class());
        let param = refusal.fields().first().map(|field| field.subject.clone()).filter(|name| !name.is_empty());
        let error = ErrorDetail { message: refusal.message().to_owned(), kind, param, code };
        let body = serde_json::to_vec(&ErrorBody { error }).unwrap_or_default().into();
        let is_final = refusal.is_final() || retry_after.is_some_and(|delay| delay > SDK_PATIENCE);
        Self { status, body, retry_after, is_final, limits: headers::refusing(&refusal) }
    }
}

impl From<Error> for OpenAiError {
    fn from(error: Error) -> Self {
        Refusal::from(error).into()
    }
}

impl IntoResponse for OpenAiError {
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
        headers::rate_limits(headers, &self.limits);
        if self.is_final {
            headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl OpenAiError {
    /// As the last events of a stream.
    pub(crate) fn event(self) -> Bytes {
        let mut event = b"data: ".to_vec();
        event.extend(self.body.iter().map(|&b| if b == b'\n' || b == b'\r' { b' ' } else { b }));
        event.extend_from_slice(b"\n\ndata: [DONE]\n\n");
        event.into()
    }
}

/// OpenAI's `type` and `code` for a class. SDKs branch on both.
fn naming(class: Class) -> (&'static str, Option<String>) {
    use ErrorReason as R;
    let own = || Some(class.code());
    let Class::Reason(reason) = class else { return ("invalid_request_error", own()) };
    match reason {
        R::InvalidArgument => ("invalid_request_error", None),
        R::Unauthenticated | R::CredentialRevoked => ("invalid_request_error", Some("invalid_api_key".into())),
        R::PermissionDenied => ("invalid_request_error", Some("insufficient_permissions".into())),
        R::QuotaExceeded | R::ProviderExhausted => ("rate_limit_error", Some("rate_limit_exceeded".into())),
        R::OwnKeyLimited => ("rate_limit_error", own()),
        R::OwnKeyRefused | R::OwnKeyRequired => ("invalid_request_error", own()),
        R::BudgetExhausted => ("insufficient_quota", Some("insufficient_quota".into())),
        R::FeatureNotAllowed
        | R::ModelNotFound
        | R::ModelNotAllowed
        | R::ModelNotPriced
        | R::NotFound
        | R::TooLarge
        | R::Unimplemented => ("invalid_request_error", own()),
        R::IdReused | R::NotRepeatable | R::CallInProgress => ("invalid_request_error", own()),
        _ => ("server_error", own()),
    }
}

#[cfg(test)]
mod tests {
    use weir_proto::common::v1::ProviderError;

    use super::*;

    fn header(error: Error, name: HeaderName) -> Option<String> {
        let response = OpenAiError::from(error).into_response();
        response.headers().get(name).map(|value| value.to_str().expect("text").to_owned())
    }

    #[test]
    fn a_wait_is_told_in_seconds_rounded_up_and_in_milliseconds() {
        let limited = || Error::new(ErrorReason::QuotaExceeded, "slow down").retry_after(Duration::from_millis(1200));
        assert_eq!(header(limited(), RETRY_AFTER).as_deref(), Some("2"));
        assert_eq!(header(limited(), RETRY_AFTER_MS).as_deref(), Some("1200"));
        assert_eq!(header(limited(), X_SHOULD_RETRY), None);
    }

    #[test]
    fn a_refusal_by_limits_says_what_is_left_of_them() {
        let figures = |unit, cap, used| format!("scope=user;unit={unit};cap={cap};used={used};held=0;reset_ms=11500");
        let limited = Error::new(ErrorReason::QuotaExceeded, "slow down")
            .violation("requests-per-minute", "")
            .metadata("limit.requests-per-minute", figures("request", 120, 118))
            .violation("requests-per-hour", "")
            .metadata("limit.requests-per-hour", figures("request", 600, 600))
            .violation("budget", "")
            .metadata("limit.budget", figures("nano_usd", 1, 1));
        let response = OpenAiError::from(limited).into_response();
        let of = |name: &str| response.headers().get(name).map(|value| value.to_str().expect("text"));
        assert_eq!(of("x-ratelimit-limit-requests"), Some("600"));
        assert_eq!(of("x-ratelimit-remaining-requests"), Some("0"));
        assert_eq!(of("x-ratelimit-reset-requests"), Some("11s"));
        assert_eq!(of("x-ratelimit-limit-tokens"), None);
    }

    #[test]
    fn sdks_are_told_not_to_repeat_what_needs_a_longer_wait_than_theirs() {
        let limited = Error::new(ErrorReason::QuotaExceeded, "tomorrow").retry_after(Duration::from_secs(121));
        assert_eq!(header(limited, X_SHOULD_RETRY).as_deref(), Some("false"));
    }

    #[test]
    fn a_providers_error_keeps_its_status_and_body_if_it_is_one() {
        let answer = |http_status, body: &'static str| {
            let answer = ProviderError { http_status, body: body.into(), ..ProviderError::default() };
            let error = OpenAiError::from(Error::new(ErrorReason::ProviderRejected, "refused").provider(answer));
            (error.status.as_u16(), error.body)
        };
        let (status, body) = answer(422, r#"{"error": {"message":"odd" }}"#);
        assert_eq!((status, &body[..]), (422, &br#"{"error": {"message":"odd" }}"#[..]));
        for (status, body) in [(422, "<html>"), (200, "{}"), (99, "{}")] {
            assert_eq!(answer(status, body).0, 502, "{status} {body}");
        }
    }
}
