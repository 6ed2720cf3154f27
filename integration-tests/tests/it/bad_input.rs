//! What bad input gets: an error of the right class in the caller's shape, no charge, no held reservation.

use serde_json::{Value, json};
use weir_integration_tests::books::Books;
use weir_proto::auth::v1::{CreateApiKeyRequest, RevokeApiKeyRequest};

use crate::{World, asking, with};

async fn key_with_scopes(world: &World, scopes: &[&str]) -> (String, String) {
    let request = CreateApiKeyRequest {
        parent: world.tenant.organization.clone(),
        display_name: "narrow".to_owned(),
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        ..CreateApiKeyRequest::default()
    };
    let created = world.deployment.siblings.auth().create_api_key(request).await.unwrap().into_inner();
    (created.api_key.unwrap().name, created.secret)
}

/// The status, and the error in OpenAI's shape.
async fn refusal(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    let error = body["error"].clone();
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    assert!(error["type"].is_string() && error.get("param").is_some() && error.get("code").is_some(), "{body}");
    (status, error)
}

#[tokio::test]
async fn bad_requests_to_openai_routes_are_refused_in_openais_shape_and_cost_nothing() {
    let world = World::in_one_process().await;
    let good = asking("");
    for (body, expected) in [
        (with(good.clone(), &json!({"model": "no-such-model"})), 404),
        (with(good.clone(), &json!({"model": 7})), 400),
        (with(good.clone(), &json!({"max_completion_tokens": -1})), 400),
        (with(good.clone(), &json!({"max_completion_tokens": 9_000_000_000_000_000_000_u64})), 400),
        (with(good.clone(), &json!({"max_completion_tokens": 1.5})), 400),
        (with(good.clone(), &json!({"n": -3})), 400),
        (json!({"messages": good["messages"]}), 400),
        (json!([]), 400),
    ] {
        let (status, error) = refusal(world.chat(&body).await).await;
        assert_eq!(status, expected, "{body}: {error}");
    }
    let malformed = world.post("/v1/chat/completions").body("{\"model\":").send().await.unwrap();
    assert_eq!(refusal(malformed).await.0, 400);
    let large = world.post("/v1/chat/completions").body(vec![b'x'; 21 << 20]).send().await.unwrap();
    assert_eq!(large.status(), 413);
    assert_eq!(refusal(world.get("/v1/nothing").send().await.unwrap()).await.0, 404);
    nothing_happened(&world).await;
}

#[tokio::test]
async fn bad_credentials_are_refused_and_cost_nothing() {
    let world = World::in_one_process().await;
    let url = world.url("/v1/chat/completions");
    let ask = async |secret: Option<&str>| {
        let request = world.client.post(&url).json(&asking(""));
        let request = match secret {
            Some(secret) => request.bearer_auth(secret),
            None => request,
        };
        refusal(request.send().await.unwrap()).await
    };
    assert_eq!(ask(None).await.0, 401);
    assert_eq!(ask(Some("weir_wrong")).await.0, 401);
    let (status, error) = ask(Some(&format!("{}x", world.tenant.secret))).await;
    assert_eq!((status, &error["code"]), (401, &json!("invalid_api_key")));
    let (_, narrow) = key_with_scopes(&world, &["usage.read"]).await;
    assert_eq!(ask(Some(&narrow)).await.0, 403);
    nothing_happened(&world).await;
}

#[tokio::test]
async fn a_revoked_key_stops_working_within_seconds_although_it_was_just_used() {
    let world = World::in_one_process().await;
    let (name, secret) = key_with_scopes(&world, &["ai.invoke"]).await;
    let ask = async || {
        let request = world.client.post(world.url("/v1/chat/completions")).bearer_auth(&secret);
        request.json(&asking("")).send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask().await, 200);
    world.deployment.siblings.auth().revoke_api_key(RevokeApiKeyRequest { name }).await.unwrap();
    let start = std::time::Instant::now();
    let mut served = 1;
    while ask().await == 200 {
        served += 1;
        assert!(start.elapsed().as_secs() < 60, "still accepted after {:?}", start.elapsed());
    }
    assert_eq!(ask().await, 401);
    assert_eq!(world.books().await.usage.totals.requests, served);
}

#[tokio::test]
async fn bad_requests_to_our_own_api_are_problems() {
    let world = World::in_one_process().await;
    let problem = async |response: reqwest::Response| {
        let status = response.status().as_u16();
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["status"], status, "{body}");
        assert!(body["type"].as_str().unwrap().starts_with("urn:weir:problem:"), "{body}");
        status
    };
    let range = "start_time=2026-01-01T00:00:00Z&end_time=2026-02-01T00:00:00Z";
    for (path, expected) in [
        ("/api/v1/usage".to_owned(), 400),
        ("/api/v1/usage?start_time=2026-02-01T00:00:00Z&end_time=2026-01-01T00:00:00Z".to_owned(), 400),
        ("/api/v1/usage?start_time=yesterday&end_time=2026-01-01T00:00:00Z".to_owned(), 400),
        ("/api/v1/usage?start_time=2001-01-01T00:00:00Z&end_time=2026-01-01T00:00:00Z".to_owned(), 400),
        (format!("/api/v1/usage?{range}&unheard_of=1"), 400),
        (format!("/api/v1/usage?{range}&page_token=from-elsewhere"), 400),
        (format!("/api/v1/usage?{range}&page_size=-1"), 400),
        ("/api/v1/usage/events?page_token=bm90IG91cnM".to_owned(), 400),
        ("/api/v1/nothing".to_owned(), 404),
    ] {
        assert_eq!(problem(world.get(&path).send().await.unwrap()).await, expected, "{path}");
    }
    let (_, manager) = key_with_scopes(&world, &["keys.manage"]).await;
    let create = async |body: &Value| {
        let request = world.client.post(world.url("/api/v1/keys")).bearer_auth(&manager).json(body);
        problem(request.send().await.unwrap()).await
    };
    assert_eq!(create(&json!({"display_name": "x", "scopes": ["ai.invoke"], "unheard_of": 1})).await, 400);
    assert_eq!(create(&json!({"display_name": "x", "scopes": ["world.domination"]})).await, 400);
    assert_eq!(create(&json!({"display_name": "x", "scopes": []})).await, 400);
    let (_, narrow) = key_with_scopes(&world, &["ai.invoke"]).await;
    let foreign = world.client.post(world.url("/api/v1/keys")).bearer_auth(&narrow);
    let foreign = foreign.json(&json!({"display_name": "x", "scopes": ["ai.invoke"]}));
    assert_eq!(problem(foreign.send().await.unwrap()).await, 403);
    assert_eq!(problem(world.client.get(world.url("/api/v1/balance")).send().await.unwrap()).await, 401);
    nothing_happened(&world).await;
}

async fn nothing_happened(world: &World) {
    assert_eq!(world.books().await, Books::default());
    assert_eq!(world.deployment.provider.stats().await.unwrap().charged_requests, 0);
}
