//! Kept answers as an organisation sees them.

use serde_json::{Value, json};
use weir_proto::broker::v1 as proto;
use weir_types::names;

use crate::answers::problem;
use crate::fixtures::*;
use crate::scene::{KEY, Scene};

#[tokio::test]
async fn a_policy_is_read_and_set_as_json() {
    let scene = Scene::new().await;
    let name = format!("{}/cachePolicy", names::organization(&scene.organization));
    let max_ttl = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let policy = proto::CachePolicy { name: name.clone(), enabled: true, shared: false, max_ttl };
    scene.siblings.answer(GET_CACHE_POLICY, policy.clone());
    scene.siblings.answer(UPDATE_CACHE_POLICY, policy.clone());
    let request = |method: &str| scene.request(method, "/api/v1/cache").bearer_auth(KEY);
    let expected = json!({"enabled": true, "shared": false, "max_ttl_seconds": 60});
    let read: Value = request("GET").send().await.unwrap().json().await.unwrap();
    assert_eq!(read, expected);
    assert_eq!(scene.siblings.last::<proto::GetCachePolicyRequest>(GET_CACHE_POLICY).0.name, name);
    let set: Value = request("PUT").json(&expected).send().await.unwrap().json().await.unwrap();
    assert_eq!(set, expected);
    let asked = scene.siblings.last::<proto::UpdateCachePolicyRequest>(UPDATE_CACHE_POLICY).0;
    assert_eq!(asked.policy, Some(policy));
    let (status, _) = problem(request("PUT").json(&json!({"enabled": true, "ttl": 1})).send().await.unwrap()).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn what_is_kept_is_deleted_on_request() {
    let scene = Scene::new().await;
    scene.siblings.answer(PURGE_CACHE, proto::PurgeCacheResponse { entries: 7 });
    let response = scene.request("DELETE", "/api/v1/cache/entries").bearer_auth(KEY).send().await.unwrap();
    assert_eq!(response.json::<Value>().await.unwrap(), json!({"entries": 7}));
}
