//! Keys that callers bring, through every service: who pays, what holds, and whether the books add up.

use serde_json::{Value, json};
use weir_integration_tests::deployment::{Mode, Options};
use weir_proto::auth::v1::CreateApiKeyRequest;

use crate::{World, asking, with};

/// A credential that manages keys.
async fn manager(world: &World) -> String {
    let request = CreateApiKeyRequest {
        parent: world.tenant.organization.clone(),
        display_name: "manager".to_owned(),
        scopes: vec!["ai.invoke".to_owned(), "keys.manage".to_owned()],
        ..CreateApiKeyRequest::default()
    };
    world.deployment.siblings.auth().create_api_key(request).await.unwrap().into_inner().secret
}

struct Keys<'a> {
    world: &'a World,
    secret: String,
}

impl Keys<'_> {
    async fn ask(&self, method: &str, path: &str, body: &Value, status: u16) -> Value {
        let request = self.world.client.request(method.parse().unwrap(), self.world.url(path));
        let answer = request.bearer_auth(&self.secret).json(body).send().await.unwrap();
        let found = answer.status();
        let text = answer.text().await.unwrap();
        assert_eq!(found, status, "{method} {path}: {text}");
        assert!(!text.contains("plugh"), "{text}");
        serde_json::from_str(&text).unwrap_or_default()
    }
}

#[tokio::test]
async fn calls_by_an_own_key_are_paid_by_its_owner_held_to_its_limits_and_in_all_books() {
    let world = World::start(Options::new(Mode::Separate)).await;
    let keys = Keys { world: &world, secret: manager(&world).await };
    assert_eq!(world.chat(&asking("")).await.status(), 200);
    let new = json!({
        "provider": "simulated", "holder": "organization", "label": "team", "secret": "sk-plugh-0123456789-team",
        "limits": {"requests_per_minute": 3},
    });
    let key = keys.ask("POST", "/api/v1/provider-keys", &new, 201).await;
    assert_eq!((&key["last_four"], &key["user_id"]), (&json!("team"), &json!(null)));
    let path = format!("/api/v1/provider-keys/{}", key["id"].as_str().unwrap());
    for stream in [false, true, false] {
        let answer = world.chat(&with(asking(""), &json!({"stream": stream}))).await;
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["weir-own-key"].to_str().unwrap()),
            (200, key["id"].as_str().unwrap())
        );
        answer.bytes().await.unwrap();
    }
    let refused = world.chat(&asking("")).await;
    assert_eq!(refused.status(), 429, "its owner allows three in a minute");
    assert!(refused.text().await.unwrap().contains("own-key-requests-per-minute"));
    keys.ask("PATCH", &path, &json!({"limits": {"cost_nano_usd_per_month": 1}}), 200).await;
    let refused = world.chat(&asking("")).await;
    assert_eq!(refused.status(), 402);
    assert!(refused.text().await.unwrap().contains("own-key-cost-per-month"));
    keys.ask("PATCH", &path, &json!({"limits": {}}), 200).await;
    keys.ask("POST", &format!("{path}/rotate"), &json!({"secret": "sk-plugh-0123456789-next"}), 200).await;
    let wrong: Value = world.chat(&asking("status=401")).await.json().await.unwrap();
    assert_eq!(wrong["error"]["code"], "own_key_refused", "{wrong}");
    assert!(wrong["error"]["message"].as_str().unwrap().contains("`team` (…next)"), "{wrong}");
    // A provider that fails is asked again, with the same key.
    assert_eq!(world.chat(&asking("status=503,fail_times=1")).await.status(), 200);
    keys.ask("DELETE", &path, &json!({}), 204).await;
    let paid = world.chat(&asking("")).await;
    assert_eq!((paid.status().as_u16(), paid.headers().get("weir-own-key")), (200, None));
    world.books().await;

    let events: Value = world.get("/api/v1/usage/events").send().await.unwrap().json().await.unwrap();
    let events = events["events"].as_array().unwrap();
    let own: Vec<_> = events.iter().filter(|event| event["provider_key_id"] == key["id"]).collect();
    assert_eq!((events.len(), own.len()), (6, 4));
    assert!(own.iter().all(|event| event["cost_nano_usd"] == 0 && event["own_cost_nano_usd"].as_i64() > Some(0)));
    assert!(own.iter().all(|event| event["input_tokens"].as_i64() > Some(0)));
    let now = chrono::Utc::now();
    let (from, to) = (now - chrono::TimeDelta::hours(2), now + chrono::TimeDelta::hours(2));
    let period = format!("start_time={}&end_time={}", from.format("%FT%TZ"), to.format("%FT%TZ"));
    let statement: Value =
        world.get(&format!("/api/v1/statement?{period}")).send().await.unwrap().json().await.unwrap();
    let lines = statement["lines"].as_array().unwrap();
    let line = |own_key: bool| lines.iter().find(|line| line["own_key"] == own_key).unwrap();
    assert_eq!((&line(true)["requests"], &line(true)["amount_nano_usd"]), (&json!(4), &json!(0)));
    assert_eq!(line(false)["requests"], 2);
    assert_eq!(statement["total_nano_usd"], line(false)["amount_nano_usd"]);
}
