//! Errors as `google.rpc.Status` details.

use bytes::Bytes;
use prost::Message as _;
use prost_types::Any;
use tonic::Status;
use tonic_types::pb;
use weir_proto::common::v1::{ErrorReason, ProviderError};

use super::failure::Told;
use super::{DOMAIN, Error, Failure, Violation};

const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";
const QUOTA_FAILURE: &str = "type.googleapis.com/google.rpc.QuotaFailure";
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";
const PROVIDER_ERROR: &str = "type.googleapis.com/weir.common.v1.ProviderError";
const PREFIX: &str = "ERROR_REASON_";

/// The reason's text on the wire: its enum name without the prefix.
pub(super) fn reason_text(reason: ErrorReason) -> &'static str {
    reason.as_str_name().strip_prefix(PREFIX).unwrap_or("INTERNAL")
}

fn any(type_url: &str, message: &impl prost::Message) -> Any {
    Any { type_url: type_url.to_owned(), value: message.encode_to_vec() }
}

/// The status that is sent for an error.
pub(super) fn status(error: &Error) -> Status {
    with_code(error.code(), error)
}

/// As [`status`], with another code than the reason's own.
pub(super) fn with_code(code: tonic::Code, error: &Error) -> Status {
    let inner = &*error.0;
    let metadata = inner.metadata.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
    let info = pb::ErrorInfo { reason: reason_text(inner.reason).to_owned(), domain: DOMAIN.to_owned(), metadata };
    let mut details = vec![any(ERROR_INFO, &info)];
    if !inner.fields.is_empty() {
        let field_violations = inner
            .fields
            .iter()
            .map(|v| pb::bad_request::FieldViolation {
                field: v.subject.clone(),
                description: v.description.clone(),
                ..Default::default()
            })
            .collect();
        details.push(any(BAD_REQUEST, &pb::BadRequest { field_violations }));
    }
    if !inner.violations.is_empty() {
        let violations = inner
            .violations
            .iter()
            .map(|v| pb::quota_failure::Violation {
                subject: v.subject.clone(),
                description: v.description.clone(),
                ..Default::default()
            })
            .collect();
        details.push(any(QUOTA_FAILURE, &pb::QuotaFailure { violations }));
    }
    if let Some(delay) = inner.retry_after {
        let retry_delay = prost_types::Duration::try_from(delay).ok();
        details.push(any(RETRY_INFO, &pb::RetryInfo { retry_delay }));
    }
    if let Some(provider) = &inner.provider {
        details.push(any(PROVIDER_ERROR, provider));
    }
    let message = inner.message.to_string();
    let encoded = pb::Status { code: code as i32, message: message.clone(), details }.encode_to_vec();
    Status::with_details(code, message, Bytes::from(encoded))
}

/// Reads what [`status`] wrote, and makes the best of a status that somebody else wrote.
pub(super) fn failure(status: &Status) -> Failure {
    let mut failure = Told {
        code: status.code(),
        reason: super::reason(status.code()),
        message: status.message().to_owned(),
        metadata: Vec::new(),
        retry_after: None,
        fields: Vec::new(),
        violations: Vec::new(),
        provider_error: None,
    };
    let details = pb::Status::decode(status.details()).map(|status| status.details).unwrap_or_default();
    for detail in details {
        let value = detail.value.as_slice();
        match detail.type_url.as_str() {
            ERROR_INFO => {
                let Ok(info) = pb::ErrorInfo::decode(value) else { continue };
                if info.domain == DOMAIN
                    && let Some(reason) = ErrorReason::from_str_name(&format!("{PREFIX}{}", info.reason))
                {
                    failure.reason = reason;
                }
                failure.metadata = info.metadata.into_iter().collect();
            }
            BAD_REQUEST => {
                let Ok(bad) = pb::BadRequest::decode(value) else { continue };
                failure.fields = bad
                    .field_violations
                    .into_iter()
                    .map(|v| Violation { subject: v.field, description: v.description })
                    .collect();
            }
            QUOTA_FAILURE => {
                let Ok(quota) = pb::QuotaFailure::decode(value) else { continue };
                failure.violations = quota
                    .violations
                    .into_iter()
                    .map(|v| Violation { subject: v.subject, description: v.description })
                    .collect();
            }
            RETRY_INFO => {
                let Ok(retry) = pb::RetryInfo::decode(value) else { continue };
                failure.retry_after = retry.retry_delay.and_then(|delay| delay.try_into().ok());
            }
            PROVIDER_ERROR => failure.provider_error = ProviderError::decode(value).ok(),
            _ => {}
        }
    }
    Failure(Box::new(failure))
}
