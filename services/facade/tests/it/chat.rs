//! Plain chats and embeddings.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;
use weir_proto::broker::v1::{Accounting, InvokeRequest, InvokeResponse, Operation, RateLimit};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::{Caller, Error};

use crate::answers::openai_error;
use crate::fixtures::INVOKE;
use crate::scene::{KEY, Scene};

/// Spacing, escapes, numbers and fields that no serializer would write this way.
const ANSWER: &str =
    "{ \"id\":\"chatcmpl-1\",\"new_field\" : 1.0e2,\n\"text\":\"\\u00e9\\/\",\"big\":123456789012345678901 }";

fn invoked(body: &'static str) -> InvokeResponse {
    InvokeResponse {
        body: body.into(),
        content_type: "application/json; charset=utf-8".into(),
        accounting: Some(Accounting {
            reservation_id: "r".into(),
            provider: "openai".into(),
            model: "gpt-4o-mini-2024-07-18".into(),
            attempts: 2,
            input_tokens: 5,
            output_tokens: 8,
            cost_nano_usd: 5_550,
            estimated: false,
            overhead: Some(prost_types::Duration { seconds: 0, nanos: 1_234_567 }),
            rate_limits: vec![
                RateLimit {
                    kind: "requests".into(),
                    limit: 100,
                    remaining: 99,
                    reset_after: Some(prost_types::Duration { seconds: 0, nanos: 600_000_000 }),
                },
                RateLimit { kind: "tokens".into(), limit: 10_000, remaining: 9_987, reset_after: None },
            ],
            queue_position: 0,
            queue_time: None,
            load_level: "high".into(),
            downgraded: true,
            replayed: false,
            provider_key: "organizations/o/providerKeys/k-1".into(),
            cached: false,
            coalesced: false,
        }),
    }
}

#[tokio::test]
async fn bodies_pass_untouched_both_ways() {
    let scene = Scene::new().await;
    scene.siblings.answer(INVOKE, invoked(ANSWER));
    let sent = "{\"model\":\"m\" , \"messages\":[],\"unheard_of\":{\"a\":1.0,\"a\":2},\"n\":1e0}";
    for (path, operation) in
        [("/v1/chat/completions", Operation::ChatCompletions), ("/v1/embeddings", Operation::Embeddings)]
    {
        let response = scene.request("POST", path).bearer_auth(KEY).body(sent).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/json; charset=utf-8");
        assert_eq!(response.text().await.unwrap(), ANSWER);
        let (asked, _) = scene.siblings.last::<InvokeRequest>(INVOKE);
        assert_eq!((asked.operation(), &asked.body[..]), (operation, sent.as_bytes()));
    }
}

#[tokio::test]
async fn headers_say_what_a_call_was_and_cost_and_what_is_left() {
    let scene = Scene::new().await;
    scene.siblings.answer(INVOKE, invoked(ANSWER));
    let response = scene.post("/v1/chat/completions", &json!({"model": "m"})).send().await.unwrap();
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    for (name, value) in [
        ("weir-cost-usd", "0.00000555"),
        ("weir-model", "gpt-4o-mini-2024-07-18"),
        ("weir-attempts", "2"),
        ("weir-own-key", "k-1"),
        ("weir-overhead-ms", "1.234"),
        ("weir-load", "high"),
        ("weir-downgraded", "true"),
        ("x-ratelimit-limit-requests", "100"),
        ("x-ratelimit-remaining-requests", "99"),
        ("x-ratelimit-reset-requests", "600ms"),
        ("x-ratelimit-limit-tokens", "10000"),
        ("x-ratelimit-remaining-tokens", "9987"),
        ("x-content-type-options", "nosniff"),
    ] {
        let actual = header(name);
        assert!(
            actual.as_ref().is_some_and(|actual| actual.trim_end_matches('0') == value.trim_end_matches('0')),
            "{name}: {actual:?}"
        );
    }
    assert_eq!(header("x-ratelimit-reset-tokens"), None);
    assert_eq!(header("weir-reservation-id"), None);
}

#[tokio::test]
async fn the_broker_learns_who_calls_from_where_under_which_id() {
    let scene = Scene::new().await;
    scene.siblings.answer(INVOKE, invoked(ANSWER));
    let request = scene.post("/v1/chat/completions", &json!({})).header("x-request-id", "mine-1");
    let response = request.header("x-forwarded-for", "203.0.113.9").send().await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "mine-1");
    let (asked, caller) = scene.siblings.last::<InvokeRequest>(INVOKE);
    assert_eq!((asked.request_id.as_str(), asked.client_ip.as_str()), ("mine-1", "127.0.0.1"));
    let Caller::Principal(caller) = &*caller else { panic!("{caller:?}") };
    assert_eq!(
        (caller.organization, caller.user, caller.api_key),
        (scene.organization, Some(scene.user), Some(scene.api_key))
    );

    let response = scene.post("/v1/chat/completions", &json!({})).header("x-request-id", "two words");
    let made = response.send().await.unwrap().headers()["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!((made.len(), scene.siblings.last::<InvokeRequest>(INVOKE).0.request_id), (36, made));
}

#[tokio::test]
async fn a_trusted_proxy_says_where_the_client_is() {
    let scene = Scene::with("trusted_proxies = [\"127.0.0.0/8\"]").await;
    scene.siblings.answer(INVOKE, invoked(ANSWER));
    let request = scene.post("/v1/chat/completions", &json!({})).header("x-forwarded-for", "10.0.0.1, 203.0.113.9");
    request.send().await.unwrap();
    let (asked, _) = scene.siblings.last::<InvokeRequest>(INVOKE);
    assert_eq!(asked.client_ip.parse::<IpAddr>().unwrap().to_string(), "203.0.113.9");
}

#[tokio::test]
async fn http_2_is_served_too() {
    let scene = Scene::new().await;
    scene.siblings.answer(INVOKE, invoked(ANSWER));
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let request = client.post(scene.url("/v1/chat/completions")).bearer_auth(KEY).body("{}");
    let response = request.send().await.unwrap();
    assert_eq!((response.version(), response.status().as_u16()), (reqwest::Version::HTTP_2, 200));
    assert_eq!(response.text().await.unwrap(), ANSWER);
}

#[tokio::test]
async fn an_idempotency_key_is_passed_on_and_a_repetition_is_marked() {
    let scene = Scene::new().await;
    scene.siblings.answer(INVOKE, invoked(ANSWER));
    let chat = || scene.request("POST", "/v1/chat/completions").bearer_auth(KEY).body("{}");
    let first = chat().header("idempotency-key", "\"order-7\"").send().await.unwrap();
    assert_eq!(scene.siblings.last::<InvokeRequest>(INVOKE).0.idempotency_key, "order-7");
    assert!(first.headers().get("idempotent-replayed").is_none());
    let mut answer = invoked(ANSWER);
    answer.accounting.as_mut().unwrap().replayed = true;
    scene.siblings.answer(INVOKE, answer);
    let again = chat().header("idempotency-key", "order-7").send().await.unwrap();
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    assert_eq!(chat().header("idempotency-key", "").send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn what_a_client_wants_of_kept_answers_is_passed_on_and_one_that_was_kept_is_marked() {
    let scene = Scene::new().await;
    let mut answer = invoked(ANSWER);
    let accounting = answer.accounting.as_mut().unwrap();
    (accounting.cached, accounting.cost_nano_usd, accounting.input_tokens) = (true, 0, 0);
    scene.siblings.answer(INVOKE, answer);
    let chat = || scene.request("POST", "/v1/chat/completions").bearer_auth(KEY).body("{}");
    let response =
        chat().header("weir-cache", "no-cache, max-age=60").header("weir-cache-key", "s-7").send().await.unwrap();
    assert_eq!(
        (&response.headers()["weir-cached"], &response.headers()["weir-cost-usd"]),
        (&"true".parse().unwrap(), &"0".parse().unwrap())
    );
    let asked = scene.siblings.last::<InvokeRequest>(INVOKE).0.cache.unwrap();
    assert_eq!((asked.no_cache, asked.no_store, asked.key.as_str()), (true, false, "s-7"));
    assert_eq!(asked.max_age.unwrap().seconds, 60);
    chat().send().await.unwrap();
    assert_eq!(scene.siblings.last::<InvokeRequest>(INVOKE).0.cache, None);
    assert_eq!(chat().header("weir-cache", "forever").send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn sdks_repeat_a_call_under_way_and_not_what_can_never_be_answered() {
    let scene = Scene::new().await;
    for (path, reason, code, repeat) in [
        ("/v1/chat/completions", ErrorReason::CallInProgress, "call_in_progress", None),
        ("/v1/chat/completions", ErrorReason::IdReused, "id_reused", Some("false")),
        ("/v1/messages", ErrorReason::NotRepeatable, "invalid_request_error", Some("false")),
    ] {
        scene.siblings.refuse(INVOKE, Error::new(reason, "as it is").retry_after(Duration::from_secs(1)));
        let response = scene.post(path, &json!({})).header("idempotency-key", "k").send().await.unwrap();
        let should_retry = response.headers().get("x-should-retry").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!((response.status().as_u16(), should_retry.as_deref()), (409, repeat), "{reason:?}");
        assert!(response.text().await.unwrap().contains(code));
    }
}

#[tokio::test]
async fn a_calls_feature_is_passed_on() {
    let scene = Scene::new().await;
    scene.siblings.answer(INVOKE, invoked(ANSWER));
    let chat = || scene.request("POST", "/v1/chat/completions").bearer_auth(KEY).body("{}");
    let asked = || scene.siblings.last::<InvokeRequest>(INVOKE).0.feature;
    chat().header("weir-feature", "interview").send().await.unwrap();
    assert_eq!(asked(), "interview");
    chat().send().await.unwrap();
    assert_eq!(asked(), "");
    let odd = axum::http::HeaderValue::from_bytes(b"caf\xe9").unwrap();
    let (status, error) = openai_error(chat().header("weir-feature", odd).send().await.unwrap()).await;
    assert_eq!((status, &error["param"]), (400, &json!("weir-feature")));
}

#[tokio::test]
async fn a_calls_priority_is_passed_on() {
    let scene = Scene::new().await;
    scene.siblings.answer(INVOKE, invoked(ANSWER));
    let chat = || scene.request("POST", "/v1/chat/completions").bearer_auth(KEY).body("{}");
    chat().header("weir-priority", "non-critical").send().await.unwrap();
    assert_eq!(scene.siblings.last_priority(INVOKE).as_deref(), Some("non-critical"));
    chat().send().await.unwrap();
    assert_eq!(scene.siblings.last_priority(INVOKE), None);
}
