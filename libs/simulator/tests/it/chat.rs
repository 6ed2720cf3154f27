//! Chat completions, plain and streamed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_simulator::{Options, Sums};

use crate::{Provider, asking, settled, with};

fn content(events: &[Value], choice: u64) -> String {
    let choices = events.iter().filter_map(|event| event["choices"].get(0)).filter(|one| one["index"] == choice);
    choices.filter_map(|one| one["delta"]["content"].as_str()).collect()
}

#[tokio::test]
async fn a_plain_answer_has_exactly_the_tokens_that_were_asked_for() {
    let provider = Provider::start().await;
    let response = provider.chat(&with(asking(""), &json!({"max_completion_tokens": 44}))).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert!(response.headers()["x-request-id"].to_str().unwrap().starts_with("req_"));
    assert_eq!(response.headers()["x-ratelimit-limit-requests"], "10000");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], "gpt-4o-mini");
    assert_eq!(body["choices"][0]["message"]["content"].as_str().unwrap().split(' ').count(), 44);
    assert_eq!(body["choices"][0]["finish_reason"], "length");
    assert_eq!(body["usage"]["prompt_tokens"], 5);
    assert_eq!(body["usage"]["completion_tokens"], 44);
    assert_eq!(body["usage"]["total_tokens"], 49);

    let served = provider.simulator.served_as("request-1");
    assert_eq!(served.len(), 1);
    assert_eq!((served[0].input_tokens, served[0].output_tokens, served[0].status), (5, 44, 200));
    assert!(served[0].charged && served[0].finished && !served[0].streamed);
}

#[tokio::test]
async fn a_stream_sends_one_token_per_chunk_and_then_usage_when_asked() {
    let provider = Provider::start().await;
    let fields = json!({"max_tokens": 20, "stream": true, "stream_options": {"include_usage": true}});
    let (events, done) = provider.events(&with(asking(""), &fields)).await;
    assert!(done);
    assert_eq!(events.len(), 1 + 20 + 1 + 1);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert!(events[..22].iter().all(|event| event["usage"].is_null() && event["object"] == "chat.completion.chunk"));
    assert_eq!(events[21]["choices"][0]["finish_reason"], "length");
    assert_eq!(events[22]["choices"], json!([]));
    assert_eq!(events[22]["usage"]["completion_tokens"], 20);
    assert_eq!(content(&events, 0).split(' ').count(), 20);

    let (events, done) = provider.events(&with(asking(""), &json!({"max_tokens": 20, "stream": true}))).await;
    assert!(done);
    assert_eq!(events.len(), 22);
    assert!(events.iter().all(|event| event.get("usage").is_none()));

    let stats = settled(&provider.simulator).await;
    assert_eq!((stats.streamed_requests, stats.input_tokens, stats.output_tokens, stats.abandoned), (2, 10, 40, 0));
    assert_eq!(stats.models["gpt-4o-mini"], Sums { requests: 2, input_tokens: 10, output_tokens: 40 });
}

#[tokio::test]
async fn plain_and_streamed_answers_say_the_same_for_each_choice() {
    let provider = Provider::start().await;
    for tokens in [1, 2, 17, 50] {
        let fields = json!({"max_tokens": tokens, "n": 2});
        let plain: Value = provider.chat(&with(asking(""), &fields)).await.json().await.unwrap();
        let (events, _) = provider.events(&with(with(asking("coalesce=1"), &fields), &json!({"stream": true}))).await;
        assert_eq!(plain["usage"]["completion_tokens"], 2 * tokens);
        for choice in 0..2 {
            let said =
                plain["choices"][usize::try_from(choice).unwrap()]["message"]["content"].as_str().unwrap().to_owned();
            assert_eq!(content(&events, choice), said);
        }
    }
}

#[tokio::test]
async fn a_demanded_tool_is_called_with_arguments_that_are_json() {
    let provider = Provider::start().await;
    let tools = json!({
        "max_tokens": 5, "tool_choice": "required",
        "tools": [{"type": "function", "function": {"name": "measure", "parameters": {"type": "object"}}}]
    });
    let plain: Value = provider.chat(&with(asking(""), &tools)).await.json().await.unwrap();
    let choice = &plain["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert!(choice["message"]["content"].is_null());
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!(call["function"]["name"], "measure");
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments["text"].as_str().unwrap().split(' ').count(), 5);

    let (events, _) = provider.events(&with(with(asking(""), &tools), &json!({"stream": true}))).await;
    let first = &events[0]["choices"][0]["delta"]["tool_calls"][0];
    assert_eq!(first["function"]["name"], "measure");
    let pieces = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str());
    assert_eq!(serde_json::from_str::<Value>(&pieces.collect::<String>()).unwrap(), arguments);
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn without_a_maximum_the_default_is_answered_and_a_directive_goes_before_both() {
    let provider = Provider::start().await;
    let tokens = async |body: &Value| {
        provider.chat(body).await.json::<Value>().await.unwrap()["usage"]["completion_tokens"].clone()
    };
    assert_eq!(tokens(&asking("")).await, 16);
    assert_eq!(tokens(&asking("output_tokens=3")).await, 3);
    assert_eq!(tokens(&with(asking("output_tokens=9"), &json!({"max_tokens": 4}))).await, 9);
    let cached: Value = provider.chat(&asking("cached_tokens=2")).await.json().await.unwrap();
    assert_eq!(cached["usage"]["prompt_tokens_details"]["cached_tokens"], 2);
    let silent: Value = provider.chat(&asking("usage=none")).await.json().await.unwrap();
    assert!(silent.get("usage").is_none());
}

#[tokio::test]
async fn latency_lies_before_the_first_byte_and_between_tokens() {
    let latency = Duration::from_millis(60);
    let provider = Provider::with(Options { latency, ..Options::default() }).await;
    let start = Instant::now();
    provider.chat(&asking("")).await;
    assert!(start.elapsed() >= latency);

    let start = Instant::now();
    let mut response =
        provider.chat(&with(asking("latency_ms=0,chunk_ms=5,output_tokens=21"), &json!({"stream": true}))).await;
    assert!(response.chunk().await.unwrap().is_some());
    let first = start.elapsed();
    while response.chunk().await.unwrap().is_some() {}
    assert!(first < Duration::from_millis(60), "{first:?}");
    let whole = start.elapsed();
    assert!(whole >= Duration::from_millis(100) && whole < Duration::from_millis(400), "{whole:?}");
}

#[tokio::test]
async fn a_stream_that_the_client_leaves_counts_the_tokens_sent_so_far() {
    let provider = Provider::start().await;
    let mut response = provider.chat(&with(asking("chunk_ms=2,output_tokens=10000"), &json!({"stream": true}))).await;
    for _ in 0..10 {
        response.chunk().await.unwrap().unwrap();
    }
    let under_way = provider.simulator.served_as("request-1");
    assert!(under_way[0].output_tokens >= 8 && !under_way[0].finished, "{under_way:?}");
    drop(response);
    let stats = settled(&provider.simulator).await;
    assert_eq!((stats.in_flight, stats.abandoned, stats.charged_requests), (0, 1, 1));
    assert!(stats.output_tokens >= 8 && stats.output_tokens < 5_000, "{stats:?}");
    assert_eq!(stats.output_tokens, stats.models["gpt-4o-mini"].output_tokens);
}
