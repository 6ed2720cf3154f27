//! Calls that a provider serves at another of its prices: reserved at the dearest that they allow, charged as the answer says.

use serde_json::{Value, json};
use weir_proto::broker::v1::Operation;
use weir_proto::usage::v1::UsageEvent;
use weir_simulator::Fault;

use crate::scene::{Scene, chat};

/// Asks for 7 tokens with 5, and streams if it shall.
async fn call(tier: Option<&str>, directive: &str, stream: bool) -> (UsageEvent, i64) {
    let scene = Scene::new().await;
    let mut body = chat(7, directive);
    set(&mut body, tier, stream);
    if stream {
        assert!(scene.stream_whole(&body).await.1.is_some());
    } else {
        scene.invoke(&body).await.unwrap();
    }
    settled(&scene).await
}

fn set(body: &mut Value, tier: Option<&str>, stream: bool) {
    if let Some(tier) = tier {
        body["service_tier"] = tier.into();
    }
    if stream {
        body["stream"] = true.into();
    }
}

/// The event, and how much money was reserved for an output token of it.
async fn settled(scene: &Scene) -> (UsageEvent, i64) {
    let event = scene.settled().await;
    let reserved = scene.siblings.reserved.lock();
    let amounts = &reserved[&event.event_id].amounts;
    let of = |unit: &str| amounts.iter().find(|amount| amount.unit == unit).unwrap().value;
    assert!(of("nano_usd") >= event.cost_nano_usd, "{event:?}");
    // Input costs a quarter of what output costs, in every tier.
    let reserved = of("nano_usd") * 4 / (of("input_token") + of("output_token") * 4);
    (event, reserved)
}

/// What 5 tokens of input and 7 of output cost, if one of output costs so much.
const fn cost(output: i64) -> i64 {
    5 * output / 4 + 7 * output
}

#[tokio::test]
async fn a_call_is_charged_at_the_price_that_its_answer_names() {
    for stream in [false, true] {
        for (tier, directive, reserved, charged, unit) in [
            (None, "", 600, 600, None),
            (Some("default"), "", 600, 600, None),
            (Some("flex"), "", 600, 300, Some("flex_request")),
            (Some("priority"), "", 1200, 1200, Some("priority_request")),
            (Some("priority"), "tier=default", 1200, 600, None),
            (Some("auto"), "tier=priority", 1200, 1200, Some("priority_request")),
            (Some("auto"), "", 1200, 600, None),
            // Without a price of its own a tier costs what is usual.
            (Some("fast"), "", 600, 600, None),
        ] {
            let (event, held) = call(tier, directive, stream).await;
            let at = format!("{tier:?} {directive} {stream}");
            assert_eq!((held, event.cost_nano_usd, event.estimated), (reserved, cost(charged), false), "{at}");
            let named = event.quantities.keys().find(|name| name.ends_with("_request"));
            assert_eq!(named.map(String::as_str), unit, "{at}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_is_charged_at_the_price_that_it_began_at() {
    let scene = Scene::new().await;
    let mut body = chat(50, "cut_after=7");
    set(&mut body, Some("priority"), true);
    assert!(scene.stream_whole(&body).await.2.is_some());
    let (event, _) = settled(&scene).await;
    assert!(event.estimated && event.quantities.contains_key("priority_request"), "{event:?}");
    assert_eq!(event.cost_nano_usd, event.input_tokens * 300 + event.output_tokens * 1200);
}

#[tokio::test]
async fn responses_and_messages_say_it_in_their_own_words() {
    for stream in [false, true] {
        let response = json!({"model": "sim-small", "input": "one two three four five", "max_output_tokens": 7});
        let message = json!({
            "model": "sim-claude", "max_tokens": 7, "messages": [{"role": "user", "content": "one two three four five"}],
        });
        for (operation, mut body, tier) in
            [(Operation::Responses, response, "priority"), (Operation::Messages, message, "auto")]
        {
            let scene = Scene::new().await;
            set(&mut body, Some(tier), stream);
            let simulate = "tier=priority".parse().unwrap();
            scene.provider.add_fault(Fault { api_key: None, simulate, times: None, percent: None });
            if stream {
                let parts = scene.stream_as(operation, &body).await.unwrap();
                assert!(Scene::whole(parts).await.1.is_some());
            } else {
                scene.invoke_as(operation, &body).await.unwrap();
            }
            let (event, _) = settled(&scene).await;
            let is_priority = event.quantities.contains_key("priority_request");
            assert!(is_priority && !event.estimated, "{operation:?} {stream} {event:?}");
            assert_eq!(event.cost_nano_usd, event.input_tokens * 300 + event.output_tokens * 1200);
        }
    }
}

#[tokio::test]
async fn what_a_provider_makes_of_calls_that_name_no_price_is_configuration() {
    let scene = Scene::of_project("priority").await;
    scene.invoke(&chat(7, "tier=priority")).await.unwrap();
    let (event, held) = settled(&scene).await;
    assert_eq!((held, event.cost_nano_usd), (1200, cost(1200)));
    let wrong = crate::scene::try_load(
        "[broker.providers.p]\nbase_url = \"http://p\"\nprice_list = \"p\"\nkeys = { k = \"k\" }\nservice_tier = \"best\"",
    );
    let wrong = wrong.map(|_| ()).unwrap_err().to_string();
    assert!(wrong.contains("service_tier") && wrong.contains("default, auto, batch"), "{wrong}");
}
