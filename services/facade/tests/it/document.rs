//! The OpenAPI document: served, committed, and about routes that exist.

use std::path::Path;

use serde_json::Value;

use crate::scene::Scene;

#[test]
fn the_committed_document_is_what_the_code_makes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let made = weir_facade::openapi().to_pretty_json().unwrap();
    let line = committed.lines().zip(made.lines()).position(|(a, b)| a != b);
    assert!(
        committed.trim_end() == made,
        "docs/openapi.json is not what the code makes (first at line {line:?}): run `weir openapi > docs/openapi.json`"
    );
}

#[tokio::test]
async fn the_served_document_is_the_same_and_needs_no_credential() {
    let scene = Scene::new().await;
    let response = scene.request("GET", "/api/v1/openapi.json").send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    let served: Value = response.json().await.unwrap();
    assert_eq!(served, serde_json::to_value(weir_facade::openapi()).unwrap());
}

#[tokio::test]
async fn every_operation_of_the_document_exists_and_is_closed_unless_it_says_otherwise() {
    let scene = Scene::new().await;
    let document = serde_json::to_value(weir_facade::openapi()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        let id = uuid_like();
        let path = path.replace("{id}", &id).replace("{model}", "gpt-4o");
        for (method, operation) in item.as_object().unwrap() {
            let response = scene.request(&method.to_uppercase(), &path).send().await.unwrap();
            let is_open = operation["security"] == serde_json::json!([{}]);
            assert_eq!(response.status(), if is_open { 400 } else { 401 }, "{method} {path}");
        }
        // And it takes no other method.
        let response = scene.request("TRACE", &path).send().await.unwrap();
        let mut allowed: Vec<String> =
            response.headers()["allow"].to_str().unwrap().split(',').map(|name| name.trim().to_lowercase()).collect();
        allowed.retain(|method| method != "head");
        allowed.sort_unstable();
        let mut described: Vec<&String> = item.as_object().unwrap().keys().collect();
        described.sort_unstable();
        assert_eq!(allowed.iter().collect::<Vec<_>>(), described, "{path}");
    }
}

fn uuid_like() -> String {
    weir_types::ApiKeyId::new_v7().to_string()
}
