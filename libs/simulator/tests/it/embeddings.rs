//! Embeddings and models.

use serde_json::{Value, json};
use weir_simulator::Options;

use crate::Provider;

async fn embed(provider: &Provider, body: &Value) -> Value {
    let response = provider.post("/v1/embeddings").json(body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

#[tokio::test]
async fn every_input_gets_a_unit_vector_and_tokens_are_words() {
    let provider = Provider::start().await;
    let body =
        embed(&provider, &json!({"model": "text-embedding-3-small", "input": ["two words", "and three more"]})).await;
    assert_eq!(body["usage"], json!({"prompt_tokens": 5, "total_tokens": 5}));
    for index in 0..2 {
        assert_eq!(body["data"][index]["index"], index);
        let vector: Vec<f64> = serde_json::from_value(body["data"][index]["embedding"].clone()).unwrap();
        assert_eq!(vector.len(), 1536);
        let length: f64 = vector.iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-3, "{length}");
    }
    let stats = provider.simulator.stats();
    assert_eq!((stats.charged_requests, stats.input_tokens, stats.output_tokens), (1, 5, 0));
}

#[tokio::test]
async fn base64_holds_the_same_little_endian_floats() {
    use base64_bytes as decode;
    let provider = Provider::start().await;
    let ask = |format: &str| json!({"model": "m", "input": "x", "dimensions": 8, "encoding_format": format});
    let floats: Vec<f32> =
        serde_json::from_value(embed(&provider, &ask("float")).await["data"][0]["embedding"].clone()).unwrap();
    let packed = embed(&provider, &ask("base64")).await["data"][0]["embedding"].as_str().unwrap().to_owned();
    let unpacked: Vec<f32> =
        decode(&packed).chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
    assert_eq!(floats, unpacked);
    assert_eq!(floats.len(), 8);
}

/// RFC 4648, written out so that the test does not lean on the code's own library.
fn base64_bytes(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut held, mut out) = (0u32, 0, Vec::new());
    for byte in text.bytes().filter(|&byte| byte != b'=') {
        bits = (bits << 6) | u32::try_from(ALPHABET.iter().position(|&letter| letter == byte).unwrap()).unwrap();
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 255).unwrap());
        }
    }
    out
}

#[tokio::test]
async fn tokens_are_accepted_instead_of_texts() {
    let provider = Provider::start().await;
    let tokens = async |input: Value| {
        embed(&provider, &json!({"model": "m", "input": input})).await["usage"]["total_tokens"].clone()
    };
    assert_eq!(tokens(json!([1, 2, 3])).await, 3);
    assert_eq!(tokens(json!([[1, 2], [3]])).await, 3);
    for wrong in [json!([]), json!(""), json!({}), json!([[]])] {
        let response =
            provider.post("/v1/embeddings").json(&json!({"model": "m", "input": wrong})).send().await.unwrap();
        assert_eq!(response.status(), 400, "{wrong}");
    }
}

#[tokio::test]
async fn models_are_listed_and_found() {
    let provider = Provider::with(Options { models: vec!["only-this".to_owned()], ..Options::default() }).await;
    let list: Value = provider.get("/v1/models").send().await.unwrap().json().await.unwrap();
    assert_eq!(list["data"][0]["id"], "only-this");
    let one: Value = provider.get("/v1/models/only-this").send().await.unwrap().json().await.unwrap();
    assert_eq!(one["object"], "model");
    assert_eq!(provider.get("/v1/models/another").send().await.unwrap().status(), 404);
    let asked = provider.chat(&json!({"model": "another", "messages": [{"role": "user", "content": "x"}]})).await;
    assert_eq!(asked.status(), 404);
    assert_eq!(asked.json::<Value>().await.unwrap()["error"]["code"], "model_not_found");
}
