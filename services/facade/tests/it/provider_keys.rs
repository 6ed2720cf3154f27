//! Keys of providers that callers bring: what is asked of the broker, and that no secret is answered.

use prost_types::Timestamp;
use serde_json::{Value, json};
use weir_proto::broker::v1 as proto;
use weir_types::{ProviderKeyId, names};

use crate::fixtures::*;
use crate::scene::{KEY, Scene};

const SECRET: &str = "sk-plugh-0123456789abcdef";
/// 2026-01-02T03:04:05Z.
const THEN: Option<Timestamp> = Some(Timestamp { seconds: 1_767_323_045, nanos: 0 });

fn key(scene: &Scene, id: ProviderKeyId) -> proto::ProviderKey {
    proto::ProviderKey {
        name: names::provider_key(&scene.organization, &id),
        user: names::user(&scene.organization, &scene.user),
        provider: "openai".into(),
        label: "mine".into(),
        last_four: "cdef".into(),
        limits: Some(proto::ProviderKeyLimits { requests_per_minute: 5, ..Default::default() }),
        create_time: THEN,
        update_time: THEN,
        last_use_time: None,
    }
}

async fn answer(request: reqwest::RequestBuilder, status: u16) -> Value {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), status);
    let text = response.text().await.unwrap();
    assert!(!text.contains("plugh"), "{text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn a_key_is_stored_for_the_caller_or_the_organisation_and_its_secret_answered_to_nobody() {
    let scene = Scene::new().await;
    let id = ProviderKeyId::new_v7();
    scene.siblings.answer(CREATE_PROVIDER_KEY, key(&scene, id));
    let body = json!({"provider": "openai", "secret": SECRET, "label": "mine", "limits": {"requests_per_minute": 5}});
    let made = answer(scene.post("/api/v1/provider-keys", &body), 201).await;
    assert_eq!((&made["id"], &made["last_four"]), (&json!(id.to_string()), &json!("cdef")));
    let limits = json!({"requests_per_minute": 5, "tokens_per_minute": null, "cost_nano_usd_per_month": null});
    assert_eq!(made["limits"], limits, "what is not limited has no number");
    let (asked, _) = scene.siblings.last::<proto::CreateProviderKeyRequest>(CREATE_PROVIDER_KEY);
    assert_eq!((asked.secret.as_str(), asked.parent), (SECRET, names::organization(&scene.organization)));
    assert_eq!(asked.provider_key.unwrap().user, names::user(&scene.organization, &scene.user));

    let body = json!({"provider": "openai", "secret": SECRET, "holder": "organization"});
    answer(scene.post("/api/v1/provider-keys", &body), 201).await;
    let (asked, _) = scene.siblings.last::<proto::CreateProviderKeyRequest>(CREATE_PROVIDER_KEY);
    assert_eq!(asked.provider_key.unwrap().user, "");

    let wrong = json!({"provider": "openai", "secret": [SECRET]});
    answer(scene.post("/api/v1/provider-keys", &wrong), 400).await;
}

#[tokio::test]
async fn keys_are_listed_read_changed_rotated_and_deleted() {
    let scene = Scene::new().await;
    let id = ProviderKeyId::new_v7();
    let (name, path) = (names::provider_key(&scene.organization, &id), format!("/api/v1/provider-keys/{id}"));
    let listed = proto::ListProviderKeysResponse { provider_keys: vec![key(&scene, id)], next_page_token: "n".into() };
    scene.siblings.answer(LIST_PROVIDER_KEYS, listed);
    let page = answer(scene.get("/api/v1/provider-keys?page_size=1"), 200).await;
    assert_eq!((&page["provider_keys"][0]["label"], &page["next_page_token"]), (&json!("mine"), &json!("n")));
    for method in [GET_PROVIDER_KEY, UPDATE_PROVIDER_KEY, ROTATE_PROVIDER_KEY] {
        scene.siblings.answer(method, key(&scene, id));
    }
    assert_eq!(answer(scene.get(&path), 200).await["last_use_time"], json!(null));
    let patch = |body: &Value| scene.request("PATCH", &path).bearer_auth(KEY).json(body);
    answer(patch(&json!({"limits": {"tokens_per_minute": 9}})), 200).await;
    let (asked, _) = scene.siblings.last::<proto::UpdateProviderKeyRequest>(UPDATE_PROVIDER_KEY);
    assert_eq!(asked.update_mask.unwrap().paths, ["limits"]);
    let changed = asked.provider_key.unwrap();
    assert_eq!((changed.name.as_str(), changed.limits.unwrap().tokens_per_minute), (name.as_str(), 9));
    answer(patch(&json!({})), 400).await;
    answer(scene.post(&format!("{path}/rotate"), &json!({"secret": SECRET})), 200).await;
    let (asked, _) = scene.siblings.last::<proto::RotateProviderKeyRequest>(ROTATE_PROVIDER_KEY);
    assert_eq!((asked.name.as_str(), asked.secret.as_str()), (name.as_str(), SECRET));
    scene.siblings.answer(DELETE_PROVIDER_KEY, proto::DeleteProviderKeyResponse {});
    let deleted = scene.request("DELETE", &path).bearer_auth(KEY).send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    assert_eq!(scene.siblings.last::<proto::DeleteProviderKeyRequest>(DELETE_PROVIDER_KEY).0.name, name);
}
