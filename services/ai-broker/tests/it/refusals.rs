//! What is refused: with the right reason, without a call to the provider, without a reservation that stays.

use std::sync::atomic::Ordering;

use serde_json::json;
use weir_proto::broker::v1::{InvokeRequest, Operation};
use weir_proto::common::v1::ErrorReason;

use crate::scene::{Scene, chat, streamed};

#[tokio::test]
async fn bad_input_is_refused_before_anything_is_reserved() {
    let scene = Scene::new().await;
    let message = json!([{"role": "user", "content": "hi"}]);
    let cases = [
        ("{", ErrorReason::InvalidArgument),
        (&json!({"messages": message}).to_string(), ErrorReason::InvalidArgument),
        (&json!({"model": "sim-small"}).to_string(), ErrorReason::InvalidArgument),
        (
            &json!({"model": "sim-small", "messages": message, "max_tokens": -1}).to_string(),
            ErrorReason::InvalidArgument,
        ),
        (
            &json!({"model": "sim-small", "messages": message, "max_tokens": 99_999}).to_string(),
            ErrorReason::InvalidArgument,
        ),
        (&json!({"model": "gpt-99", "messages": message}).to_string(), ErrorReason::ModelNotFound),
        (&json!({"model": "lost", "messages": message}).to_string(), ErrorReason::ModelNotPriced),
        (&streamed(1, "").to_string(), ErrorReason::InvalidArgument),
    ];
    for (body, reason) in cases {
        assert_eq!(scene.invoke_raw(body.to_owned()).await.unwrap_err().reason(), reason, "{body}");
    }
    assert!(scene.siblings.reserved.lock().is_empty() && scene.provider.served().is_empty());
}

#[tokio::test]
async fn a_model_that_the_plan_does_not_include_is_refused() {
    let scene = Scene::of_plan(&["sim-large"]).await;
    assert_eq!(scene.models().await, ["sim-large"]);
    let failure = scene.invoke(&chat(1, "")).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::ModelNotAllowed);
    assert_eq!(failure.message(), "The model `sim-small` is not part of the plan `pro`.");
    assert!(scene.siblings.reserved.lock().is_empty());
}

#[tokio::test]
async fn a_feature_that_the_plan_does_not_include_is_refused() {
    let mut scene = Scene::new().await;
    // Of an organisation whose plan has not been asked for yet.
    scene.bearer = scene.stranger.clone();
    *scene.siblings.features.lock() = vec!["interview".into(), "jewelry.*".into()];
    let asked = |feature: &str| InvokeRequest {
        operation: Operation::ChatCompletions.into(),
        body: chat(1, "").to_string().into(),
        feature: feature.into(),
        ..Default::default()
    };
    let failure = scene.invoke_request(asked("coaching")).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::FeatureNotAllowed);
    assert_eq!((failure.metadata("feature"), failure.metadata("plan")), (Some("coaching"), Some("plans/pro")));
    let expected = "The feature `coaching` is not part of the plan `pro`: change to a plan that has it (GET /api/v1/plans lists them).";
    assert_eq!(failure.message(), expected);
    let mut body: serde_json::Value = chat(1, "");
    body["stream"] = true.into();
    let failure = scene.stream_request(InvokeRequest { body: body.to_string().into(), ..asked("jewelry") }).await;
    assert_eq!(failure.unwrap_err().reason(), ErrorReason::FeatureNotAllowed);
    let failure = scene.invoke_request(asked("no such\nfeature")).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::InvalidArgument);
    assert!(scene.siblings.reserved.lock().is_empty() && scene.provider.served().is_empty());
    for feature in ["interview", "jewelry.rings", ""] {
        scene.invoke_request(asked(feature)).await.unwrap();
    }
    let reserved = scene.siblings.reserved.lock();
    let mut labels: Vec<_> = reserved
        .values()
        .map(|request| request.subject.as_ref().unwrap().labels.get("feature").cloned().unwrap_or_default())
        .collect();
    labels.sort();
    assert_eq!(labels, ["", "interview", "jewelry.rings"], "limits can count by it");
}

#[tokio::test]
async fn a_denial_reaches_the_caller_with_its_limits_and_no_provider_is_called() {
    let scene = Scene::new().await;
    scene.siblings.refuse.store(1, Ordering::Relaxed);
    let failure = scene.invoke(&chat(1, "")).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::QuotaExceeded);
    assert_eq!(failure.violations()[0].subject, "requests");
    assert!(scene.provider.served().is_empty());
}

#[tokio::test]
async fn a_request_without_a_bound_is_told_that_it_could_set_one() {
    let scene = Scene::new().await;
    let mut unbound = chat(1, "");
    unbound.as_object_mut().unwrap().remove("max_tokens");
    unbound["model"] = "fast".into();
    let advice = ". Set max_tokens to reserve less: without it, room for 32 output tokens is reserved";
    for (unit, body, advice) in [
        ("nano_usd", &unbound, advice),
        ("token", &unbound, advice),
        ("input_token", &unbound, ""),
        ("nano_usd", &chat(1, ""), ""),
    ] {
        unit.clone_into(&mut scene.siblings.refusing_unit.lock());
        scene.siblings.refuse.store(1, Ordering::Relaxed);
        let failure = scene.invoke(body).await.unwrap_err();
        assert_eq!(failure.message(), format!("refused by budget: 10 of 10 used{advice}"), "{unit} {body}");
        assert_eq!(failure.violations()[0].subject, "budget");
    }
}

#[tokio::test]
async fn without_quota_no_provider_is_called() {
    let scene = Scene::new().await;
    scene.siblings.quota_is_down.store(true, Ordering::Relaxed);
    let failure = scene.invoke(&chat(1, "")).await.unwrap_err();
    assert_eq!((failure.reason(), failure.is_transient()), (ErrorReason::Unavailable, true));
    assert!(scene.provider.served().is_empty());
    scene
        .eventually("what quota may have reserved is released", async |scene| scene.siblings.released.lock().len() == 1)
        .await;
}

#[tokio::test]
async fn what_the_lost_first_request_may_have_reserved_is_released_although_the_second_is_refused() {
    let scene = Scene::with(&["k"], "reserve_deadline = \"100ms\"").await;
    scene.siblings.unanswered.store(1, Ordering::Relaxed);
    scene.siblings.refuse.store(1, Ordering::Relaxed);
    let failure = scene.invoke(&chat(1, "")).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::QuotaExceeded);
    assert_eq!(scene.ends().await, (1, 0, 1));
    assert!(scene.provider.served().is_empty());
}

#[tokio::test]
async fn a_providers_refusal_is_passed_on_and_nothing_is_charged() {
    let scene = Scene::new().await;
    let failure = scene.invoke(&chat(1, "status=422")).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::ProviderRejected);
    assert_eq!(failure.provider_error().unwrap().http_status, 422);
    assert_eq!(scene.ends().await, (1, 0, 1));
    assert!(scene.siblings.recorded.lock().is_empty());
}

#[tokio::test]
async fn a_refused_caller_is_let_in_by_what_his_last_call_gives_back() {
    let scene = Scene::with(&["k"], "settle_linger = \"10s\"").await;
    scene.invoke(&chat(1, "")).await.unwrap();
    scene.siblings.refuse.store(1, Ordering::Relaxed);
    scene.invoke(&chat(1, "")).await.unwrap();
    assert_eq!(scene.siblings.committed.lock().len(), 1, "the first call was settled to let the second in");
}
