//! OpenAI's audio and images.

use serde_json::{Value, json};

use crate::{Provider, settled};

/// A form with a file, written out.
fn form(fields: &[(&str, &str)], file: &[u8]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, value) in fields {
        let part = format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    body.extend_from_slice(b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n");
    body.extend_from_slice(file);
    body.extend_from_slice(b"\r\n--b--\r\n");
    ("multipart/form-data; boundary=b".to_owned(), body)
}

async fn transcribe(provider: &Provider, fields: &[(&str, &str)], file: &[u8]) -> reqwest::Response {
    let (kind, body) = form(fields, file);
    provider.post("/v1/audio/transcriptions").header("content-type", kind).body(body).send().await.unwrap()
}

async fn speak(provider: &Provider, format: &str) -> Vec<u8> {
    let body = json!({"model": "gpt-4o-mini-tts", "voice": "alloy", "response_format": format,
        "input": "one two three four five six seven eight nine ten"});
    let response = provider.post("/v1/audio/speech").json(&body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.bytes().await.unwrap().to_vec()
}

#[tokio::test]
async fn speech_lasts_as_long_as_its_words_and_is_charged_by_characters() {
    let provider = Provider::start().await;
    for format in ["mp3", "wav"] {
        let file = speak(&provider, format).await;
        let heard = transcribe(&provider, &[("model", "whisper-1"), ("response_format", "verbose_json")], &file).await;
        let heard: Value = heard.json().await.unwrap();
        let seconds = heard["duration"].as_f64().unwrap();
        assert!((seconds - 4.0).abs() < 0.15, "{format}: {seconds}");
        assert_eq!(heard["usage"], json!({"type": "duration", "seconds": 4}));
    }
    let stats = settled(&provider.simulator).await;
    assert_eq!(stats.characters, 2 * 48);
    assert!(stats.audio_ms > 7_800 && stats.audio_ms < 8_200, "{}", stats.audio_ms);
}

#[tokio::test]
async fn a_transcription_comes_in_every_format() {
    let provider = Provider::start().await;
    let file = speak(&provider, "wav").await;
    for (format, begins) in [("text", "a low"), ("srt", "1\n00:00:00,000 --> 00:00:04,000\n"), ("vtt", "WEBVTT\n")] {
        let answer = transcribe(&provider, &[("model", "whisper-1"), ("response_format", format)], &file).await;
        let text = answer.text().await.unwrap();
        assert!(text.starts_with(begins), "{text}");
    }
    let json: Value = transcribe(&provider, &[("model", "gpt-4o-transcribe")], &file).await.json().await.unwrap();
    assert_eq!(json["usage"]["type"], "tokens");
    assert_eq!(json["usage"]["input_token_details"]["audio_tokens"], 40);
    let streamed = transcribe(&provider, &[("model", "gpt-4o-transcribe"), ("stream", "true")], &file).await;
    let (events, done) = crate::events_of(&streamed.text().await.unwrap());
    let text: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert!(done && text == json["text"].as_str().unwrap());
    assert_eq!(events.last().unwrap()["usage"], json["usage"]);
}

#[tokio::test]
async fn what_is_no_audio_is_refused_and_costs_nothing() {
    let provider = Provider::start().await;
    assert_eq!(transcribe(&provider, &[("model", "whisper-1")], b"not audio").await.status(), 400);
    assert_eq!(transcribe(&provider, &[], b"RIFF").await.status(), 400);
    let whole = provider.post("/v1/audio/transcriptions").json(&json!({"model": "whisper-1"})).send().await.unwrap();
    assert_eq!(whole.status(), 400);
    let stats = settled(&provider.simulator).await;
    assert_eq!((stats.charged_requests, stats.audio_ms), (0, 0));
    let told = provider.post("/v1/audio/transcriptions").header("x-simulate", "seconds=61");
    let (kind, body) = form(&[("model", "whisper-1")], b"not audio");
    let told: Value = told.header("content-type", kind).body(body).send().await.unwrap().json().await.unwrap();
    assert_eq!(told["usage"]["seconds"], 61);
}

#[tokio::test]
async fn speech_is_cut_where_the_directive_says() {
    let provider = Provider::start().await;
    let body = json!({"model": "tts-1", "voice": "alloy", "input": "one two three four"});
    let request = provider.post("/v1/audio/speech").header("x-simulate", "cut_after=2");
    let mut response = request.json(&body).send().await.unwrap();
    let mut bytes = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes += chunk.len();
    }
    assert_eq!(bytes, 2 * 15 * 417);
    assert_eq!(settled(&provider.simulator).await.abandoned, 1);
}

#[tokio::test]
async fn pictures_come_as_base64_or_as_urls_that_lead_to_them() {
    let provider = Provider::start().await;
    let draw = async |body: Value| -> Value {
        provider.post("/v1/images/generations").json(&body).send().await.unwrap().json().await.unwrap()
    };
    let gpt =
        draw(json!({"model": "gpt-image-1", "prompt": "a gold ring", "n": 2, "size": "1024x1536", "quality": "low"}))
            .await;
    assert_eq!(gpt["usage"]["output_tokens"], 2 * 408);
    assert_eq!(gpt["usage"]["input_tokens"], 3);
    assert!(gpt["data"][1]["b64_json"].as_str().unwrap().starts_with("iVBORw0KGgo"));
    let dalle = draw(json!({"model": "dall-e-3", "prompt": "a gold ring", "quality": "hd", "size": "256x128"})).await;
    let url = dalle["data"][0]["url"].as_str().unwrap();
    let picture = provider.client.get(url).send().await.unwrap();
    assert_eq!(picture.headers()["content-type"], "image/png");
    let bytes = picture.bytes().await.unwrap();
    assert_eq!((&bytes[..4], &bytes[16..24]), (&b"\x89PNG"[..], &[0, 0, 1, 0, 0, 0, 0, 128][..]));
    for (wrong, param) in [
        (json!({"model": "dall-e-3", "prompt": "x", "n": 2}), "n"),
        (json!({"model": "gpt-image-1", "prompt": "x", "quality": "hd"}), "quality"),
        (json!({"model": "gpt-image-1", "prompt": "x", "response_format": "url"}), "response_format"),
        (json!({"model": "gpt-image-1"}), "prompt"),
    ] {
        assert_eq!(draw(wrong).await["error"]["param"], param);
    }
    assert_eq!(settled(&provider.simulator).await.images, 3);
}
