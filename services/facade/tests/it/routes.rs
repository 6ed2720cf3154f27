//! What is no route, other methods, and request ids.

use std::collections::BTreeSet;

use crate::answers::{openai_error, problem};
use crate::scene::Scene;

#[tokio::test]
async fn what_does_not_exist_is_said_in_the_shape_of_its_api() {
    let scene = Scene::new().await;
    for path in ["/v1", "/v1/", "/v1/nothing", "/v1/chat/completions/", "/v1/audio/unheard-of?x=1"] {
        let (status, error) = openai_error(scene.get(path).send().await.unwrap()).await;
        assert_eq!((status, error["code"].as_str()), (404, Some("not_found")), "{path}");
    }
    for path in ["/", "/api", "/api/v1/", "/api/v1/nothing", "/api/v2/keys", "/v10/models", "/favicon.ico"] {
        let (status, body) = problem(scene.get(path).send().await.unwrap()).await;
        assert_eq!((status, body["type"].as_str()), (404, Some("urn:weir:problem:not-found")), "{path}");
    }
}

#[tokio::test]
async fn another_method_is_refused_and_the_right_ones_are_named() {
    let scene = Scene::new().await;
    for (method, path, allowed) in [
        ("GET", "/v1/chat/completions", "POST"),
        ("OPTIONS", "/v1/embeddings", "POST"),
        ("POST", "/v1/models", "GET,HEAD"),
        ("DELETE", "/v1/models/gpt-4o", "GET,HEAD"),
    ] {
        let response = scene.request(method, path).send().await.unwrap();
        assert_eq!(names(&response), allowed.split(',').map(str::to_owned).collect(), "{method} {path}");
        let (status, error) = openai_error(response).await;
        assert_eq!((status, error["code"].as_str()), (405, Some("method_not_allowed")));
    }
    for (method, path, allowed) in [
        ("PUT", "/api/v1/keys", "POST,GET,HEAD"),
        ("PATCH", "/api/v1/keys/1", "GET,HEAD,DELETE"),
        ("GET", "/api/v1/tokens", "POST"),
        ("POST", "/api/v1/openapi.json", "GET,HEAD"),
    ] {
        let response = scene.request(method, path).send().await.unwrap();
        assert_eq!(names(&response), allowed.split(',').map(str::to_owned).collect(), "{method} {path}");
        let (status, body) = problem(response).await;
        assert_eq!((status, body["type"].as_str()), (405, Some("urn:weir:problem:method-not-allowed")));
    }
}

fn names(response: &reqwest::Response) -> BTreeSet<String> {
    response.headers()["allow"].to_str().unwrap().split(',').map(|name| name.trim().to_owned()).collect()
}

#[tokio::test]
async fn a_head_is_answered_as_a_get_without_its_body() {
    let scene = Scene::new().await;
    let get = scene.request("GET", "/api/v1/openapi.json").send().await.unwrap();
    let length = get.bytes().await.unwrap().len().to_string();
    let head = scene.request("HEAD", "/api/v1/openapi.json").send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.headers()["content-length"].to_str().unwrap()), (200, length.as_str()));
    assert_eq!(head.bytes().await.unwrap().len(), 0);
    let head = scene.request("HEAD", "/v1/models").send().await.unwrap();
    assert_eq!(head.status(), 401);
}

#[tokio::test]
async fn every_answer_has_the_requests_id() {
    let scene = Scene::new().await;
    for path in ["/v1/models", "/v1/nothing", "/api/v1/keys", "/api/v1/nothing", "/api/v1/openapi.json", "/"] {
        let response = scene.request("GET", path).header("x-request-id", "mine").send().await.unwrap();
        assert_eq!(response.headers()["x-request-id"], "mine", "{path}");
        let response = scene.request("GET", path).send().await.unwrap();
        assert_eq!(response.headers()["x-request-id"].len(), 36, "{path}");
    }
}
