//! The models that a caller may use.

use serde_json::{Value, json};
use weir_proto::broker::v1::{ListModelsResponse, Model};
use weir_types::Scope;

use crate::answers::openai_error;
use crate::fixtures::LIST_MODELS;
use crate::scene::Scene;

async fn scene() -> Scene {
    let scene = Scene::new().await;
    let model = |id: &str| Model { id: id.into(), owned_by: "openai".into(), created: 1_715_367_049 };
    let models = vec![model("gpt-4o"), model("meta-llama/llama-3.1-8b")];
    scene.siblings.answer(LIST_MODELS, ListModelsResponse { models });
    scene
}

#[tokio::test]
async fn models_are_listed_as_openai_lists_them() {
    let scene = scene().await;
    let answer: Value = scene.get("/v1/models").send().await.unwrap().json().await.unwrap();
    let model = |id| json!({"id": id, "object": "model", "created": 1_715_367_049, "owned_by": "openai"});
    assert_eq!(answer, json!({"object": "list", "data": [model("gpt-4o"), model("meta-llama/llama-3.1-8b")]}));
}

#[tokio::test]
async fn one_model_is_found_also_with_a_slash_in_its_name() {
    let scene = scene().await;
    for path in ["/v1/models/gpt-4o", "/v1/models/meta-llama/llama-3.1-8b", "/v1/models/meta-llama%2Fllama-3.1-8b"] {
        let answer: Value = scene.get(path).send().await.unwrap().json().await.unwrap();
        assert!(path.replace("%2F", "/").ends_with(answer["id"].as_str().unwrap()), "{answer}");
    }
}

#[tokio::test]
async fn a_model_that_is_not_there_is_not_found() {
    let scene = scene().await;
    for path in ["/v1/models/gpt-9", "/v1/models/%FF"] {
        let (status, error) = openai_error(scene.get(path).send().await.unwrap()).await;
        assert_eq!((status, &error["code"]), (404, &json!("model_not_found")), "{path}");
    }
}

#[tokio::test]
async fn a_key_without_the_scope_is_forbidden() {
    let scene = scene().await;
    scene.exchange_keys(&[Scope::AiInvoke]);
    let (status, error) = openai_error(scene.get("/v1/models").send().await.unwrap()).await;
    assert_eq!((status, &error["code"]), (403, &json!("insufficient_permissions")));
}
