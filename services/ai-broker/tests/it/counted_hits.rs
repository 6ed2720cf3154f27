//! Kept answers in the books: counted together, told to usage a moment later.

use std::sync::atomic::Ordering;

use futures::future::join_all;
use weir_proto::broker::v1::{Accounting, InvokeRequest, Operation};
use weir_proto::common::v1::ErrorReason;
use weir_proto::usage::v1::UsageEvent;
use weir_rpc::Bearer;
use weir_types::names;

use crate::cache::{House, ROUTES, of};
use crate::scene::Scene;

async fn asked_by(scene: &Scene, bearer: &Bearer, text: &str) -> Accounting {
    let operation = Operation::ChatCompletions.into();
    let asked = InvokeRequest { operation, body: of("kept", text).to_string().into(), ..InvokeRequest::default() };
    scene.broker.clone().invoke(bearer.request(asked)).await.unwrap().into_inner().accounting.unwrap()
}

/// Asks once, and until the answer is kept; how many kept answers that took.
async fn kept_for(scene: &Scene, bearer: &Bearer, text: &str) -> i64 {
    scene.eventually("it is kept", async |scene| asked_by(scene, bearer, text).await.cached).await;
    1
}

/// Kept answers in the books.
fn hits(scene: &Scene) -> Vec<UsageEvent> {
    let recorded = scene.siblings.recorded.lock();
    recorded.values().filter(|event| event.source == "ai-broker-cache").cloned().collect()
}

fn requests(events: &[UsageEvent]) -> i64 {
    events.iter().map(|event| event.requests).sum()
}

#[tokio::test]
async fn kept_answers_are_counted_together_and_each_is_told_where() {
    let house = House::new().await;
    let scene = &house.scene;
    let mut given = kept_for(scene, &scene.bearer, "hello").await;
    let together = |scene: &Scene| hits(scene).iter().any(|event| event.requests > 1);
    // Until two fall into the same second, on however slow a machine.
    for _ in 0..50 {
        if together(scene) {
            break;
        }
        let answers = join_all((0..20).map(|_| asked_by(scene, &scene.bearer, "hello"))).await;
        given += 20;
        assert!(answers.iter().all(|answer| answer.cached && answer.cost_nano_usd == 0));
        let ids: Vec<String> = answers.into_iter().map(|answer| answer.reservation_id).collect();
        scene
            .eventually("they are in the books", async |scene| {
                let recorded = scene.siblings.recorded.lock();
                ids.iter().all(|id| recorded.contains_key(id))
            })
            .await;
    }
    assert!(together(scene));
    scene.eventually("each is counted once", async |scene| requests(&hits(scene)) == given).await;
    let nothing = |event: &UsageEvent| event.cost_nano_usd == 0 && event.input_tokens == 0 && event.output_tokens == 0;
    assert!(hits(scene).iter().all(|event| nothing(event) && !event.user.is_empty() && event.model == "sim-small"));
}

#[tokio::test]
async fn each_organisation_and_each_caller_has_a_sum_of_its_own() {
    let house = House::new().await;
    let scene = &house.scene;
    house.allow(scene.strange, &scene.stranger, true, false).await;
    let mut given = [0, 0];
    for (caller, bearer) in [(0, &scene.bearer), (1, &scene.stranger)] {
        given[caller] += kept_for(scene, bearer, "hello").await;
        for _ in 0..caller + 2 {
            asked_by(scene, bearer, "hello").await;
            given[caller] += 1;
        }
    }
    let counted = |scene: &Scene| {
        let of = |organization| {
            let name = names::organization(organization);
            hits(scene).iter().filter(|event| event.organization == name).map(|event| event.requests).sum::<i64>()
        };
        [of(&scene.organization), of(&scene.strange)]
    };
    scene.eventually("each has its own", async |scene| counted(scene) == given).await;
    assert!(
        hits(scene)
            .iter()
            .all(|event| event.user.is_empty() == event.organization.ends_with(&scene.strange.to_string()))
    );
}

#[tokio::test]
async fn while_usage_is_away_sums_wait_and_none_is_lost() {
    let house = House::new().await;
    let scene = &house.scene;
    let mut given = kept_for(scene, &scene.bearer, "hello").await;
    scene.siblings.usage_is_down.store(true, Ordering::Relaxed);
    for _ in 0..30 {
        asked_by(scene, &scene.bearer, "hello").await;
        given += 1;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(requests(&hits(scene)) < given);
    scene.siblings.usage_is_down.store(false, Ordering::Relaxed);
    scene.eventually("all are in the books", async |scene| requests(&hits(scene)) == given).await;
}

#[tokio::test]
async fn at_shutdown_nothing_is_left_out() {
    let house = House::new().await;
    let scene = &house.scene;
    let mut given = kept_for(scene, &scene.bearer, "hello").await;
    for _ in 0..25 {
        asked_by(scene, &scene.bearer, "hello").await;
        given += 1;
    }
    scene.shut_down().await;
    assert_eq!(requests(&hits(scene)), given);
}

#[tokio::test]
async fn who_has_used_up_a_limit_gets_kept_answers_and_no_others() {
    let house = House::new().await;
    let scene = &house.scene;
    kept_for(scene, &scene.bearer, "hello").await;
    scene.siblings.refuse.store(u64::MAX, Ordering::Relaxed);
    assert!(asked_by(scene, &scene.bearer, "hello").await.cached);
    let refused = scene.invoke(&of("kept", "something else")).await.unwrap_err();
    assert_eq!(refused.reason(), ErrorReason::QuotaExceeded);
}

#[tokio::test]
async fn an_answer_at_hand_is_given_without_asking_redis_and_never_for_long() {
    let house = House::new().await;
    let scene = &house.scene;
    kept_for(scene, &scene.bearer, "hello").await;
    let is_at_hand = async |scene: &Scene| {
        let before = house.looks().await;
        asked_by(scene, &scene.bearer, "hello").await.cached && house.looks().await == before
    };
    scene.eventually("it is at hand", is_at_hand).await;
    // What is at hand is not kept at hand by being asked for.
    let looked = house.looks().await;
    let asks_again = async |scene: &Scene| {
        asked_by(scene, &scene.bearer, "hello").await;
        house.looks().await > looked
    };
    scene.eventually("Redis is asked again", asks_again).await;
    house.redis.kill().await.unwrap();
    let is_gone = async |scene: &Scene| !asked_by(scene, &scene.bearer, "hello").await.cached;
    scene.eventually("without Redis there is none", is_gone).await;
}

#[tokio::test]
async fn after_a_purge_no_broker_has_it_at_hand() {
    let mut house = House::new().await;
    let second = house.second(ROUTES).await;
    kept_for(&house.scene, &house.scene.bearer, "hello").await;
    for _ in 0..3 {
        // At hand at the second broker, as fresh as can be.
        kept_for(&second, &second.bearer, "hello").await;
        asked_by(&second, &second.bearer, "hello").await;
        let calls = house.calls();
        house.purge().await;
        assert!(!asked_by(&second, &second.bearer, "hello").await.cached);
        assert_eq!(house.calls(), calls + 1);
    }
}
