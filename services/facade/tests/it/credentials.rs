//! From a credential to a token: asked once, remembered, renewed, forgotten.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use weir_proto::broker::v1::ListModelsResponse;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;
use weir_types::Scope;

use crate::answers::{openai_error, problem};
use crate::fixtures::{EXCHANGE, LIST_MODELS};
use crate::scene::{KEY, Scene};

async fn scene() -> Scene {
    let scene = Scene::new().await;
    scene.siblings.answer(LIST_MODELS, ListModelsResponse::default());
    scene
}

async fn ask(scene: &Scene, key: &str) -> reqwest::Response {
    scene.request("GET", "/v1/models").bearer_auth(key).send().await.unwrap()
}

async fn status(scene: &Scene, key: &str) -> u16 {
    ask(scene, key).await.status().as_u16()
}

#[tokio::test]
async fn a_crowd_with_one_key_asks_auth_once() {
    let scene = scene().await;
    scene.auth.takes_millis.store(100, Ordering::Relaxed);
    let crowd = (0..50).map(|_| status(&scene, KEY));
    assert!(futures::future::join_all(crowd).await.iter().all(|&status| status == 200));
    assert_eq!(status(&scene, KEY).await, 200);
    assert_eq!(scene.siblings.count(EXCHANGE), 1);
}

#[tokio::test]
async fn a_crowd_shares_a_failure_too_and_nobody_waits_in_line() {
    let scene = scene().await;
    scene.auth.takes_millis.store(200, Ordering::Relaxed);
    scene.auth.is_down.store(true, Ordering::Relaxed);
    let crowd = (0..30).map(|_| status(&scene, KEY));
    assert!(futures::future::join_all(crowd).await.iter().all(|&status| status == 503));
    assert_eq!(scene.siblings.count(EXCHANGE), 1);
}

#[tokio::test]
async fn other_keys_do_not_wait_for_a_slow_exchange_and_one_that_leaves_does_not_spoil_it() {
    let scene = scene().await;
    scene.auth.takes_millis.store(1_000, Ordering::Relaxed);
    let impatient = tokio::time::timeout(Duration::from_millis(100), status(&scene, KEY));
    let (impatient, patient) = tokio::join!(impatient, status(&scene, KEY));
    assert!(impatient.is_err());
    assert_eq!((patient, scene.siblings.count(EXCHANGE)), (200, 1));
    assert_eq!(status(&scene, "weir_good_2").await, 200);
    assert_eq!(scene.siblings.count(EXCHANGE), 2);
}

#[tokio::test]
async fn a_token_is_renewed_ahead_of_its_end_and_no_request_waits_for_it() {
    let scene = scene().await;
    assert_eq!(status(&scene, KEY).await, 200);
    scene.clock.advance(Duration::from_secs(230));
    assert_eq!(status(&scene, KEY).await, 200);
    assert_eq!(scene.siblings.count(EXCHANGE), 1, "not yet");

    scene.auth.is_held.store(true, Ordering::Relaxed);
    scene.clock.advance(Duration::from_secs(20));
    for _ in 0..5 {
        assert_eq!(status(&scene, KEY).await, 200);
    }
    scene.eventually("a new token is asked for", |scene| scene.siblings.count(EXCHANGE) == 2).await;
    scene.auth.is_held.store(false, Ordering::Relaxed);

    // The old one would have ended; the new one goes on.
    scene.clock.advance(Duration::from_secs(100));
    assert_eq!(status(&scene, KEY).await, 200);
    assert_eq!(scene.siblings.count(EXCHANGE), 2);
}

#[tokio::test]
async fn a_token_that_has_ended_is_not_used() {
    let scene = scene().await;
    assert_eq!(status(&scene, KEY).await, 200);
    scene.clock.advance(Duration::from_secs(299));
    assert_eq!(status(&scene, KEY).await, 200);
    assert_eq!(scene.siblings.count(EXCHANGE), 2);
}

#[tokio::test]
async fn without_auth_known_callers_go_on_until_their_token_ends_and_others_are_told_to_wait() {
    let scene = scene().await;
    assert_eq!(status(&scene, KEY).await, 200);
    scene.auth.is_down.store(true, Ordering::Relaxed);
    assert_eq!(openai_error(ask(&scene, "weir_good_2").await).await.0, 503);
    let (api, _) = problem(scene.request("GET", "/api/v1/keys").bearer_auth("weir_good_2").send().await.unwrap()).await;
    assert_eq!(api, 503);
    scene.clock.advance(Duration::from_secs(295));
    assert_eq!(status(&scene, KEY).await, 200);
    scene.clock.advance(Duration::from_secs(5));
    let (code, error) = openai_error(ask(&scene, KEY).await).await;
    assert_eq!((code, error["message"].as_str()), (503, Some("auth is not available")));
    scene.auth.is_down.store(false, Ordering::Relaxed);
    assert_eq!((status(&scene, KEY).await, status(&scene, "weir_good_2").await), (200, 200));
}

#[tokio::test]
async fn a_refused_key_is_remembered_briefly() {
    let scene = scene().await;
    for _ in 0..5 {
        let response = ask(&scene, "weir_wrong").await;
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        let (code, error) = openai_error(response).await;
        assert_eq!((code, error["code"].as_str()), (401, Some("invalid_api_key")));
    }
    assert_eq!(scene.siblings.count(EXCHANGE), 1);
    scene.clock.advance(Duration::from_secs(3));
    assert_eq!(status(&scene, "weir_wrong").await, 401);
    assert_eq!(scene.siblings.count(EXCHANGE), 2);
}

#[tokio::test]
async fn a_token_that_a_service_refuses_is_forgotten() {
    let scene = scene().await;
    assert_eq!(status(&scene, KEY).await, 200);
    scene.siblings.refuse(LIST_MODELS, Error::new(ErrorReason::CredentialRevoked, "the API key has been revoked"));
    let (code, error) = openai_error(ask(&scene, KEY).await).await;
    assert_eq!((code, error["message"].as_str()), (401, Some("the API key has been revoked")));
    scene.siblings.refuse(EXCHANGE, Error::new(ErrorReason::CredentialRevoked, "the API key has been revoked"));
    scene.siblings.answer(LIST_MODELS, ListModelsResponse::default());
    assert_eq!(status(&scene, KEY).await, 401);
    assert_eq!(scene.siblings.count(EXCHANGE), 2);
}

#[tokio::test]
async fn a_key_that_is_revoked_in_the_meantime_ends_with_its_renewal() {
    let scene = scene().await;
    assert_eq!(status(&scene, KEY).await, 200);
    scene.siblings.refuse(EXCHANGE, Error::new(ErrorReason::CredentialRevoked, "the API key has been revoked"));
    scene.clock.advance(Duration::from_secs(250));
    assert_eq!(status(&scene, KEY).await, 200);
    scene.eventually("auth was asked", |scene| scene.siblings.count(EXCHANGE) == 2).await;
    let until = Instant::now() + Duration::from_secs(60);
    while status(&scene, KEY).await != 401 {
        assert!(Instant::now() < until, "the old token is still taken");
    }
}

#[tokio::test]
async fn a_token_that_the_caller_brings_is_passed_on_and_the_services_judge_it() {
    let scene = scene().await;
    let claims = scene.deployment.claims(scene.organization, Some(scene.user), None, [Scope::ModelsRead]);
    let token = scene.deployment.sign(&claims);
    assert_eq!(status(&scene, &token).await, 200);
    let (head, signature) = token.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
    assert_eq!(status(&scene, &forged).await, 401);
    assert_eq!(status(&scene, "eyJhbGciOiJub25lIn0.bm90IGpzb24.").await, 401);
    assert_eq!(scene.siblings.count(EXCHANGE), 0);
}

#[tokio::test]
async fn credentials_of_other_kinds_are_refused_without_asking_auth() {
    let scene = scene().await;
    for (name, value) in [
        ("authorization", "Bearer sk-proj-abcdef"),
        ("authorization", "Basic d2VpcjpnYXRl"),
        ("authorization", "weir_good"),
        ("authorization", "Bearer "),
        ("x-api-key", "sk-ant-abc"),
        ("cookie", "session=1"),
    ] {
        let response = scene.request("GET", "/v1/models").header(name, value).send().await.unwrap();
        let (code, error) = openai_error(response).await;
        assert_eq!((code, error["code"].as_str()), (401, Some("invalid_api_key")), "{name}: {value}");
        assert!(!error["message"].as_str().unwrap().contains("abc"), "{error}");
    }
    assert_eq!(scene.siblings.count(EXCHANGE), 0);
    let response = scene.request("GET", "/v1/models").header("x-api-key", KEY).send().await.unwrap();
    assert_eq!(response.status(), 200);
}
