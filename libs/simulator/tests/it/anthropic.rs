//! Anthropic's messages.

use serde_json::{Value, json};
use weir_simulator::Options;

use crate::{Provider, settled, with};

fn asking(simulate: &str) -> Value {
    json!({
        "model": "claude-sonnet-4-5",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "how high is the water"}],
        "metadata": {"user_id": "u", "simulate": simulate}
    })
}

fn post(provider: &Provider, path: &str) -> reqwest::RequestBuilder {
    let url = format!("http://{}{path}", provider.simulator.addr());
    let request = provider.client.post(url).header("x-api-key", "sk-ant-0001");
    request.header("anthropic-version", "2023-06-01").header("x-client-request-id", "request-1")
}

async fn ask(provider: &Provider, body: &Value) -> reqwest::Response {
    post(provider, "/v1/messages").json(body).send().await.unwrap()
}

async fn said(provider: &Provider, body: &Value) -> Value {
    let response = ask(provider, body).await;
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

/// Names and data of the events of a stream.
async fn events(provider: &Provider, body: &Value) -> Vec<(String, Value)> {
    let text = ask(provider, &with(body.clone(), &json!({"stream": true}))).await.text().await.unwrap();
    let event = |event: &str| {
        let (name, data) = event.strip_prefix("event: ")?.split_once("\ndata: ")?;
        Some((name.to_owned(), serde_json::from_str(data).ok()?))
    };
    text.split("\n\n").filter_map(event).collect()
}

/// What a client puts together from a stream's events.
fn assembled(events: &[(String, Value)]) -> Value {
    let mut message = Value::Null;
    for (name, data) in events {
        assert_eq!(data["type"], name.as_str());
        match name.as_str() {
            "message_start" => message = data["message"].clone(),
            "content_block_start" => message["content"].as_array_mut().unwrap().push(data["content_block"].clone()),
            "content_block_delta" => {
                let index = usize::try_from(data["index"].as_u64().unwrap()).unwrap();
                let block = &mut message["content"][index];
                let (field, piece) = match data["delta"]["type"].as_str().unwrap() {
                    "text_delta" => ("text", "text"),
                    "thinking_delta" => ("thinking", "thinking"),
                    "signature_delta" => ("signature", "signature"),
                    "input_json_delta" => ("json", "partial_json"),
                    other => panic!("{other}"),
                };
                let so_far = block[field].as_str().unwrap_or_default().to_owned();
                block[field] = Value::from(so_far + data["delta"][piece].as_str().unwrap());
            }
            "content_block_stop" => {
                let index = usize::try_from(data["index"].as_u64().unwrap()).unwrap();
                let block = message["content"][index].as_object_mut().unwrap();
                if let Some(json) = block.remove("json") {
                    block["input"] = serde_json::from_str(json.as_str().unwrap()).unwrap();
                }
            }
            "message_delta" => {
                message["stop_reason"] = data["delta"]["stop_reason"].clone();
                message["stop_sequence"] = data["delta"]["stop_sequence"].clone();
                message["usage"] = data["usage"].clone();
            }
            "ping" | "message_stop" => {}
            other => panic!("{other}"),
        }
    }
    message
}

#[tokio::test]
async fn an_answer_that_fits_ends_by_itself_and_one_that_does_not_at_the_maximum() {
    let provider = Provider::start().await;
    let response = ask(&provider, &asking("")).await;
    assert!(response.headers()["request-id"].to_str().unwrap().starts_with("req_"));
    assert!(response.headers()["anthropic-ratelimit-requests-reset"].to_str().unwrap().ends_with('Z'));
    let body: Value = response.json().await.unwrap();
    assert_eq!((&body["type"], &body["role"]), (&json!("message"), &json!("assistant")));
    assert_eq!(body["content"][0]["text"].as_str().unwrap().split(' ').count(), 16);
    assert_eq!((&body["stop_reason"], &body["usage"]["input_tokens"]), (&json!("end_turn"), &json!(5)));
    let cut = said(&provider, &with(asking(""), &json!({"max_tokens": 7}))).await;
    assert_eq!((&cut["stop_reason"], &cut["usage"]["output_tokens"]), (&json!("max_tokens"), &json!(7)));
    let stopped = said(&provider, &with(asking(""), &json!({"stop_sequences": ["holds", "zzz"]}))).await;
    assert_eq!((&stopped["stop_reason"], &stopped["stop_sequence"]), (&json!("stop_sequence"), &json!("holds")));
    assert_eq!(stopped["content"][0]["text"], "a low dam");
    let served = provider.simulator.served_as("request-1");
    assert_eq!((served[0].provider.as_str(), served[0].operation.as_str()), ("anthropic", "messages"));
    assert_eq!((served[0].input_tokens, served[0].output_tokens, served[0].charged), (5, 16, true));
}

#[tokio::test]
async fn what_is_streamed_is_what_is_said_at_once() {
    let provider = Provider::start().await;
    let tools = json!({
        "tools": [{"name": "measure", "input_schema": {"type": "object"}}], "tool_choice": {"type": "any"}
    });
    let thinking = json!({"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000});
    for extra in [json!({}), tools, thinking, json!({"stop_sequences": ["dam"]}), json!({"max_tokens": 1})] {
        let body = with(asking("coalesce=1"), &extra);
        let mut plain = said(&provider, &body).await;
        let events = events(&provider, &body).await;
        assert_eq!((events[0].0.as_str(), events[2].0.as_str()), ("message_start", "ping"));
        assert_eq!(events.last().unwrap().0, "message_stop");
        let mut streamed = assembled(&events);
        for message in [&mut plain, &mut streamed] {
            message["id"] = Value::Null;
            for block in message["content"].as_array_mut().unwrap() {
                for secret in ["id", "signature"] {
                    if block.get(secret).is_some() {
                        assert!(block[secret].as_str().unwrap().len() > 10);
                        block[secret] = Value::Null;
                    }
                }
            }
        }
        assert_eq!(plain, streamed);
    }
    assert_eq!(settled(&provider.simulator).await.abandoned, 0);
}

#[tokio::test]
async fn a_marked_prefix_is_written_to_the_cache_and_then_read() {
    let provider = Provider::with(Options { cacheable_tokens: 3, ..Options::default() }).await;
    let body = with(
        asking(""),
        &json!({"system": [{"type": "text", "text": "you watch a river", "cache_control": {"type": "ephemeral"}}]}),
    );
    let usage = async || said(&provider, &body).await["usage"].clone();
    let first = usage().await;
    let numbers = |usage: &Value| {
        ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"].map(|name| usage[name].as_u64())
    };
    assert_eq!(numbers(&first), [Some(5), Some(4), Some(0)]);
    assert_eq!(first["cache_creation"]["ephemeral_5m_input_tokens"], 4);
    assert_eq!(numbers(&usage().await), [Some(5), Some(0), Some(4)]);
    let told = said(&provider, &asking("cached_tokens=2,cache_write_tokens=1")).await;
    assert_eq!(numbers(&told["usage"]), [Some(2), Some(1), Some(2)]);
    let stats = provider.simulator.stats();
    assert_eq!((stats.input_tokens, stats.cached_tokens, stats.cache_write_tokens), (9 + 9 + 5, 4 + 2, 4 + 1));
}

#[tokio::test]
async fn errors_have_its_shape_and_cost_nothing() {
    let provider = Provider::start().await;
    for (status, kind) in [
        (401, "authentication_error"),
        (402, "billing_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (529, "overloaded_error"),
    ] {
        let response = ask(&provider, &asking(&format!("status={status},retry_after=1.5"))).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["retry-after"], "2");
        assert!(!response.headers().contains_key("retry-after-ms"));
        let body: Value = response.json().await.unwrap();
        assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!(kind)));
        assert!(body["request_id"].as_str().unwrap().starts_with("req_"));
    }
    let url = format!("http://{}/v1/messages", provider.simulator.addr());
    let no_key = provider.client.post(&url).header("anthropic-version", "2023-06-01").json(&asking("")).send().await;
    assert_eq!(no_key.unwrap().status(), 401);
    let no_version = provider.client.post(&url).header("x-api-key", "k").json(&asking("")).send().await.unwrap();
    assert_eq!(no_version.status(), 400);
    for (extra, named) in [
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"n": 2}), "n: Extra inputs are not permitted"),
        (json!({"temperature": 1.5}), "temperature"),
        (json!({"messages": [{"role": "system", "content": "x"}]}), "Unexpected role"),
        (json!({"messages": [{"role": "user", "content": ""}]}), "non-empty"),
        (
            json!({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]},
                {"role": "user", "content": "and?"}]}),
            "t1",
        ),
        (json!({"tool_choice": {"type": "any"}}), "tool_choice"),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 5000}}), "budget_tokens"),
    ] {
        let response = ask(&provider, &with(asking(""), &extra)).await;
        assert_eq!(response.status(), 400, "{extra}");
        let message = response.json::<Value>().await.unwrap()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(named), "{message}");
    }
    assert_eq!(provider.simulator.stats().charged_requests, 0);
}

#[tokio::test]
async fn a_stream_fails_in_its_own_way() {
    let provider = Provider::start().await;
    let failed = events(&provider, &asking("error_after=3")).await;
    let (name, data) = failed.last().unwrap();
    assert_eq!((name.as_str(), &data["error"]["type"]), ("error", &json!("overloaded_error")));
    assert_eq!(failed.iter().filter(|(name, _)| name == "content_block_delta").count(), 3);
    let ended = events(&provider, &asking("end_after=3")).await;
    assert_eq!(ended.last().unwrap().0, "content_block_delta");
    assert_eq!(settled(&provider.simulator).await.output_tokens, 6);
}

#[tokio::test]
async fn tokens_are_counted_for_nothing_and_models_are_listed() {
    let provider = Provider::start().await;
    let body = json!({"model": "m", "system": "be brief", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "what is this"},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}]}]});
    let counted = post(&provider, "/v1/messages/count_tokens").json(&body).send().await.unwrap();
    assert_eq!(counted.json::<Value>().await.unwrap(), json!({"input_tokens": 2 + 3 + 85}));
    let url = format!("http://{}/v1/models", provider.simulator.addr());
    let list = provider.client.get(&url).header("x-api-key", "k").header("anthropic-version", "2023-06-01");
    let list: Value = list.send().await.unwrap().json().await.unwrap();
    assert_eq!((&list["data"][0]["type"], &list["has_more"]), (&json!("model"), &json!(false)));
    assert_eq!(provider.simulator.stats().charged_requests, 0);
}
