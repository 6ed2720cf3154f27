//! Requests that come again and again: known by their hash, and answered for the same reasons each time.

use serde_json::Value;
use weir_proto::broker::v1::{InvokeRequest, Operation};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Failure;

use crate::cache::{House, ROUTES, of};
use crate::load::hold;
use crate::scene::Scene;

async fn ask(scene: &Scene, body: &Value) -> Result<bool, Failure> {
    let operation = Operation::ChatCompletions.into();
    let asked = InvokeRequest { operation, body: body.to_string().into(), ..InvokeRequest::default() };
    scene.invoke_request(asked).await.map(|answer| answer.accounting.unwrap().cached)
}

/// Asks until the answer is kept, and then until the request is known.
async fn known(scene: &Scene, body: &Value) {
    scene.eventually("it is kept", async |scene| ask(scene, body).await.unwrap()).await;
    for _ in 0..3 {
        assert!(ask(scene, body).await.unwrap());
    }
}

#[tokio::test]
async fn another_configuration_leads_what_comes_again_where_it_says() {
    let house = House::new().await;
    let (scene, body) = (&house.scene, of("kept", "hello"));
    known(scene, &body).await;
    let without = format!("{ROUTES}[broker.routes.another]\nprovider = \"sim\"\nmodel = \"sim-small\"\n");
    scene.reconfigure(&scene.keeping_config(&without.replacen("cache = { ttl = \"1h\" }\n", "", 1)));
    let is_read = async |scene: &Scene| {
        // So that it is still known when the configuration changes.
        ask(scene, &body).await.unwrap();
        scene.models().await.contains(&"another".to_owned())
    };
    scene.eventually("the new configuration is there", is_read).await;
    assert!(!ask(scene, &body).await.unwrap(), "its route keeps nothing any more");
}

#[tokio::test]
async fn another_plan_refuses_what_comes_again() {
    let house = House::new().await;
    let (scene, body) = (&house.scene, of("kept", "hello"));
    known(scene, &body).await;
    *scene.siblings.models.lock() = vec!["sim-large".to_owned()];
    scene.siblings.plans_changed.send_replace(());
    let is_refused = async |scene: &Scene| ask(scene, &body).await.is_err();
    scene.eventually("the new plan is there", is_refused).await;
    assert_eq!(ask(scene, &body).await.unwrap_err().reason(), ErrorReason::ModelNotAllowed);
}

#[tokio::test]
async fn a_load_level_refuses_what_comes_again() {
    let level = "load.measure = \"10ms\"\nload.hold = \"60s\"\n\
        [[broker.load.levels]]\nname = \"high\"\nin_flight = 2\nrefuse = [\"kept\"]\n";
    let house = House::with(level, ROUTES).await;
    let (scene, body) = (&house.scene, of("kept", "hello"));
    known(scene, &body).await;
    let _held = hold(scene, 3).await;
    let is_reached = async |scene: &Scene| {
        // So that it is still known when the level is reached.
        drop(ask(scene, &body).await);
        scene.status().await.load_level == "high"
    };
    scene.eventually("the level is reached", is_reached).await;
    assert_eq!(ask(scene, &body).await.unwrap_err().reason(), ErrorReason::Overloaded);
}
