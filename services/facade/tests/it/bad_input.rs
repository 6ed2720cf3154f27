//! Bad input that the facade itself refuses, and nothing behind it hears of.

use serde_json::json;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;
use weir_types::ApiKeyId;

use crate::answers::{openai_error, problem};
use crate::fixtures::*;
use crate::scene::{KEY, Scene};

#[tokio::test]
async fn requests_without_a_credential_are_refused_everywhere() {
    let scene = Scene::new().await;
    for (method, path) in [("POST", "/v1/chat/completions"), ("POST", "/v1/embeddings"), ("GET", "/v1/models")] {
        let response = scene.request(method, path).body("{").send().await.unwrap();
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        let (status, error) = openai_error(response).await;
        assert_eq!((status, error["code"].as_str()), (401, Some("invalid_api_key")), "{path}");
    }
    for (method, path) in [("POST", "/api/v1/keys"), ("GET", "/api/v1/usage?x=1"), ("GET", "/api/v1/keys/no-id")] {
        let response = scene.request(method, path).body("{").send().await.unwrap();
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        let (status, body) = problem(response).await;
        assert_eq!((status, body["type"].as_str()), (401, Some("urn:weir:problem:unauthenticated")), "{path}");
    }
}

#[tokio::test]
async fn bodies_of_our_own_api_are_read_strictly_and_the_field_is_named() {
    let scene = Scene::new().await;
    let id = ApiKeyId::new_v7();
    let keys = "/api/v1/keys".to_owned();
    for (path, body, parameter, says) in [
        (&keys, "{\"display_name\":", None, "EOF"),
        (&keys, "", None, "EOF"),
        (&keys, "[\"x\",null,[\"ai.invoke\"]]", None, "object"),
        (&keys, "{\"scopes\":[]}", None, "display_name"),
        (&keys, "{\"display_name\":\"x\",\"scopes\":[]} {}", None, "trailing"),
        (&keys, "{\"display_name\":\"x\",\"scopes\":[],\"unheard_of\":1}", Some("unheard_of"), "unknown field"),
        (&keys, "{\"display_name\":7,\"scopes\":[]}", Some("display_name"), "expected a string"),
        (&keys, "{\"display_name\":\"x\",\"scopes\":[1]}", Some("scopes[0]"), "expected a string"),
        (&keys, "{\"display_name\":\"x\",\"scopes\":[],\"user_id\":\"me\"}", Some("user_id"), "UUID"),
        (&keys, "{\"display_name\":\"x\",\"scopes\":[],\"expire_time\":\"soon\"}", Some("expire_time"), "invalid"),
        (&"/api/v1/users".to_owned(), "{\"email\":\"a@b.c\",\"role\":\"king\"}", Some("role"), "unknown variant"),
        (
            &"/api/v1/jobs".to_owned(),
            "{\"steps\":[{\"key\":\"a\",\"store\":true}]}",
            Some("steps[0].store"),
            "expected an object",
        ),
        (&"/api/v1/tokens".to_owned(), "{\"email\":\"a@b.c\"}", None, "password"),
        (&format!("/api/v1/keys/{id}/rotate"), "{}", None, "overlap_seconds"),
        (&format!("/api/v1/keys/{id}/rotate"), "{\"overlap_seconds\":-1}", Some("overlap_seconds"), "expected u32"),
    ] {
        let request = scene.request("POST", path).bearer_auth(KEY).body(body);
        let (status, answer) = problem(request.send().await.unwrap()).await;
        assert_eq!((status, answer["type"].as_str()), (400, Some("urn:weir:problem:invalid-argument")), "{body}");
        assert_eq!(answer["parameters"][0]["name"].as_str(), parameter, "{body}: {answer}");
        assert!(answer["detail"].as_str().unwrap().contains(says), "{body}: {answer}");
    }
    for path in [CREATE_KEY, ROTATE_KEY, CREATE_USER, SIGN_IN] {
        assert_eq!(scene.siblings.count(path), 0);
    }
}

#[tokio::test]
async fn queries_are_read_strictly_and_the_parameter_is_named() {
    let scene = Scene::new().await;
    let range = "start_time=2026-01-01T00:00:00Z&end_time=2026-02-01T00:00:00Z";
    for (path, parameter) in [
        ("/api/v1/usage".to_owned(), None),
        (format!("/api/v1/usage?{range}&unheard_of=1"), Some("unheard_of")),
        ("/api/v1/usage?start_time=yesterday&end_time=2026-01-01T00:00:00Z".to_owned(), Some("start_time")),
        (format!("/api/v1/usage?{range}&bucket=year"), Some("bucket")),
        (format!("/api/v1/usage?{range}&group_by=user,colour"), Some("group_by")),
        (format!("/api/v1/usage?{range}&user_id=me"), Some("user_id")),
        (format!("/api/v1/usage?{range}&api_key_id=../../x"), Some("api_key_id")),
        (format!("/api/v1/usage?{range}&page_size=many"), Some("page_size")),
        ("/api/v1/usage/events?start_time=2026-01-01T00:00:00Z".to_owned(), Some("start_time")),
        ("/api/v1/keys?page_size=99999999999".to_owned(), Some("page_size")),
        ("/api/v1/statement?start_time=2026-01-01T00:00:00Z".to_owned(), None),
        ("/api/v1/ledger?limit=3".to_owned(), Some("limit")),
        ("/api/v1/balance?user_id=1".to_owned(), Some("user_id")),
        ("/api/v1/alerts?percent=80".to_owned(), Some("percent")),
        ("/api/v1/limits/explain?reservation=1".to_owned(), Some("reservation")),
        ("/api/v1/limits/explain?reservation_id=1".to_owned(), Some("reservation_id")),
        ("/api/v1/plans?page_size=3".to_owned(), Some("page_size")),
        (format!("/api/v1/jobs/{}?view=short", ApiKeyId::new_v7()), Some("view")),
    ] {
        let (status, answer) = problem(scene.get(&path).send().await.unwrap()).await;
        assert_eq!((status, answer["type"].as_str()), (400, Some("urn:weir:problem:invalid-argument")), "{path}");
        assert_eq!(answer["parameters"][0]["name"].as_str(), parameter, "{path}: {answer}");
    }
    for path in [QUERY_USAGE, LIST_EVENTS, LIST_KEYS, STATEMENT, LEDGER, BALANCE, LIST_ALERTS, EXPLAIN, LIST_PLANS] {
        assert_eq!(scene.siblings.count(path), 0);
    }
}

#[tokio::test]
async fn what_is_no_id_names_nothing() {
    let scene = Scene::new().await;
    for path in ["/api/v1/keys/no-id", "/api/v1/keys/..%2Fusers", "/api/v1/keys/%FF", "/api/v1/users/0"] {
        let (status, answer) = problem(scene.get(path).send().await.unwrap()).await;
        assert_eq!((status, answer["type"].as_str()), (404, Some("urn:weir:problem:not-found")), "{path}");
    }
    assert_eq!((scene.siblings.count(GET_KEY), scene.siblings.count(GET_USER)), (0, 0));
}

#[tokio::test]
async fn what_a_service_refuses_about_a_range_or_a_page_is_passed_on() {
    let scene = Scene::new().await;
    let foreign = Error::new(ErrorReason::InvalidPageToken, "the page token is of another list");
    scene.siblings.refuse(LIST_KEYS, foreign.field("page_token", "is of another list"));
    let (status, answer) = problem(scene.get("/api/v1/keys?page_token=abc").send().await.unwrap()).await;
    assert_eq!((status, answer["type"].as_str()), (400, Some("urn:weir:problem:invalid-page-token")));
    assert_eq!(answer["parameters"], json!([{"name": "page_token", "detail": "is of another list"}]));
    scene.siblings.refuse(QUERY_USAGE, Error::invalid("end_time", "must be after start_time"));
    let path = "/api/v1/usage?start_time=2026-02-01T00:00:00Z&end_time=2026-01-01T00:00:00Z";
    let (status, answer) = problem(scene.get(path).send().await.unwrap()).await;
    assert_eq!((status, &answer["parameters"][0]["name"]), (400, &json!("end_time")));
}
