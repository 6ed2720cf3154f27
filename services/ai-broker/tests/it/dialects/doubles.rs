//! What is translated is what the providers' doubles take, and what they answer adds up in the client's dialect.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use weir_ai_broker::domain::dialects::{anthropic_client, errors, openai_client};
use weir_simulator::{Options, Simulator};

use super::{ENVELOPE, assembled, parsed, target};

async fn post(simulator: &Simulator, path: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let request = Request::post(format!("http://{}{path}", simulator.addr()))
        .header("authorization", "Bearer k")
        .header("x-api-key", "k")
        .header("anthropic-version", "2023-06-01")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let response = client.request(request).await.unwrap();
    let status = response.status().as_u16();
    (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

/// The data of each server-sent event.
fn data(body: &[u8]) -> Vec<Vec<u8>> {
    let text = std::str::from_utf8(body).unwrap();
    assembled::data(text).into_iter().map(|data| data.as_bytes().to_vec()).collect()
}

/// A conversation with all that a chat has.
fn chat(extra: &Value) -> Value {
    let mut body = json!({
        "model": "m", "max_completion_tokens": 5_000, "temperature": 1, "user": "u",
        "tools": [{"type": "function", "function": {"name": "level", "parameters": {"type": "object"}}}],
        "messages": [
            {"role": "system", "content": "You watch rivers."},
            {"role": "user", "content": [{"type": "text", "text": "Is it high?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "level", "arguments": "{}"}},
                {"id": "call_2", "type": "function", "function": {"name": "level", "arguments": "{\"at\":\"north\"}"}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "2 m"},
            {"role": "tool", "tool_call_id": "call_2", "content": ""},
            {"role": "user", "content": "So?"}
        ]
    });
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

fn kinds() -> [Value; 4] {
    [
        json!({}),
        json!({"tool_choice": "required"}),
        json!({"reasoning_effort": "low"}),
        json!({"max_completion_tokens": 3, "stop": ["river"]}),
    ]
}

fn without_ids(mut answer: Value) -> Value {
    answer["id"] = Value::Null;
    let mut forget = |path: &str, fields: &[&str]| {
        for item in answer.pointer_mut(path).and_then(Value::as_array_mut).into_iter().flatten() {
            for field in fields {
                if let Some(value) = item.get_mut(field) {
                    *value = Value::Null;
                }
            }
        }
    };
    forget("/choices/0/message/tool_calls", &["id"]);
    forget("/choices/0/message/thinking_blocks", &["signature"]);
    forget("/content", &["id", "signature"]);
    // Spaces between the tokens of JSON mean nothing.
    for call in answer.pointer_mut("/choices/0/message/tool_calls").and_then(Value::as_array_mut).into_iter().flatten()
    {
        let arguments = &mut call["function"]["arguments"];
        *arguments = serde_json::from_str(arguments.as_str().unwrap()).unwrap();
    }
    answer
}

#[tokio::test]
async fn a_chat_is_answered_by_anthropic() {
    let simulator = Simulator::start(Options::default()).await.unwrap();
    for extra in kinds() {
        let ask = |stream: bool| {
            let mut body = chat(&extra);
            body["stream"] = stream.into();
            openai_client::request(body.to_string().as_bytes(), &target()).unwrap()
        };
        let (status, body) = post(&simulator, "/v1/messages", ask(false)).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let whole = parsed(&openai_client::answer(&body, &ENVELOPE).unwrap());
        assert!(whole["usage"]["completion_tokens"].as_u64().unwrap() >= 3);
        let (_, body) = post(&simulator, "/v1/messages", ask(true)).await;
        let (mut stream, mut out) = (openai_client::Stream::new(&ENVELOPE, true), String::new());
        data(&body).iter().for_each(|event| stream.event(event, &mut out).unwrap());
        assert!(stream.is_done());
        let streamed = assembled::completion(&out);
        assert_eq!(without_ids(streamed.clone())["choices"], without_ids(whole.clone())["choices"]);
        assert_eq!(streamed["usage"], whole["usage"]);
    }
}

#[tokio::test]
async fn a_message_is_answered_by_openai() {
    let simulator = Simulator::start(Options::default()).await.unwrap();
    for extra in kinds() {
        let message = openai_client::request(chat(&extra).to_string().as_bytes(), &target()).unwrap();
        let ask = |stream: bool| {
            let mut body = parsed(&message);
            body["stream"] = stream.into();
            // What this double cannot play.
            body.as_object_mut().unwrap().shift_remove("thinking");
            // As many tokens as are allowed are answered.
            body["max_tokens"] = 20.into();
            anthropic_client::request(body.to_string().as_bytes(), &target()).unwrap()
        };
        let (status, body) = post(&simulator, "/v1/chat/completions", ask(false)).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let whole = parsed(&anthropic_client::answer(&body, &ENVELOPE).unwrap());
        let (_, body) = post(&simulator, "/v1/chat/completions", ask(true)).await;
        let (mut stream, mut out) = (anthropic_client::Stream::new(&ENVELOPE), String::new());
        data(&body).iter().for_each(|event| stream.event(event, &mut out).unwrap());
        assert!(stream.is_done());
        let streamed = without_ids(assembled::message(&out));
        let whole = without_ids(whole);
        for field in ["content", "stop_reason", "usage", "role", "model"] {
            assert_eq!(streamed[field], whole[field], "{field}");
        }
    }
}

#[tokio::test]
async fn errors_are_told_in_the_clients_dialect() {
    let simulator = Simulator::start(Options::default()).await.unwrap();
    for (status, kind, class) in [
        (429, "requests", "rate_limit_error"),
        (401, "invalid_request_error", "authentication_error"),
        (500, "server_error", "api_error"),
    ] {
        let simulate = format!("status={status}");
        let message = json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}],
            "metadata": {"simulate": simulate}});
        let (answered, body) = post(&simulator, "/v1/messages", message.to_string().into_bytes()).await;
        let told: Value = serde_json::from_str(&errors::to_chat(&body)).unwrap();
        assert_eq!((answered, told["error"]["type"].as_str()), (status, Some(kind)));
        let (_, body) = post(&simulator, "/v1/chat/completions", message.to_string().into_bytes()).await;
        let told: Value = serde_json::from_str(&errors::to_messages(&body)).unwrap();
        assert_eq!((told["type"].as_str(), told["error"]["type"].as_str()), (Some("error"), Some(class)));
    }
}
