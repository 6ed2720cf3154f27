//! Stored pictures and sounds over HTTP: caches, ranges, signatures, settings.

use prost_types::{Duration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;
use weir_proto::broker::v1::{self as proto, Extent};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;
use weir_types::names;

use crate::answers::problem;
use crate::fixtures::*;
use crate::scene::Scene;

const ID: Uuid = Uuid::from_u128(0x0192_f0c1_2d3e_7f00_8a1b_2c3d_4e5f_6a7b);
const TAG: &str = "\"0a1b\"";

fn answer(extent: Extent, content: &'static [u8], first: i64) -> proto::ReadResultResponse {
    proto::ReadResultResponse {
        content: content.into(),
        content_type: "image/jpeg".into(),
        etag: TAG.into(),
        public: false,
        fresh_for: Some(Duration { seconds: 604_800, nanos: 5 }),
        total_bytes: 10,
        extent: extent.into(),
        first,
    }
}

async fn read(scene: &Scene, query: &str, headers: &[(&'static str, &str)]) -> reqwest::Response {
    let mut request = scene.request("GET", &format!("/results/{}/{ID}.jpg{query}", scene.organization));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn a_file_is_read_by_its_address_alone_and_may_be_kept_while_that_is_good() {
    let scene = Scene::new().await;
    scene.siblings.answer(READ_RESULT, answer(Extent::Whole, b"0123456789", 0));
    let response = read(&scene, "?expires=7&signature=1.abc", &[]).await;
    assert_eq!(response.status(), 200);
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("cache-control"), "private, max-age=604800, immutable");
    assert_eq!((header("etag"), header("content-type")), (TAG.to_owned(), "image/jpeg".to_owned()));
    assert_eq!((header("accept-ranges"), header("x-content-type-options")), ("bytes".into(), "nosniff".into()));
    assert_eq!((header("content-length"), response.text().await.unwrap()), ("10".into(), "0123456789".into()));
    let (asked, caller) = scene.siblings.last::<proto::ReadResultRequest>(READ_RESULT);
    assert_eq!((asked.expires, asked.signature.as_str(), asked.file), (7, "1.abc", format!("{ID}.jpg")));
    assert!(caller.principal().is_err() && asked.range.is_none() && asked.known_etags.is_empty());
    assert_eq!(scene.siblings.count(EXCHANGE), 0, "nobody has to sign in");
    let mut public = answer(Extent::Whole, b"0123456789", 0);
    public.public = true;
    scene.siblings.answer(READ_RESULT, public);
    let response = read(&scene, "", &[]).await;
    assert_eq!(response.headers()["cache-control"], "public, max-age=604800, immutable");
    let head = scene.request("HEAD", &format!("/results/{}/{ID}.jpg", scene.organization)).send().await.unwrap();
    assert_eq!((head.status().as_u16(), &head.headers()["content-length"]), (200, &"10".parse().unwrap()));
}

#[tokio::test]
async fn who_has_it_already_is_told_so() {
    let scene = Scene::new().await;
    scene.siblings.answer(READ_RESULT, answer(Extent::NotModified, b"", 0));
    let response = read(&scene, "", &[("if-none-match", "\"x\", W/\"0a1b\""), ("if-none-match", "*")]).await;
    assert_eq!((response.status().as_u16(), &response.headers()["etag"]), (304, &TAG.parse().unwrap()));
    assert!(response.headers().get("content-type").is_none());
    let (asked, _) = scene.siblings.last::<proto::ReadResultRequest>(READ_RESULT);
    assert_eq!(asked.known_etags, ["\"x\"", "W/\"0a1b\"", "*"]);
}

#[tokio::test]
async fn a_range_is_answered_as_a_part() {
    let scene = Scene::new().await;
    scene.siblings.answer(READ_RESULT, answer(Extent::Part, b"234", 2));
    let response = read(&scene, "", &[("range", "bytes=2-4"), ("if-range", TAG)]).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-range"]),
        (206, &"bytes 2-4/10".parse().unwrap())
    );
    assert_eq!(response.text().await.unwrap(), "234");
    let (asked, _) = scene.siblings.last::<proto::ReadResultRequest>(READ_RESULT);
    let from = Some(proto::byte_range::From::First(2));
    assert_eq!((asked.range, asked.range_etag.as_str()), (Some(proto::ByteRange { from, last: Some(4) }), TAG));
    scene.siblings.answer(READ_RESULT, answer(Extent::Unsatisfiable, b"", 0));
    let response = read(&scene, "", &[("range", "bytes=50-")]).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-range"]),
        (416, &"bytes */10".parse().unwrap())
    );
}

#[tokio::test]
async fn what_is_not_there_or_not_signed_is_not_found() {
    let scene = Scene::new().await;
    scene.siblings.refuse(READ_RESULT, Error::new(ErrorReason::NotFound, "There is nothing at this address."));
    let response = read(&scene, "?expires=7&signature=1.abc", &[]).await;
    assert_eq!(response.status(), 404);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert!(response.headers().get("etag").is_none());
    for path in [format!("/results/nobody/{ID}.jpg"), format!("/results/{}/{ID}.jpg?expires=x", scene.organization)] {
        assert_eq!(scene.request("GET", &path).send().await.unwrap().status(), 400, "{path}");
    }
}

#[tokio::test]
async fn an_organisation_lists_shows_and_deletes_its_own() {
    let scene = Scene::new().await;
    let then = Some(Timestamp { seconds: 1_767_323_045, nanos: 0 });
    let stored = proto::StoredResult {
        name: format!("{}/results/{ID}", names::organization(&scene.organization)),
        url: "https://api.example.com/results/x".into(),
        content_type: "image/jpeg".into(),
        bytes: 10,
        public: true,
        create_time: then,
        expire_time: then,
    };
    let shown = json!({
        "id": ID, "url": "https://api.example.com/results/x", "content_type": "image/jpeg", "bytes": 10, "public": true,
        "create_time": "2026-01-02T03:04:05Z", "expire_time": "2026-01-02T03:04:05Z",
    });
    let page = proto::ListResultsResponse { results: vec![stored.clone()], next_page_token: "next".into() };
    scene.siblings.answer(LIST_RESULTS, page);
    let listed: Value = scene.get("/api/v1/results?page_size=1").send().await.unwrap().json().await.unwrap();
    assert_eq!(listed, json!({"results": [shown], "next_page_token": "next"}));
    scene.siblings.answer(GET_RESULT, stored.clone());
    let got: Value = scene.get(&format!("/api/v1/results/{ID}")).send().await.unwrap().json().await.unwrap();
    assert_eq!(got, shown);
    scene.siblings.answer(DELETE_RESULT, proto::DeleteResultResponse {});
    let path = format!("/api/v1/results/{ID}");
    assert_eq!(scene.request("DELETE", &path).bearer_auth(crate::scene::KEY).send().await.unwrap().status(), 204);
    assert_eq!(scene.siblings.last::<proto::DeleteResultRequest>(DELETE_RESULT).0.name, stored.name);
}

#[tokio::test]
async fn storing_is_turned_on_by_the_organisation() {
    let scene = Scene::new().await;
    let name = format!("{}/resultSettings", names::organization(&scene.organization));
    scene.siblings.on(UPDATE_RESULT_SETTINGS, |asked: proto::UpdateResultSettingsRequest| {
        std::future::ready(Ok(asked.settings.unwrap()))
    });
    let put = async |body: Value| {
        let request = scene.request("PUT", "/api/v1/result-settings").bearer_auth(crate::scene::KEY);
        request.json(&body).send().await.unwrap()
    };
    let set: Value = put(json!({"enabled": true, "retention_seconds": 60})).await.json().await.unwrap();
    assert_eq!(set, json!({"enabled": true, "retention_seconds": 60}));
    let (asked, _) = scene.siblings.last::<proto::UpdateResultSettingsRequest>(UPDATE_RESULT_SETTINGS);
    assert_eq!(asked.settings.unwrap().name, name);
    assert_eq!(problem(put(json!({"enabled": true, "forever": true})).await).await.0, 400);
    scene.siblings.answer(GET_RESULT_SETTINGS, proto::ResultSettings { name, ..Default::default() });
    let got: Value = scene.get("/api/v1/result-settings").send().await.unwrap().json().await.unwrap();
    assert_eq!(got, json!({"enabled": false, "retention_seconds": null}));
}
