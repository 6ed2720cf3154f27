//! Pages of named origins, and no others.

use crate::scene::Scene;

const NAMED: &str = "cors_origins = [\"https://app.example.com\", \"http://localhost:3000\"]";

async fn preflight(scene: &Scene, origin: &str, path: &str) -> reqwest::Response {
    let request = scene.request("OPTIONS", path).header("origin", origin);
    let request = request.header("access-control-request-method", "POST");
    let headers = "authorization,content-type,x-stainless-lang,x-stainless-retry-count";
    request.header("access-control-request-headers", headers).send().await.unwrap()
}

#[tokio::test]
async fn a_named_origin_may_send_what_openais_sdk_for_browsers_sends() {
    let scene = Scene::with(NAMED).await;
    for path in ["/v1/chat/completions", "/api/v1/keys"] {
        let response = preflight(&scene, "https://app.example.com", path).await;
        assert_eq!(response.status(), 200);
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_lowercase();
        assert_eq!(header("access-control-allow-origin"), "https://app.example.com");
        assert!(header("access-control-allow-headers").contains("x-stainless-retry-count"));
        assert!(header("access-control-allow-methods").contains("delete"));
        assert!(header("vary").contains("origin"));
        assert!(!response.headers().contains_key("access-control-allow-credentials"));
    }
}

#[tokio::test]
async fn a_named_origin_may_read_answers_and_refusals_of_all_kinds() {
    let scene = Scene::with(NAMED).await;
    for (method, path, status) in [
        ("GET", "/api/v1/openapi.json", 200),
        ("GET", "/v1/models", 401),
        ("GET", "/v1/nothing", 404),
        ("PUT", "/api/v1/keys", 405),
    ] {
        let response = scene.request(method, path).header("origin", "http://localhost:3000").send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        let headers = response.headers();
        assert_eq!(headers["access-control-allow-origin"], "http://localhost:3000", "{path}");
        let exposed = headers["access-control-expose-headers"].to_str().unwrap();
        for name in ["x-request-id", "retry-after", "weir-cost-usd", "x-ratelimit-remaining-tokens", "location"] {
            assert!(exposed.contains(name), "{name}");
        }
    }
}

#[tokio::test]
async fn other_origins_get_no_permission() {
    let scene = Scene::with(NAMED).await;
    for origin in ["https://evil.example.com", "https://app.example.com.evil.com", "http://app.example.com", "null"] {
        let response = preflight(&scene, origin, "/v1/chat/completions").await;
        assert!(!response.headers().contains_key("access-control-allow-origin"), "{origin}");
        let response = scene.request("GET", "/v1/models").header("origin", origin).send().await.unwrap();
        assert!(!response.headers().contains_key("access-control-allow-origin"), "{origin}");
    }
}

#[tokio::test]
async fn nobody_is_named_by_default() {
    let scene = Scene::new().await;
    let response = preflight(&scene, "https://app.example.com", "/v1/chat/completions").await;
    assert_eq!(response.status(), 405);
    assert!(!response.headers().contains_key("access-control-allow-origin"));
}
