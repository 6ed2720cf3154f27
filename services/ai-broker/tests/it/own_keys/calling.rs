//! Calls of those who have brought a key.

use std::sync::atomic::Ordering;

use prost::Message as _;
use serde_json::json;
use weir_proto::broker::v1::{InvokeRequest, Operation, ProviderKeyLimits};
use weir_proto::common::v1::ErrorReason;
use weir_proto::usage::v1::UsageEvent;
use weir_simulator::Fault;
use weir_types::UserId;

use super::{broker, first_master, secret, served, simulator};
use crate::database::{connect, database};
use crate::scene::{Scene, chat, streamed};

#[tokio::test]
async fn an_own_key_is_used_first_and_its_calls_cost_the_platform_nothing_and_are_metered() {
    let (sim, admin) = (simulator().await, database().await);
    let mut scene = broker(&sim, connect(&admin.url).await, &first_master()).await;
    let user = UserId::new_v7();
    scene.bearer = scene.member(user);
    scene.invoke(&chat(3, "")).await.unwrap();
    let paid = scene.settled().await;
    assert_eq!((paid.provider_key.as_str(), paid.quantities.get("own_nano_usd")), ("", None));

    let limits = ProviderKeyLimits { requests_per_minute: 7, ..Default::default() };
    let key = scene.store(&scene.bearer, Some(user), &secret("mine"), limits).await.unwrap();
    assert_eq!((key.last_four.as_str(), key.label.as_str()), ("mine", "mine"));
    scene.siblings.recorded.lock().clear();
    scene.siblings.committed.lock().clear();
    scene.siblings.reserved.lock().clear();
    let answer = scene.invoke(&chat(3, "")).await.unwrap().accounting.unwrap();
    assert_eq!((answer.provider_key.as_str(), answer.cost_nano_usd), (key.name.as_str(), 0));
    let event = scene.settled().await;
    assert_eq!((event.provider_key.as_str(), event.cost_nano_usd), (key.name.as_str(), 0));
    assert_eq!((event.input_tokens, event.output_tokens), (paid.input_tokens, paid.output_tokens));
    assert_eq!(event.quantities.get("own_nano_usd"), Some(&paid.cost_nano_usd));
    let reserved = scene.siblings.reserved.lock().values().next().cloned().unwrap();
    let held = |unit: &str| reserved.amounts.iter().find(|amount| amount.unit == unit).map(|amount| amount.value);
    assert_eq!((held("nano_usd"), held("request")), (None, Some(1)));
    assert!(held("own_nano_usd") >= Some(paid.cost_nano_usd) && held("token").is_some());
    let labels = reserved.subject.unwrap().labels;
    assert_eq!(labels.keys().map(String::as_str).collect::<Vec<_>>(), ["own_key"], "the platform's room is left alone");
    // So it is if nobody sees how it ends.
    let draft = UsageEvent::decode(reserved.context).unwrap();
    assert_eq!((draft.provider_key.as_str(), draft.cost_nano_usd), (key.name.as_str(), 0));
    assert_eq!(draft.quantities.get("own_nano_usd"), held("own_nano_usd").as_ref());
    let told: Vec<_> = reserved.limits.iter().map(|limit| (limit.unit.as_str(), limit.amount)).collect();
    assert_eq!(told[0], ("request", 7));
    assert_eq!(told.len(), 3);
    let commit = scene.siblings.committed.lock()[&event.event_id].clone();
    let spent = commit.actuals.iter().find(|amount| amount.unit == "own_nano_usd").map(|amount| amount.value);
    assert_eq!(spent, Some(paid.cost_nano_usd));
    assert_eq!(served(&sim), ["0000", "mine"]);

    let (text, accounting, failure) = scene.stream_whole(&streamed(3, "")).await;
    assert!(failure.is_none() && text.contains("[DONE]"));
    assert_eq!(accounting.unwrap().provider_key, key.name);
}

#[tokio::test]
async fn who_has_a_key_calls_by_it_although_the_same_call_is_under_way() {
    let (sim, admin) = (simulator().await, database().await);
    let together = "[broker.routes.together]\nprovider = \"sim\"\nmodel = \"sim-small\"\ncache = { coalesce = true }\n";
    let mut scene = broker(&sim, connect(&admin.url).await, &format!("{}{together}", first_master())).await;
    let (with, without) = (UserId::new_v7(), UserId::new_v7());
    scene.bearer = scene.member(with);
    scene.store(&scene.bearer, Some(with), &secret("mine"), ProviderKeyLimits::default()).await.unwrap();
    let mut body = chat(1, "latency_ms=1000");
    body["model"] = "together".into();
    let ask = async |user: UserId| {
        let asked = InvokeRequest {
            operation: Operation::ChatCompletions.into(),
            body: body.to_string().into(),
            ..InvokeRequest::default()
        };
        let answer = scene.broker.clone().invoke(scene.member(user).request(asked)).await.unwrap();
        answer.into_inner().accounting.unwrap()
    };
    let late = async |user: UserId| {
        scene.eventually("the first is under way", async |_| sim.stats().in_flight == 1).await;
        ask(user).await
    };
    let (first, second) = tokio::join!(ask(without), late(with));
    assert!(!first.coalesced && !second.coalesced && !second.provider_key.is_empty());
    assert_eq!(served(&sim), ["0000", "mine"]);
}

#[tokio::test]
async fn a_users_key_goes_before_the_organisations_and_that_before_the_platforms() {
    let (sim, admin) = (simulator().await, database().await);
    let mut scene = broker(&sim, connect(&admin.url).await, &first_master()).await;
    let (one, other) = (UserId::new_v7(), UserId::new_v7());
    let chief = scene.admin(UserId::new_v7());
    let ours = scene.store(&chief, None, &secret("ours"), ProviderKeyLimits::default()).await.unwrap();
    scene.store(&scene.member(one), Some(one), &secret("mine"), ProviderKeyLimits::default()).await.unwrap();
    let mut expected = Vec::new();
    for (bearer, ending) in
        [(scene.member(one), "mine"), (scene.member(other), "ours"), (scene.stranger.clone(), "0000")]
    {
        scene.bearer = bearer;
        scene.invoke(&chat(1, "")).await.unwrap();
        expected.push(ending);
    }
    scene.delete(&chief, &ours.name).await.unwrap();
    scene.bearer = scene.member(other);
    scene.invoke(&chat(1, "")).await.unwrap();
    expected.push("0000");
    assert_eq!(served(&sim), expected);
}

/// Two targets and a fallback: one with the caller's key, the others with the platform's alone.
fn routes() -> String {
    format!(
        "{}[broker.routes.both]\ntargets = [{{ provider = \"sim\", model = \"sim-small\", weight = 0 }}, \
         {{ provider = \"claude\", model = \"sim-claude\", weight = 1 }}]\nfallback = [\"sim-large\"]\n",
        first_master()
    )
}

#[tokio::test]
async fn a_key_that_fails_is_named_and_never_replaced_by_the_platforms() {
    let (sim, admin) = (simulator().await, database().await);
    let mut scene = broker(&sim, connect(&admin.url).await, &routes()).await;
    let user = UserId::new_v7();
    scene.bearer = scene.member(user);
    scene.store(&scene.bearer, Some(user), &secret("dead"), ProviderKeyLimits::default()).await.unwrap();
    for (simulate, reason) in [
        ("status=401", ErrorReason::OwnKeyRefused),
        ("status=402", ErrorReason::OwnKeyRefused),
        ("status=403", ErrorReason::OwnKeyRefused),
        ("status=429,retry_after=7", ErrorReason::OwnKeyLimited),
        ("status=500", ErrorReason::ProviderRejected),
        ("reset=before", ErrorReason::ProviderFailed),
    ] {
        for model in ["sim-small", "both"] {
            let mut body = chat(1, simulate);
            body["model"] = model.into();
            let failure = scene.invoke(&body).await.unwrap_err();
            assert_eq!(failure.reason(), reason, "{simulate}, {model}: {failure}");
            if reason != ErrorReason::ProviderFailed {
                assert_eq!((failure.metadata("label"), failure.metadata("last_four")), (Some("mine"), Some("dead")));
                assert!(failure.message().contains("`mine` (…dead)"), "{failure}");
            }
            assert!(!format!("{failure:?}").contains("plugh"), "{failure:?}");
            if reason == ErrorReason::OwnKeyLimited {
                assert_eq!(failure.retry_after().map(|wait| wait.as_secs()), Some(7));
            }
        }
    }
    let (reserved, committed, released) = scene.ends().await;
    assert_eq!((committed, released), (0, reserved));
    assert!(served(&sim).iter().all(|ending| ending == "dead"), "{:?}", served(&sim));
    // Others are not touched by it: the platform's keys do not rest.
    scene.bearer = scene.stranger.clone();
    scene.invoke(&chat(1, "")).await.unwrap();
}

#[tokio::test]
async fn of_a_routes_targets_the_one_with_an_own_key_goes_first_and_nothing_else_behind_it() {
    let (sim, admin) = (simulator().await, database().await);
    let mut scene = broker(&sim, connect(&admin.url).await, &routes()).await;
    let user = UserId::new_v7();
    scene.bearer = scene.member(user);
    let body = json!({"model": "both", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]});
    let accounting = scene.invoke(&body).await.unwrap().accounting.unwrap();
    assert_eq!((accounting.provider.as_str(), accounting.provider_key.as_str()), ("claude", ""));
    let key = scene.store(&scene.bearer, Some(user), &secret("mine"), ProviderKeyLimits::default()).await.unwrap();
    for _ in 0..4 {
        let accounting = scene.invoke(&body).await.unwrap().accounting.unwrap();
        assert_eq!((accounting.provider.as_str(), &accounting.provider_key), ("sim", &key.name));
    }
    // Where it fails too often the fallback stands in, by the same key.
    sim.add_fault(Fault { simulate: "status=500".parse().unwrap(), times: Some(2), ..Fault::default() });
    let accounting = scene.invoke(&body).await.unwrap().accounting.unwrap();
    assert_eq!((accounting.provider_key, accounting.cost_nano_usd), (key.name, 0));
}

#[tokio::test]
async fn a_plan_of_own_keys_has_no_call_by_the_platforms() {
    let (sim, admin) = (simulator().await, database().await);
    let elsewhere = "[broker.routes.elsewhere]\nprovider = \"claude\"\nmodel = \"sim-claude\"\nfallback = [\"fast\"]\n";
    let mut scene = broker(&sim, connect(&admin.url).await, &format!("{}\n{elsewhere}", first_master())).await;
    scene.siblings.own_keys_only.store(true, Ordering::Relaxed);
    let user = UserId::new_v7();
    // Of an organisation whose plan has not been asked for yet.
    scene.bearer = scene.principal(scene.strange, Some(user), None, &[weir_types::Scope::AiInvoke]);
    let failure = scene.invoke(&chat(1, "")).await.unwrap_err();
    assert_eq!((failure.reason(), failure.metadata("providers")), (ErrorReason::OwnKeyRequired, Some("sim")));
    scene
        .store_in(scene.strange, &scene.bearer, Some(user), &secret("mine"), ProviderKeyLimits::default())
        .await
        .unwrap();
    scene.invoke(&chat(1, "")).await.unwrap();
    let body = json!({"model": "elsewhere", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]});
    let accounting = scene.invoke(&body).await.unwrap().accounting.unwrap();
    assert_eq!(
        (accounting.provider.as_str(), accounting.downgraded),
        ("sim", false),
        "by what keys there are, not for load"
    );
    let failure = scene.invoke(&chat(1, "status=500")).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::ProviderRejected);
    assert!(served(&sim).iter().all(|ending| ending == "mine"));
}

#[tokio::test]
async fn while_it_is_not_known_who_has_brought_keys_nobody_goes_by_the_platforms() {
    let sim = simulator().await;
    let scene = Scene::with_own_keys(&sim, crate::database::nowhere().await, super::PLATFORM, &first_master()).await;
    let failure = scene.invoke(&chat(1, "")).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::Unavailable);
    assert!(served(&sim).is_empty());
}

#[tokio::test]
async fn calls_go_on_when_the_database_goes_away_afterwards() {
    let (sim, admin) = (simulator().await, database().await);
    let mut scene = broker(&sim, connect(&admin.url).await, &first_master()).await;
    let user = UserId::new_v7();
    scene.bearer = scene.member(user);
    scene.store(&scene.bearer, Some(user), &secret("mine"), ProviderKeyLimits::default()).await.unwrap();
    scene.database.close().await;
    for _ in 0..3 {
        scene.invoke(&chat(1, "")).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
    assert_eq!(served(&sim), ["mine"; 3]);
    let failure = scene.store(&scene.bearer, Some(user), &secret("next"), ProviderKeyLimits::default()).await;
    assert_eq!(failure.unwrap_err().reason(), ErrorReason::Unavailable);
}
