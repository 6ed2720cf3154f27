//! What the services refuse, and what becomes of it: a status, a shape, and no more detail than is good.

use std::time::Duration;

use serde_json::json;
use weir_proto::broker::v1::InvokeResponse;
use weir_proto::common::v1::{ErrorReason, ProviderError};
use weir_rpc::Error;
use weir_types::Scope;

use crate::answers::{openai_error, problem};
use crate::fixtures::{BALANCE, INVOKE};
use crate::scene::Scene;

#[tokio::test]
async fn each_reason_has_its_status_in_both_shapes() {
    use ErrorReason as R;
    let scene = Scene::new().await;
    for (reason, status, kind, code) in [
        (R::InvalidArgument, 400, "invalid_request_error", json!(null)),
        (R::ModelNotPriced, 400, "invalid_request_error", json!("model_not_priced")),
        (R::BudgetExhausted, 402, "insufficient_quota", json!("insufficient_quota")),
        (R::PermissionDenied, 403, "invalid_request_error", json!("insufficient_permissions")),
        (R::ModelNotAllowed, 403, "invalid_request_error", json!("model_not_allowed")),
        (R::FeatureNotAllowed, 403, "invalid_request_error", json!("feature_not_allowed")),
        (R::ModelNotFound, 404, "invalid_request_error", json!("model_not_found")),
        (R::AlreadyExists, 409, "server_error", json!("already_exists")),
        (R::TooLarge, 413, "invalid_request_error", json!("too_large")),
        (R::QuotaExceeded, 429, "rate_limit_error", json!("rate_limit_exceeded")),
        (R::ProviderExhausted, 429, "rate_limit_error", json!("rate_limit_exceeded")),
        (R::Internal, 500, "server_error", json!("internal")),
        (R::Unimplemented, 501, "invalid_request_error", json!("unimplemented")),
        (R::ProviderFailed, 502, "server_error", json!("provider_failed")),
        (R::Overloaded, 503, "server_error", json!("overloaded")),
        (R::Rebuilding, 503, "server_error", json!("rebuilding")),
        (R::DeadlineExceeded, 504, "server_error", json!("deadline_exceeded")),
    ] {
        scene.siblings.refuse(INVOKE, Error::new(reason, "why"));
        scene.siblings.refuse(BALANCE, Error::new(reason, "why"));
        let (actual, error) = openai_error(scene.post("/v1/chat/completions", &json!({})).send().await.unwrap()).await;
        assert_eq!((actual, &error["type"], &error["code"]), (status, &json!(kind), &code), "{reason:?}");
        let (actual, body) = problem(scene.get("/api/v1/balance").send().await.unwrap()).await;
        let name = reason.as_str_name().trim_start_matches("ERROR_REASON_").to_lowercase().replace('_', "-");
        assert_eq!((actual, &body["type"]), (status, &json!(format!("urn:weir:problem:{name}"))), "{reason:?}");
    }
}

#[tokio::test]
async fn limits_that_refuse_are_named_and_the_wait_is_told() {
    let scene = Scene::new().await;
    let refused = Error::new(ErrorReason::QuotaExceeded, "10 of 10 requests per minute are used")
        .violation("requests-per-minute", "10 of 10")
        .retry_after(Duration::from_millis(4200));
    scene.siblings.refuse(INVOKE, refused.clone());
    scene.siblings.refuse(BALANCE, refused);
    let response = scene.post("/v1/chat/completions", &json!({})).send().await.unwrap();
    assert_eq!(
        (&response.headers()["retry-after"], &response.headers()["retry-after-ms"]),
        (&"5".parse().unwrap(), &"4200".parse().unwrap())
    );
    assert_eq!(openai_error(response).await.1["message"], "10 of 10 requests per minute are used");
    let response = scene.get("/api/v1/balance").send().await.unwrap();
    assert_eq!(
        (&response.headers()["retry-after"], &response.headers()["cache-control"]),
        (&"5".parse().unwrap(), &"no-store".parse().unwrap())
    );
    let (_, body) = problem(response).await;
    assert_eq!(body["limits"], json!([{"name": "requests-per-minute", "detail": "10 of 10"}]));
}

#[tokio::test]
async fn a_parameter_at_fault_is_named() {
    let scene = Scene::new().await;
    scene.siblings.refuse(INVOKE, Error::invalid("max_tokens", "must be at least 1"));
    let (status, error) = openai_error(scene.post("/v1/chat/completions", &json!({})).send().await.unwrap()).await;
    assert_eq!((status, &error["param"]), (400, &json!("max_tokens")));
    assert_eq!(error["message"], "max_tokens: must be at least 1");
}

#[tokio::test]
async fn a_providers_refusal_is_passed_on_as_it_came() {
    let scene = Scene::new().await;
    let body =
        "{\"error\": {\"message\":\"odd\",\"type\":\"invalid_request_error\",\"param\":\"tools\",\"code\":null}}";
    let answer = ProviderError { http_status: 422, body: body.into(), ..ProviderError::default() };
    let refused = Error::new(ErrorReason::ProviderRejected, "openai refused the request").provider(answer);
    scene.siblings.refuse(INVOKE, refused);
    let response = scene.post("/v1/chat/completions", &json!({})).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.text().await.unwrap().as_str()), (422, body));
}

#[tokio::test]
async fn details_of_the_inside_stay_inside() {
    let scene = Scene::new().await;
    for error in [
        Error::defect("relation \"auth.keys\" does not exist"),
        Error::unavailable("quota", "connection refused at 10.0.0.7:9102"),
        Error::new(ErrorReason::Unavailable, "quota: 10.0.0.7:9102 refused").metadata("peer", "quota"),
    ] {
        scene.siblings.refuse(INVOKE, error);
        let (status, error) = openai_error(scene.post("/v1/chat/completions", &json!({})).send().await.unwrap()).await;
        assert!(status >= 500, "{error}");
        let text = error.to_string();
        assert!(!text.contains("10.0.0.7") && !text.contains("relation"), "{text}");
    }
}

#[tokio::test]
async fn a_key_without_the_scope_is_forbidden_and_the_scope_is_named() {
    let scene = Scene::new().await;
    scene.siblings.answer(INVOKE, InvokeResponse::default());
    scene.exchange_keys(&[Scope::UsageRead]);
    let (status, error) = openai_error(scene.post("/v1/chat/completions", &json!({})).send().await.unwrap()).await;
    assert_eq!(status, 403);
    assert!(error["message"].as_str().unwrap().contains("ai.invoke"), "{error}");
    let (status, body) = problem(scene.get("/api/v1/balance").send().await.unwrap()).await;
    assert_eq!(status, 403);
    assert!(body["detail"].as_str().unwrap().contains("quota.read"), "{body}");
}
