//! Every route of our own API: what is asked of which service, and how its answer looks.

use prost_types::Timestamp;
use serde_json::{Value, json};
use weir_proto::auth::v1 as auth;
use weir_proto::billing::v1 as billing;
use weir_proto::broker::v1 as broker;
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1 as quota;
use weir_proto::usage::v1 as usage;
use weir_types::{ApiKeyId, UserId, names};

use crate::fixtures::*;
use crate::scene::Scene;

/// 2026-01-02T03:04:05Z.
const THEN: Option<Timestamp> = Some(Timestamp { seconds: 1_767_323_045, nanos: 0 });
const THEN_TEXT: &str = "2026-01-02T03:04:05Z";

async fn json_of(request: reqwest::RequestBuilder, status: u16) -> Value {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    response.json().await.unwrap()
}

fn key(scene: &Scene, id: ApiKeyId) -> auth::ApiKey {
    auth::ApiKey {
        name: names::api_key(&scene.organization, &id),
        display_name: "ci".into(),
        user: names::user(&scene.organization, &scene.user),
        scopes: vec!["ai.invoke".into()],
        prefix: "weir_0192".into(),
        create_time: THEN,
        ..auth::ApiKey::default()
    }
}

fn key_json(scene: &Scene, id: ApiKeyId) -> Value {
    json!({
        "id": id.to_string(), "display_name": "ci", "user_id": scene.user.to_string(), "scopes": ["ai.invoke"],
        "prefix": "weir_0192", "create_time": THEN_TEXT, "expire_time": null, "revoke_time": null, "rotated_to": null,
    })
}

#[tokio::test]
async fn keys_are_created_and_their_secret_shown_once() {
    let scene = Scene::new().await;
    let id = ApiKeyId::new_v7();
    let made = auth::CreateApiKeyResponse { api_key: Some(key(&scene, id)), secret: "weir_new".into() };
    scene.siblings.answer(CREATE_KEY, made);
    let body = json!({
        "display_name": "ci", "user_id": scene.user.to_string(), "scopes": ["ai.invoke"], "expire_time": THEN_TEXT,
    });
    let response = scene.post("/api/v1/keys", &body).send().await.unwrap();
    assert_eq!(response.headers()["location"], format!("/api/v1/keys/{id}"));
    let answer = json_of(scene.post("/api/v1/keys", &body), 201).await;
    let mut expected = key_json(&scene, id);
    expected["secret"] = "weir_new".into();
    assert_eq!(answer, expected);
    let (asked, _) = scene.siblings.last::<auth::CreateApiKeyRequest>(CREATE_KEY);
    assert_eq!(asked.parent, names::organization(&scene.organization));
    assert_eq!(asked.user, names::user(&scene.organization, &scene.user));
    assert_eq!((asked.display_name.as_str(), &asked.scopes[..]), ("ci", &["ai.invoke".to_owned()][..]));
    assert_eq!(asked.expire_time, THEN);
}

#[tokio::test]
async fn keys_are_listed_read_rotated_and_revoked() {
    let scene = Scene::new().await;
    let id = ApiKeyId::new_v7();
    let name = names::api_key(&scene.organization, &id);
    let listed = auth::ListApiKeysResponse { api_keys: vec![key(&scene, id)], next_page_token: "next".into() };
    scene.siblings.answer(LIST_KEYS, listed);
    let answer = json_of(scene.get("/api/v1/keys?page_size=7&page_token=abc"), 200).await;
    assert_eq!(answer, json!({"api_keys": [key_json(&scene, id)], "next_page_token": "next"}));
    let (asked, _) = scene.siblings.last::<auth::ListApiKeysRequest>(LIST_KEYS);
    assert_eq!((asked.page_size, asked.page_token.as_str()), (7, "abc"));

    scene.siblings.answer(GET_KEY, key(&scene, id));
    assert_eq!(json_of(scene.get(&format!("/api/v1/keys/{id}")), 200).await, key_json(&scene, id));
    assert_eq!(scene.siblings.last::<auth::GetApiKeyRequest>(GET_KEY).0.name, name);

    let successor = ApiKeyId::new_v7();
    let made = auth::CreateApiKeyResponse { api_key: Some(key(&scene, successor)), secret: "weir_2".into() };
    scene.siblings.answer(ROTATE_KEY, made);
    let rotate = scene.post(&format!("/api/v1/keys/{id}/rotate"), &json!({"overlap_seconds": 3600}));
    let answer = json_of(rotate, 201).await;
    assert_eq!((&answer["id"], &answer["secret"]), (&json!(successor.to_string()), &json!("weir_2")));
    let (asked, _) = scene.siblings.last::<auth::RotateApiKeyRequest>(ROTATE_KEY);
    assert_eq!((asked.name.as_str(), asked.overlap.unwrap().seconds), (name.as_str(), 3600));

    scene.siblings.answer(REVOKE_KEY, auth::ApiKey { revoke_time: THEN, ..key(&scene, id) });
    let revoke = scene.request("DELETE", &format!("/api/v1/keys/{id}")).bearer_auth(crate::scene::KEY);
    assert_eq!(json_of(revoke, 200).await["revoke_time"], THEN_TEXT);
    assert_eq!(scene.siblings.last::<auth::RevokeApiKeyRequest>(REVOKE_KEY).0.name, name);
}

#[tokio::test]
async fn users_are_created_listed_read_and_disabled() {
    let scene = Scene::new().await;
    let id = UserId::new_v7();
    let user = auth::User {
        name: names::user(&scene.organization, &id),
        email: "a@example.com".into(),
        display_name: "Ada".into(),
        role: auth::Role::Admin.into(),
        disabled: false,
        create_time: THEN,
    };
    let shown = json!({
        "id": id.to_string(), "email": "a@example.com", "display_name": "Ada", "role": "admin", "disabled": false,
        "create_time": THEN_TEXT,
    });
    scene.siblings.answer(CREATE_USER, user.clone());
    let body = json!({"email": "a@example.com", "display_name": "Ada", "role": "admin", "password": "a long password"});
    let response = scene.post("/api/v1/users", &body).send().await.unwrap();
    assert_eq!(response.headers()["location"], format!("/api/v1/users/{id}"));
    assert_eq!(json_of(scene.post("/api/v1/users", &body), 201).await, shown);
    let (asked, _) = scene.siblings.last::<auth::CreateUserRequest>(CREATE_USER);
    assert_eq!((asked.role(), asked.password.as_str()), (auth::Role::Admin, "a long password"));

    let listed = auth::ListUsersResponse { users: vec![user.clone()], next_page_token: String::new() };
    scene.siblings.answer(LIST_USERS, listed);
    assert_eq!(json_of(scene.get("/api/v1/users"), 200).await, json!({"users": [shown], "next_page_token": ""}));
    scene.siblings.answer(GET_USER, user.clone());
    assert_eq!(json_of(scene.get(&format!("/api/v1/users/{id}")), 200).await, shown);
    scene.siblings.answer(DISABLE_USER, auth::User { disabled: true, ..user });
    let disable = scene.post(&format!("/api/v1/users/{id}/disable"), &json!({}));
    assert_eq!(json_of(disable, 200).await["disabled"], true);
    let (asked, _) = scene.siblings.last::<auth::DisableUserRequest>(DISABLE_USER);
    assert_eq!(asked.name, names::user(&scene.organization, &id));
}

#[tokio::test]
async fn signing_in_needs_no_credential_and_gives_a_token() {
    let scene = Scene::new().await;
    let token = auth::PrincipalToken {
        token: "eyJ.e30.x".into(),
        expire_time: THEN,
        organization: names::organization(&scene.organization),
        user: names::user(&scene.organization, &scene.user),
        api_key: String::new(),
        scopes: vec!["usage.read".into()],
    };
    scene.siblings.answer(SIGN_IN, token);
    let body = json!({"email": "a@example.com", "password": "a long password"});
    let answer = json_of(scene.request("POST", "/api/v1/tokens").json(&body), 200).await;
    assert_eq!(
        answer,
        json!({
            "token": "eyJ.e30.x", "expire_time": THEN_TEXT, "organization_id": scene.organization.to_string(),
            "user_id": scene.user.to_string(), "scopes": ["usage.read"],
        })
    );
    assert_eq!(scene.siblings.last::<auth::SignInRequest>(SIGN_IN).0.password, "a long password");
}

#[tokio::test]
async fn usage_is_summed_by_what_is_asked_for() {
    let scene = Scene::new().await;
    let row = usage::UsageRow {
        bucket_start: THEN,
        dimensions: vec![names::user(&scene.organization, &scene.user), "gpt-4o".into()],
        requests: 3,
        input_tokens: 30,
        cached_input_tokens: 5,
        output_tokens: 12,
        cost_nano_usd: 1_500_000_001,
        estimated_requests: 1,
    };
    let answered = usage::QueryUsageResponse { rows: vec![row], next_page_token: "n".into() };
    scene.siblings.answer(QUERY_USAGE, answered);
    let key = ApiKeyId::new_v7();
    let path = format!(
        "/api/v1/usage?start_time={THEN_TEXT}&end_time=2026-02-01T00:00:00Z&bucket=day&group_by=user,model\
         &api_key_id={key}&provider=openai&page_size=5"
    );
    let answer = json_of(scene.get(&path), 200).await;
    assert_eq!(
        answer,
        json!({"rows": [{
            "bucket_start": THEN_TEXT, "group": {"user": scene.user.to_string(), "model": "gpt-4o"}, "requests": 3,
            "input_tokens": 30, "cached_input_tokens": 5, "output_tokens": 12, "cost_nano_usd": 1_500_000_001_i64,
            "cost_usd": "1.500000001", "estimated_requests": 1,
        }], "next_page_token": "n"})
    );
    let (asked, _) = scene.siblings.last::<usage::QueryUsageRequest>(QUERY_USAGE);
    assert_eq!((asked.start_time, asked.bucket(), asked.page_size), (THEN, usage::Bucket::Day, 5));
    assert_eq!(asked.organization, names::organization(&scene.organization));
    let grouped: Vec<usage::Dimension> = asked.group_by().collect();
    assert_eq!(grouped, [usage::Dimension::User, usage::Dimension::Model]);
    let filters: Vec<_> = asked.filters.iter().map(|filter| (filter.dimension(), filter.value.clone())).collect();
    let key = names::api_key(&scene.organization, &key);
    assert_eq!(filters, [(usage::Dimension::ApiKey, key), (usage::Dimension::Provider, "openai".to_owned())]);
}

#[tokio::test]
async fn single_events_are_listed() {
    let scene = Scene::new().await;
    let event = usage::UsageEvent {
        event_id: "0192".into(),
        user: names::user(&scene.organization, &scene.user),
        provider: "openai".into(),
        model: "gpt-4o".into(),
        operation: "chat.completions".into(),
        event_time: THEN,
        input_tokens: 5,
        output_tokens: 8,
        cost_nano_usd: 42,
        outcome: usage::Outcome::Cancelled.into(),
        latency_ms: 70,
        first_byte_ms: 20,
        request_id: "r-1".into(),
        ..usage::UsageEvent::default()
    };
    let listed = usage::ListEventsResponse { events: vec![event], next_page_token: String::new() };
    scene.siblings.answer(LIST_EVENTS, listed);
    let answer = json_of(scene.get(&format!("/api/v1/usage/events?user_id={}", scene.user)), 200).await;
    let event = &answer["events"][0];
    for (field, value) in [
        ("id", json!("0192")),
        ("time", json!(THEN_TEXT)),
        ("user_id", json!(scene.user.to_string())),
        ("api_key_id", json!(null)),
        ("outcome", json!("cancelled")),
        ("cost_nano_usd", json!(42)),
        ("request_id", json!("r-1")),
    ] {
        assert_eq!(event[field], value, "{field}");
    }
    let (asked, _) = scene.siblings.last::<usage::ListEventsRequest>(LIST_EVENTS);
    assert_eq!(asked.user, names::user(&scene.organization, &scene.user));
}

#[tokio::test]
async fn what_is_left_is_told_for_the_caller_themselves() {
    let scene = Scene::new().await;
    let limit = quota::LimitState {
        limit: "requests-per-minute".into(),
        unit: "request".into(),
        scope: "organization".into(),
        cap: 100,
        used: 110,
        held: 3,
        reset_after: Some(prost_types::Duration { seconds: 9, nanos: 1 }),
        ..quota::LimitState::default()
    };
    scene.siblings.answer(BALANCE, quota::GetBalanceResponse { limits: vec![limit] });
    let answer = json_of(scene.get("/api/v1/balance"), 200).await;
    assert_eq!(
        answer,
        json!({"limits": [{
            "name": "requests-per-minute", "unit": "request", "scope": "organization", "limit": 100, "used": 110,
            "held": 3, "remaining": 0, "reset_after_seconds": 10,
        }]})
    );
    let (asked, _) = scene.siblings.last::<quota::GetBalanceRequest>(BALANCE);
    let subject = asked.subject.unwrap();
    assert_eq!(subject.organization, names::organization(&scene.organization));
    assert_eq!(subject.user, names::user(&scene.organization, &scene.user));
    assert_eq!(subject.api_key, names::api_key(&scene.organization, &scene.api_key));
}

#[tokio::test]
async fn a_call_is_asked_about_before_it_is_made() {
    let scene = Scene::new().await;
    let refused = broker::PreflightResponse {
        reason: ErrorReason::QuotaExceeded.into(),
        message: "refused by tasks: 10 of 10 tasks used".into(),
        retry_after: Some(prost_types::Duration { seconds: 8, nanos: 1 }),
        refused_by: vec!["tasks".into()],
        provider: "agents".into(),
        model: "codex".into(),
        cost_nano_usd: 300_000_000,
        ..broker::PreflightResponse::default()
    };
    scene.siblings.answer(PREFLIGHT, refused);
    let call = json!({"operation": "chat.completions", "body": {"model": "codex", "x": 1.50}, "feature": "task"});
    let answer = json_of(scene.post("/api/v1/preflight", &call), 200).await;
    assert_eq!(
        answer,
        json!({
            "allowed": false, "reason": "quota_exceeded", "message": "refused by tasks: 10 of 10 tasks used",
            "limits": ["tasks"], "retry_after_seconds": 9, "provider": "agents", "model": "codex",
            "cost_nano_usd": 300_000_000, "cost_usd": "0.3",
        })
    );
    let (asked, _) = scene.siblings.last::<broker::PreflightRequest>(PREFLIGHT);
    let asked = asked.request.unwrap();
    assert_eq!((asked.operation(), asked.feature.as_str()), (broker::Operation::ChatCompletions, "task"));
    assert_eq!(
        (asked.body.as_ref(), asked.client_ip.as_str()),
        (br#"{"model":"codex","x":1.5}"#.as_slice(), "127.0.0.1")
    );

    scene.siblings.answer(PREFLIGHT, broker::PreflightResponse { allowed: true, ..Default::default() });
    let answer = json_of(scene.post("/api/v1/preflight", &call), 200).await;
    assert_eq!((&answer["allowed"], &answer["reason"], &answer["message"]), (&json!(true), &Value::Null, &Value::Null));
}

#[tokio::test]
async fn alerts_are_listed() {
    let scene = Scene::new().await;
    let alert = quota::Alert {
        name: format!("{}/alerts/17", names::organization(&scene.organization)),
        limit: "budget".into(),
        unit: "nano_usd".into(),
        scope: "user".into(),
        subject: scene.user.to_string(),
        percent: 80,
        cap: 100,
        used: 81,
        held: 30,
        refused: false,
        fire_time: THEN,
        period_start_time: THEN,
        period_end_time: None,
    };
    let listed = quota::ListAlertsResponse { alerts: vec![alert], next_page_token: "n".into() };
    scene.siblings.answer(LIST_ALERTS, listed);
    let answer = json_of(scene.get("/api/v1/alerts?page_size=3&page_token=abc"), 200).await;
    assert_eq!(
        answer,
        json!({"alerts": [{
            "id": "17", "time": THEN_TEXT, "limit": "budget", "unit": "nano_usd", "scope": "user",
            "subject": scene.user.to_string(), "percent": 80, "amount": 100, "used": 81, "held": 30, "refused": false,
            "period_start_time": THEN_TEXT, "period_end_time": null,
        }], "next_page_token": "n"})
    );
    let (asked, _) = scene.siblings.last::<quota::ListAlertsRequest>(LIST_ALERTS);
    assert_eq!(asked.parent, names::organization(&scene.organization));
    assert_eq!((asked.page_size, asked.page_token.as_str()), (3, "abc"));
}

#[tokio::test]
async fn decisions_are_explained() {
    let scene = Scene::new().await;
    let amount = |unit: &str, value| weir_proto::common::v1::Amount { unit: unit.into(), value };
    let span = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    let key = ApiKeyId::new_v7();
    let subject = quota::Subject {
        organization: names::organization(&scene.organization),
        user: names::user(&scene.organization, &scene.user),
        api_key: names::api_key(&scene.organization, &key),
        ip: "192.0.2.7".into(),
        visitor: "cookie-7".into(),
        labels: [("feature".to_owned(), "chat".to_owned())].into(),
    };
    let limit = quota::DecidedLimit {
        limit: "requests-per-minute".into(),
        unit: "request".into(),
        scope: "user".into(),
        subject: scene.user.to_string(),
        amount: 1,
        cap: Some(10),
        used: Some(10),
        held: Some(2),
        refused: true,
        reset_after: span(9, 1),
        retry_after: span(3, 0),
    };
    let refused = quota::Decision {
        reservation_id: "0192".into(),
        subject: Some(subject.clone()),
        decision_time: THEN,
        state: quota::DecisionState::Refused.into(),
        amounts: vec![amount("request", 1)],
        limits: vec![limit],
        reason: weir_proto::common::v1::ErrorReason::QuotaExceeded.into(),
        message: "refused by requests-per-minute".into(),
        suppressed: 4,
        ..quota::Decision::default()
    };
    let committed = quota::Decision {
        reservation_id: "0193".into(),
        subject: Some(quota::Subject { user: String::new(), api_key: String::new(), ip: String::new(), ..subject }),
        decision_time: THEN,
        state: quota::DecisionState::Committed.into(),
        amounts: vec![amount("token", 90)],
        limits: vec![quota::DecidedLimit { limit: "tokens".into(), ..Default::default() }],
        settle_time: THEN,
        charged: vec![amount("token", 60)],
        replaced: vec![amount("token", 90)],
        late: true,
        ..quota::Decision::default()
    };
    let held = quota::Decision {
        state: quota::DecisionState::Held.into(),
        lease_left: span(17, 500_000_000),
        ..committed.clone()
    };
    scene.siblings.answer(
        EXPLAIN,
        quota::ExplainResponse {
            organization: names::organization(&scene.organization),
            limits: vec![quota::LimitState { limit: "tokens".into(), cap: 5, ..Default::default() }],
            holders: vec![held],
            more_holders: true,
            decisions: vec![refused, committed],
            missing: vec!["who holds what: redis is not available".into()],
            ..Default::default()
        },
    );
    let path = format!("/api/v1/limits/explain?user_id={}&api_key_id={key}&page_size=9", scene.user);
    let answer = json_of(scene.get(&path), 200).await;
    assert_eq!(
        answer["decisions"][0],
        json!({
            "reservation_id": "0192", "time": THEN_TEXT, "state": "refused", "user_id": scene.user.to_string(),
            "api_key_id": key.to_string(), "ip": "192.0.2.7", "visitor": "cookie-7", "labels": {"feature": "chat"}, "amounts": {"request": 1},
            "limits": [{
                "name": "requests-per-minute", "unit": "request", "scope": "user", "subject": scene.user.to_string(),
                "requested": 1, "limit": 10, "used": 10, "held": 2, "refused": true, "reset_after_seconds": 10,
                "retry_after_seconds": 3,
            }],
            "without_store": false, "lease_left_seconds": null, "settle_time": null, "charged": {}, "estimated": false,
            "replaced": {}, "late": false, "reason": "quota_exceeded", "message": "refused by requests-per-minute",
            "suppressed": 4,
        })
    );
    let committed = &answer["decisions"][1];
    for (field, value) in [
        ("state", json!("committed")),
        ("user_id", json!(null)),
        ("ip", json!(null)),
        ("charged", json!({"token": 60})),
        ("replaced", json!({"token": 90})),
        ("late", json!(true)),
        ("settle_time", json!(THEN_TEXT)),
        ("reason", json!(null)),
    ] {
        assert_eq!(committed[field], value, "{field}");
    }
    assert_eq!((&committed["limits"][0]["limit"], &committed["limits"][0]["subject"]), (&json!(null), &json!(null)));
    assert_eq!(
        (&answer["holders"][0]["state"], &answer["holders"][0]["lease_left_seconds"]),
        (&json!("held"), &json!(17))
    );
    assert_eq!((&answer["more_holders"], &answer["more_decisions"]), (&json!(true), &json!(false)));
    assert_eq!((&answer["limits"][0]["limit"], answer["missing"].as_array().unwrap().len()), (&json!(5), 1));
    let (asked, _) = scene.siblings.last::<quota::ExplainRequest>(EXPLAIN);
    let subject = asked.subject.unwrap();
    assert_eq!(subject.organization, names::organization(&scene.organization));
    assert_eq!(subject.user, names::user(&scene.organization, &scene.user));
    assert_eq!(subject.api_key, names::api_key(&scene.organization, &key));
    assert_eq!((asked.reservation_id.as_str(), asked.page_size), ("", 9));
    let id = weir_types::ReservationId::new_v7();
    json_of(scene.get(&format!("/api/v1/limits/explain?reservation_id={id}")), 200).await;
    assert_eq!(scene.siblings.last::<quota::ExplainRequest>(EXPLAIN).0.reservation_id, id.to_string());
}

#[tokio::test]
async fn plans_and_the_callers_own_are_told() {
    let scene = Scene::new().await;
    let plan = billing::Plan {
        name: "plans/pro".into(),
        display_name: "Pro".into(),
        price_nano_usd: 20_000_000_000,
        models: vec!["gpt-*".into()],
        features: vec!["interview".into()],
        ..billing::Plan::default()
    };
    scene.siblings.answer(LIST_PLANS, billing::ListPlansResponse { plans: vec![plan] });
    let answer = json_of(scene.get("/api/v1/plans"), 200).await;
    assert_eq!((&answer["plans"][0]["id"], &answer["plans"][0]["models"]), (&json!("pro"), &json!(["gpt-*"])));
    assert_eq!(answer["plans"][0]["features"], json!(["interview"]));
    let subscription = billing::Subscription { plan: "plans/pro".into(), start_time: THEN, ..Default::default() };
    scene.siblings.answer(SUBSCRIPTION, subscription);
    let answer = json_of(scene.get("/api/v1/subscription"), 200).await;
    assert_eq!(answer, json!({"plan_id": "pro", "start_time": THEN_TEXT}));
    let (asked, _) = scene.siblings.last::<billing::GetSubscriptionRequest>(SUBSCRIPTION);
    assert_eq!(asked.name, names::subscription(&scene.organization));
}

#[tokio::test]
async fn a_statement_adds_up_a_period_by_model() {
    let scene = Scene::new().await;
    let line = billing::StatementLine {
        provider: "openai".into(),
        model: "gpt-4o".into(),
        requests: 2,
        input_tokens: 10,
        output_tokens: 16,
        amount_nano_usd: 185_000,
        ..billing::StatementLine::default()
    };
    let statement = billing::Statement {
        start_time: THEN,
        end_time: THEN,
        lines: vec![line],
        total_nano_usd: 185_000,
        ..billing::Statement::default()
    };
    scene.siblings.answer(STATEMENT, statement);
    let path = format!("/api/v1/statement?start_time={THEN_TEXT}&end_time=2026-02-01T00:00:00%2B01:00");
    let answer = json_of(scene.get(&path), 200).await;
    assert_eq!((&answer["total_nano_usd"], &answer["lines"][0]["model"]), (&json!(185_000), &json!("gpt-4o")));
    let (asked, _) = scene.siblings.last::<billing::GetStatementRequest>(STATEMENT);
    assert_eq!(asked.end_time.unwrap().seconds, 1_769_900_400);
}

#[tokio::test]
async fn the_ledger_is_listed() {
    let scene = Scene::new().await;
    let entry = billing::LedgerEntry {
        transaction_id: "t".into(),
        account: "usage-revenue".into(),
        amount_nano_usd: -5,
        description: "usage".into(),
        create_time: THEN,
    };
    let listed = billing::ListLedgerEntriesResponse { entries: vec![entry], next_page_token: "n".into() };
    scene.siblings.answer(LEDGER, listed);
    let answer = json_of(scene.get("/api/v1/ledger?page_size=1"), 200).await;
    assert_eq!((&answer["entries"][0]["amount_nano_usd"], &answer["next_page_token"]), (&json!(-5), &json!("n")));
}
