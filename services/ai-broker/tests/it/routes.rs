//! Routes of several targets: shared by weight, standing in for each other, each attempt priced and reserved anew.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prost::Message as _;
use serde_json::Value;
use weir_proto::common::v1::ErrorReason;
use weir_proto::usage::v1::UsageEvent;
use weir_simulator::{Fault, Options, Simulator};

use crate::scene::{Scene, chat, streamed, try_load};

/// Three providers, and a route over them.
struct Three {
    scene: Scene,
    a: Arc<Simulator>,
    b: Arc<Simulator>,
    c: Arc<Simulator>,
}

const CHAIN: &str = "targets = [{ provider = \"a\", model = \"sim-small\" }]\nfallback = [\"second\", \"third\"]\n";

impl Three {
    /// With this for the route `chat`; `second` and `third` lead to the dearer model of the other two providers.
    async fn with(chat: &str) -> Self {
        let start = async || Arc::new(Simulator::start(Options::default()).await.unwrap());
        let (a, b, c) = (start().await, start().await, start().await);
        let provider = |name: &str, simulator: &Simulator| {
            format!(
                "[broker.providers.{name}]\nbase_url = \"{}\"\nprice_list = \"simulated\"\nkeys = {{ k = \"sk-{name}\" }}\n\
                 first_byte_timeout = \"6s\"\nidle_timeout = \"1500ms\"\nmax_wait = \"30s\"\n",
                simulator.base_url()
            )
        };
        let config = format!(
            "settle_linger = \"1ms\"\n{}{}{}[broker.routes.chat]\n{chat}\
             [broker.routes.second]\nprovider = \"b\"\nmodel = \"sim-large\"\n\
             [broker.routes.third]\nprovider = \"c\"\nmodel = \"sim-large\"\n",
            provider("a", &a),
            provider("b", &b),
            provider("c", &c),
        );
        let scene = Scene::configured(&a, None, &config).await;
        Self { scene, a, b, c }
    }

    fn served(&self) -> [usize; 3] {
        [&self.a, &self.b, &self.c].map(|simulator| simulator.served().len())
    }
}

fn fails(simulator: &Simulator, simulate: &str) {
    simulator.add_fault(Fault { simulate: simulate.parse().unwrap(), ..Fault::default() });
}

fn to_chat(mut body: Value) -> Value {
    body["model"] = "chat".into();
    body
}

#[tokio::test]
async fn targets_share_the_calls_by_weight() {
    let targets = "targets = [{ provider = \"a\", model = \"sim-small\", weight = 3 },\n\
                   { provider = \"b\", model = \"sim-small\" }, { provider = \"c\", model = \"sim-small\", weight = 0 }]\n";
    let three = Three::with(targets).await;
    for _ in 0..20 {
        three.scene.invoke(&to_chat(chat(1, ""))).await.unwrap();
    }
    let [a, b, c] = three.served();
    assert!((14..=16).contains(&a) && a + b == 20 && c == 0, "{a} {b} {c}");
    fails(&three.a, "status=500");
    fails(&three.b, "status=500");
    three.scene.invoke(&to_chat(chat(1, ""))).await.unwrap();
    assert!(!three.c.served().is_empty(), "one without weight stands in");
}

#[tokio::test]
async fn whatever_a_provider_fails_by_the_next_one_answers() {
    for fault in ["status=500", "status=429,retry_after=20", "status=401", "status=402", "reset=before", "hang=1"] {
        let three = Three::with(&format!("{CHAIN}first_byte_timeout = \"2s\"\n")).await;
        fails(&three.a, fault);
        let answer = three.scene.invoke(&to_chat(chat(2, ""))).await.unwrap();
        let accounting = answer.accounting.unwrap();
        assert_eq!((accounting.provider.as_str(), accounting.model.as_str()), ("b", "sim-large"), "{fault}");
        assert_eq!(three.served()[1..], [1, 0], "{fault}");
        let (reserved, committed, _) = three.scene.ends().await;
        assert_eq!(i32::try_from(reserved).unwrap(), accounting.attempts, "{fault}: each attempt has its own");
        // Who does not answer in time may still be working on it.
        assert_eq!(committed, if fault == "hang=1" { 2 } else { 1 }, "{fault}");
        let worst = |id: &str| {
            let reserved = three.scene.siblings.reserved.lock();
            let draft = UsageEvent::decode(reserved[id].context.clone()).unwrap();
            (draft.provider, draft.cost_nano_usd)
        };
        let (provider, dear) = worst(&accounting.reservation_id);
        let first = three.scene.siblings.reserved.lock().keys().min().unwrap().clone();
        assert_eq!((provider.as_str(), dear), ("b", 10 * worst(&first).1), "{fault}: priced anew");
    }
}

#[tokio::test]
async fn what_the_request_itself_does_wrong_is_not_tried_elsewhere() {
    for status in [400, 404, 413, 422] {
        let three = Three::with(CHAIN).await;
        fails(&three.a, &format!("status={status}"));
        let failure = three.scene.invoke(&to_chat(chat(1, ""))).await.unwrap_err();
        assert_eq!(failure.provider_error().unwrap().http_status, status);
        assert_eq!(three.served(), [1, 0, 0], "{status}");
    }
}

#[tokio::test]
async fn attempts_are_bounded_over_all_targets_and_the_last_ones_kept_for_those_that_come_later() {
    let three = Three::with("provider = \"a\"\nmodel = \"sim-small\"\nfallback = [\"second\"]\n").await;
    fails(&three.a, "status=500");
    fails(&three.b, "status=503");
    let failure = three.scene.invoke(&to_chat(chat(1, ""))).await.unwrap_err();
    assert_eq!(failure.provider_error().unwrap().http_status, 503, "the last word");
    assert_eq!(three.served(), [2, 1, 0]);
    assert_eq!(three.scene.ends().await, (3, 0, 3));
}

#[tokio::test]
async fn nothing_is_tried_after_the_callers_deadline() {
    let three = Three::with(&format!("{CHAIN}first_byte_timeout = \"2s\"\n")).await;
    for simulator in [&three.a, &three.b, &three.c] {
        fails(simulator, "hang=1");
    }
    let call = three.scene.invoke_within(&to_chat(chat(1, "")), Duration::from_secs(1)).await;
    assert_eq!(call.unwrap_err().reason(), ErrorReason::DeadlineExceeded);
    three
        .scene
        .eventually("the only attempt is charged", async |scene| scene.siblings.committed.lock().len() == 1)
        .await;
    assert_eq!(three.scene.ends().await, (1, 1, 0));
    assert_eq!(three.b.stats().requests + three.c.stats().requests, 0);
}

#[tokio::test]
async fn a_stream_falls_back_before_its_first_byte_and_never_after_it() {
    let three = Three::with(CHAIN).await;
    fails(&three.a, "status=503");
    let (text, accounting, failure) = three.scene.stream_whole(&to_chat(streamed(5, ""))).await;
    assert!(failure.is_none() && text.ends_with("data: [DONE]\n\n"));
    assert_eq!(accounting.unwrap().provider, "b");
    fails(&three.b, "cut_after=2");
    let (_, _, failure) = three.scene.stream_whole(&to_chat(streamed(5, ""))).await;
    assert_eq!(failure.unwrap().reason(), ErrorReason::ProviderFailed);
    assert_eq!(three.c.stats().requests, 0);
}

#[tokio::test]
async fn a_call_waits_only_when_no_target_has_room() {
    let three = Three::with(CHAIN).await;
    for simulator in [&three.a, &three.b, &three.c] {
        simulator.add_fault(Fault {
            simulate: "status=429,retry_after=1".parse().unwrap(),
            times: Some(1),
            ..Fault::default()
        });
    }
    let accounting = three.scene.invoke(&to_chat(chat(1, ""))).await.unwrap().accounting.unwrap();
    assert_eq!((accounting.provider.as_str(), accounting.queue_position), ("a", 1));
    assert_eq!(three.served(), [2, 1, 1]);
}

#[tokio::test]
async fn a_stand_in_that_is_beyond_the_callers_limits_is_passed_over() {
    let three = Three::with(CHAIN).await;
    fails(&three.a, "status=500");
    "sim-large of b".clone_into(&mut three.scene.siblings.too_dear.lock());
    let accounting = three.scene.invoke(&to_chat(chat(1, ""))).await.unwrap().accounting.unwrap();
    assert_eq!(accounting.provider, "c");
    // Asked again once what has ended is settled.
    three.scene.siblings.refuse.store(2, Ordering::Relaxed);
    let failure = three.scene.invoke(&to_chat(chat(1, ""))).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::QuotaExceeded, "a limit in the way of what was asked for is the answer");
}

#[tokio::test]
async fn what_is_not_critical_goes_to_the_cheaper_model() {
    let three = Three::with("provider = \"b\"\nmodel = \"sim-large\"\nnon_critical = \"sim-small\"\n").await;
    let model = |answer: Result<weir_proto::broker::v1::InvokeResponse, weir_rpc::Failure>| {
        answer.unwrap().accounting.unwrap().model
    };
    assert_eq!(model(three.scene.invoke(&to_chat(chat(1, ""))).await), "sim-large");
    assert_eq!(model(three.scene.invoke_spare(&to_chat(chat(1, ""))).await), "sim-small");
    fails(&three.a, "status=500");
    assert_eq!(model(three.scene.invoke_spare(&to_chat(chat(1, ""))).await), "sim-large", "it stands in");
}

#[test]
fn a_route_that_makes_no_sense_is_refused_with_what_is_wrong() {
    let provider =
        "[broker.providers.a]\nbase_url = \"http://localhost/v1\"\nprice_list = \"x\"\nkeys = { k = \"k\" }\n";
    for (route, problem) in [
        ("fallback = [\"x\"]", "routes.r.targets: needs either"),
        (
            "provider = \"a\"\nmodel = \"m\"\ntargets = [{ provider = \"a\", model = \"m\" }]",
            "routes.r.targets: needs either",
        ),
        ("targets = [{ provider = \"z\", model = \"m\" }]", "routes.r.targets.0.provider: names no provider"),
        ("targets = [{ provider = \"a\", model = \"m\", weight = 0 }]", "must have a weight above 0"),
        ("provider = \"a\"\nmodel = \"m\"\nfallback = [\"r\"]", "routes.r.fallback: must not name the route itself"),
        ("provider = \"a\"\nmodel = \"m\"\nidle_timeout = \"0s\"", "routes.r.idle_timeout: must not be zero"),
    ] {
        let errors = try_load(&format!("{provider}[broker.routes.r]\n{route}\n")).unwrap_err().to_string();
        assert!(errors.contains(problem), "{route}: {errors}");
    }
    let key = "[broker.providers.a]\nbase_url = \"http://localhost/v1\"\nprice_list = \"x\"\n\
               keys.k = { secret = \"file:/nowhere/key\", requests_per_minute = 0 }\n";
    let errors = try_load(key).unwrap_err().to_string();
    assert!(errors.contains("requests_per_minute: must be at least 1") && errors.contains("can't be read"), "{errors}");
}
