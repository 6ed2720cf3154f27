//! OpenAI's responses.

use serde_json::{Value, json};

use crate::{Provider, settled, with};

fn asking(simulate: &str) -> Value {
    json!({
        "model": "gpt-4.1", "instructions": "be brief",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "how high is the water"}]}],
        "metadata": {"simulate": simulate}
    })
}

async fn said(provider: &Provider, body: &Value) -> Value {
    let response = provider.post("/v1/responses").json(body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

#[tokio::test]
async fn an_answer_has_its_items_and_its_usage() {
    let provider = Provider::start().await;
    let body = said(&provider, &with(asking("cached_tokens=3"), &json!({"max_output_tokens": 30}))).await;
    assert_eq!((&body["object"], &body["status"]), (&json!("response"), &json!("incomplete")));
    assert_eq!(body["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(body["output"][0]["content"][0]["text"].as_str().unwrap().split(' ').count(), 30);
    assert_eq!(
        body["usage"],
        json!({"input_tokens": 7, "input_tokens_details": {"cached_tokens": 3}, "output_tokens": 30,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 37})
    );
    let reasoned = said(&provider, &with(asking(""), &json!({"reasoning": {"effort": "low"}}))).await;
    assert_eq!((&reasoned["status"], &reasoned["output"][0]["type"]), (&json!("completed"), &json!("reasoning")));
    assert_eq!(reasoned["usage"]["output_tokens_details"]["reasoning_tokens"], 8);
    assert_eq!(reasoned["output"][1]["content"][0]["text"].as_str().unwrap().split(' ').count(), 8);
    assert_eq!(provider.simulator.stats().output_tokens, 30 + 16);
}

#[tokio::test]
async fn events_are_numbered_and_end_with_the_whole_answer() {
    let provider = Provider::start().await;
    let tools = json!({
        "tools": [{"type": "function", "name": "measure", "parameters": {"type": "object"}}], "tool_choice": "required"
    });
    for extra in [json!({}), tools, json!({"reasoning": {"effort": "high"}}), json!({"max_output_tokens": 1})] {
        let body = with(asking("coalesce=1"), &extra);
        let plain = said(&provider, &body).await;
        let text = provider.post("/v1/responses").json(&with(body, &json!({"stream": true}))).send().await.unwrap();
        let text = text.text().await.unwrap();
        let events: Vec<Value> = text
            .split("\n\n")
            .filter(|event| !event.is_empty())
            .map(|event| {
                let (name, data) = event.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
                let data: Value = serde_json::from_str(data).unwrap();
                assert_eq!(data["type"], name);
                data
            })
            .collect();
        let numbers: Vec<u64> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
        let whole = &events.last().unwrap()["response"];
        assert_eq!((&whole["status"], &whole["usage"]), (&plain["status"], &plain["usage"]));
        let deltas: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
        let item = whole["output"].as_array().unwrap().last().unwrap();
        let said = item["arguments"].as_str().unwrap_or_else(|| item["content"][0]["text"].as_str().unwrap());
        assert_eq!(deltas, said);
    }
    assert_eq!(settled(&provider.simulator).await.abandoned, 0);
}
