//! Speech, transcriptions and pictures: reserved, answered and billed in units of their own, whoever ends them.

use serde_json::{Value, json};
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_proto::broker::v1::{InvokeRequest, Operation, StreamInvokeResponse};
use weir_proto::common::v1::ErrorReason;
use weir_proto::usage::v1::{Outcome, UsageEvent};
use weir_rpc::Failure;
use weir_simulator::{Directive, Fault};

use crate::scene::Scene;

pub(crate) const VOICE: &str = "21m00Tcm4TlvDq8ikWAM";
/// Thirteen characters, fifteen bytes.
const TEXT: &str = "Grüße an alle";
const FLAC: &[u8] = include_bytes!("../../../../libs/media/tests/audio/plain.flac");

pub(crate) fn request(operation: Operation, body: &Value) -> InvokeRequest {
    InvokeRequest { operation: operation.into(), body: body.to_string().into(), ..Default::default() }
}

fn speech(model: &str, format: &str) -> InvokeRequest {
    let body = json!({"model": model, "input": TEXT, "voice": VOICE, "response_format": format});
    request(Operation::Speech, &body)
}

fn text_to_speech() -> InvokeRequest {
    let body = json!({"model_id": "eleven_flash_v2_5", "text": TEXT});
    let (voice, query) = (VOICE.to_owned(), "output_format=pcm_24000".to_owned());
    InvokeRequest { voice, query, ..request(Operation::TextToSpeech, &body) }
}

fn transcription(model: &str, file: &[u8], format: &str) -> InvokeRequest {
    let field =
        |name: &str, value: &str| format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    let head = field("model", model)
        + &field("response_format", format)
        + "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.flac\"\r\nContent-Type: audio/flac\r\n\r\n";
    let body = [head.as_bytes(), file, b"\r\n--b--\r\n"].concat();
    let headers = [("content-type".to_owned(), "multipart/form-data; boundary=b".to_owned())].into();
    InvokeRequest { operation: Operation::Transcriptions.into(), body: body.into(), headers, ..Default::default() }
}

fn simulate(scene: &Scene, directive: &str) {
    let simulate: Directive = directive.parse().unwrap();
    scene.provider.add_fault(Fault { api_key: None, simulate, times: None, percent: None });
}

/// The content type, the bytes, and how it ended.
async fn heard(mut parts: tonic::Streaming<StreamInvokeResponse>) -> (String, Vec<u8>, Option<Failure>) {
    let (mut kind, mut sound) = (String::new(), Vec::new());
    loop {
        match parts.message().await {
            Ok(Some(part)) => match part.part.unwrap() {
                Part::Start(start) => kind = start.content_type,
                Part::Chunk(chunk) => sound.extend_from_slice(&chunk),
                Part::Queued(_) | Part::Accounting(_) => {}
            },
            Ok(None) => return (kind, sound, None),
            Err(status) => return (kind, sound, Some(Failure::from(&status))),
        }
    }
}

/// What limits count by unit, reserved and committed.
fn amounts(scene: &Scene, event: &UsageEvent, unit: &str) -> (Option<i64>, Option<i64>) {
    let reserved = scene.siblings.reserved.lock()[&event.event_id].amounts.clone();
    let committed = scene.siblings.committed.lock()[&event.event_id].actuals.clone();
    let of = |all: Vec<weir_proto::common::v1::Amount>| {
        all.into_iter().find(|amount| amount.unit == unit).map(|amount| amount.value)
    };
    (of(reserved), of(committed))
}

fn streamed(model: &str, file: &[u8]) -> InvokeRequest {
    let plain = transcription(model, file, "json");
    let field = b"--b\r\nContent-Disposition: form-data; name=\"stream\"\r\n\r\ntrue\r\n";
    InvokeRequest { body: [&field[..], &plain.body].concat().into(), ..plain }
}

fn drawing(more: &Value) -> InvokeRequest {
    let mut body = json!({
        "model": "gpt-image-1", "prompt": "a weir", "size": "1024x1024", "quality": "low", "stream": true,
    });
    for (field, value) in more.as_object().unwrap() {
        body[field] = value.clone();
    }
    request(Operation::Images, &body)
}

#[tokio::test]
async fn a_streamed_transcription_is_passed_on_and_charged_by_its_last_event() {
    let scene = Scene::new().await;
    simulate(&scene, "seconds=4");
    let (kind, text, failure) = heard(scene.stream_request(streamed("gpt-4o-transcribe", FLAC)).await.unwrap()).await;
    let text = String::from_utf8(text).unwrap();
    assert!(failure.is_none() && kind.starts_with("text/event-stream"), "{kind} {failure:?}");
    assert_eq!(text.matches("transcript.text.delta").count(), 8, "{text}");
    assert!(text.contains("transcript.text.done") && text.ends_with("data: [DONE]\n\n"), "{text}");
    let event = scene.settled().await;
    assert_eq!((event.input_tokens, event.output_tokens, event.estimated), (40, 8, false));
    assert_eq!((event.operation.as_str(), event.cost_nano_usd), ("audio.transcriptions", 40 * 150 + 8 * 600));
}

#[tokio::test]
async fn a_transcription_that_its_model_does_not_stream_is_passed_on_as_it_is() {
    let scene = Scene::new().await;
    let (kind, text, failure) = heard(scene.stream_request(streamed("whisper-1", FLAC)).await.unwrap()).await;
    assert!(failure.is_none() && kind.starts_with("application/json"), "{kind}");
    assert!(serde_json::from_slice::<Value>(&text).unwrap()["text"].is_string());
    let event = scene.settled().await;
    assert_eq!((event.quantities["second"], event.estimated, event.outcome()), (2, false, Outcome::Complete));
}

#[tokio::test]
async fn a_streamed_transcription_that_breaks_off_is_charged_for_what_was_written() {
    for fault in ["cut_after=3", "error_after=3", "end_after=3"] {
        let scene = Scene::new().await;
        simulate(&scene, &format!("seconds=60,{fault}"));
        let (_, _, failure) = heard(scene.stream_request(streamed("gpt-4o-transcribe", FLAC)).await.unwrap()).await;
        assert_eq!(failure.unwrap().reason(), ErrorReason::ProviderFailed, "{fault}");
        let event = scene.settled().await;
        assert!(event.estimated && event.outcome() == Outcome::Broken, "{fault} {event:?}");
        assert!((3..=10).contains(&event.output_tokens), "{fault} {}", event.output_tokens);
    }
}

#[tokio::test]
async fn a_transcription_whose_listener_leaves_is_charged_by_the_providers_count() {
    let scene = Scene::new().await;
    simulate(&scene, "seconds=10,chunk_ms=5");
    let mut parts = scene.stream_request(streamed("gpt-4o-transcribe", FLAC)).await.unwrap();
    while !matches!(parts.message().await.unwrap().unwrap().part, Some(Part::Chunk(_))) {}
    drop(parts);
    let event = scene.settled().await;
    assert_eq!((event.input_tokens, event.output_tokens, event.estimated), (100, 20, false));
}

#[tokio::test]
async fn a_picture_is_shown_while_it_is_made_and_charged_by_its_last_event() {
    for (partial, tokens) in [(0, 272), (2, 472)] {
        let scene = Scene::new().await;
        let asked = drawing(&json!({"partial_images": partial}));
        let (kind, text, failure) = heard(scene.stream_request(asked).await.unwrap()).await;
        let text = String::from_utf8(text).unwrap();
        assert!(failure.is_none() && kind.starts_with("text/event-stream"), "{kind} {failure:?}");
        assert_eq!(text.matches("event: image_generation.partial_image").count(), partial);
        assert_eq!(text.matches("event: image_generation.completed").count(), 1);
        let event = scene.settled().await;
        assert_eq!((event.input_tokens, event.output_tokens, event.estimated), (2, tokens, false));
        assert_eq!(amounts(&scene, &event, "output_token"), (Some(tokens), Some(tokens)));
        assert_eq!(amounts(&scene, &event, "image"), (Some(1), Some(1)));
    }
}

#[tokio::test]
async fn a_picture_that_breaks_off_is_charged_as_reserved() {
    let scene = Scene::new().await;
    simulate(&scene, "cut_after=1");
    let (_, _, failure) = heard(scene.stream_request(drawing(&json!({"partial_images": 3}))).await.unwrap()).await;
    assert_eq!(failure.unwrap().reason(), ErrorReason::ProviderFailed);
    let event = scene.settled().await;
    assert_eq!((event.output_tokens, event.estimated, event.outcome()), (572, true, Outcome::Broken));
}

#[tokio::test]
async fn pictures_that_can_not_be_streamed_are_refused_by_name() {
    let scene = Scene::new().await;
    let refused = scene.stream_request(drawing(&json!({"n": 2}))).await.map(drop).unwrap_err();
    assert_eq!(refused.fields()[0].subject, "n");
    let refused = scene.stream_request(drawing(&json!({"model": "fal-ai/flux/dev"}))).await.map(drop).unwrap_err();
    assert_eq!(refused.fields()[0].subject, "stream");
    assert!(scene.siblings.reserved.lock().is_empty());
}

#[tokio::test]
async fn speech_is_passed_on_and_charged_by_its_characters() {
    for (asked, cost, operation) in [
        (speech("tts-1", "pcm"), 13 * 15_000, "audio.speech"),
        (speech("eleven_flash_v2_5", "pcm"), 13 * 50_000, "text-to-speech"),
        (text_to_speech(), 13 * 50_000, "text-to-speech"),
    ] {
        let scene = Scene::new().await;
        let (kind, sound, failure) = heard(scene.stream_request(asked).await.unwrap()).await;
        assert!(failure.is_none() && kind.starts_with("audio/") && sound.len() > 1_000, "{kind}: {}", sound.len());
        let event = scene.settled().await;
        assert_eq!((event.quantities["character"], event.cost_nano_usd), (13, cost));
        assert_eq!((event.operation.as_str(), event.input_tokens, event.estimated), ("audio.speech", 0, false));
        assert_eq!(amounts(&scene, &event, "character"), (Some(13), Some(13)));
        let served = &scene.provider.served_as(&event.event_id)[0];
        assert_eq!((served.operation.as_str(), served.characters), (operation, 13));
    }
}

#[tokio::test]
async fn speech_that_nobody_hears_out_is_charged_once() {
    let scene = Scene::new().await;
    simulate(&scene, "chunk_ms=20");
    let mut parts = scene.stream_request(speech("tts-1", "pcm")).await.unwrap();
    while !matches!(parts.message().await.unwrap().unwrap().part, Some(Part::Chunk(_))) {}
    drop(parts);
    let event = scene.settled().await;
    assert_eq!((event.quantities["character"], event.cost_nano_usd, event.estimated), (13, 13 * 15_000, false));
    assert_eq!(scene.ends().await, (1, 1, 0));
}

#[tokio::test]
async fn speech_that_breaks_off_is_charged_and_told() {
    let scene = Scene::new().await;
    simulate(&scene, "cut_after=1");
    let (_, _, failure) = heard(scene.stream_request(speech("tts-1", "pcm")).await.unwrap()).await;
    assert_eq!(failure.unwrap().reason(), ErrorReason::ProviderFailed);
    let event = scene.settled().await;
    assert_eq!((event.quantities["character"], event.outcome()), (13, Outcome::Broken));
}

#[tokio::test]
async fn speech_that_is_refused_is_charged_nothing() {
    let scene = Scene::new().await;
    simulate(&scene, "status=400");
    let failure = scene.stream_request(speech("tts-1", "pcm")).await.map(drop).unwrap_err();
    assert_eq!(failure.provider_error().unwrap().http_status, 400);
    assert_eq!(scene.ends().await, (1, 0, 1));
}

#[tokio::test]
async fn a_transcription_is_reserved_by_its_files_length_and_charged_by_the_providers() {
    let length = weir_media::audio_duration(FLAC).unwrap();
    let seconds = i64::try_from(length.as_secs()).unwrap() + i64::from(length.subsec_nanos() > 0);
    for format in ["json", "text", "verbose_json", "srt"] {
        let scene = Scene::new().await;
        let answer = scene.invoke_request(transcription("whisper-1", FLAC, format)).await.unwrap();
        assert_eq!(answer.content_type.starts_with("application/json"), format.ends_with("json"), "{format}");
        let event = scene.settled().await;
        assert_eq!((event.quantities["second"], event.cost_nano_usd), (seconds, seconds * 100_000), "{format}");
        assert_eq!(amounts(&scene, &event, "second"), (Some(seconds), Some(seconds)));
        assert!(!event.estimated && answer.accounting.unwrap().cost_nano_usd == event.cost_nano_usd);
    }
    let scene = Scene::new().await;
    simulate(&scene, "seconds=7");
    scene.invoke_request(transcription("whisper-1", FLAC, "json")).await.unwrap();
    assert_eq!(scene.settled().await.quantities["second"], 7, "the provider's own count");
}

#[tokio::test]
async fn a_transcription_whose_client_leaves_or_whose_provider_breaks_off_is_charged_once() {
    let scene = Scene::new().await;
    simulate(&scene, "latency_ms=300");
    let leaving = scene.invoke_request(transcription("whisper-1", FLAC, "json"));
    assert!(tokio::time::timeout(std::time::Duration::from_millis(100), leaving).await.is_err());
    let event = scene.settled().await;
    assert_eq!((event.outcome(), event.quantities.contains_key("second")), (Outcome::Cancelled, true));

    let scene = Scene::new().await;
    simulate(&scene, "reset=after");
    let failure = scene.invoke_request(transcription("whisper-1", FLAC, "json")).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::ProviderFailed);
    let event = scene.settled().await;
    assert!(event.estimated && event.quantities.contains_key("second") && event.outcome() == Outcome::Broken);
}

#[tokio::test]
async fn pictures_are_charged_by_size_and_quality_and_counted_alike() {
    let scene = Scene::new().await;
    let body = json!({"model": "dall-e-3", "prompt": "a weir", "size": "1024x1024", "quality": "hd"});
    let answer = scene.invoke_request(request(Operation::Images, &body)).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer["data"].as_array().unwrap().len(), 1);
    let event = scene.settled().await;
    assert_eq!((event.quantities["image_1024x1024_hd"], event.cost_nano_usd), (1, 80_000_000));
    assert_eq!(amounts(&scene, &event, "image"), (Some(1), Some(1)));
    let scene = Scene::new().await;
    let body = json!({"model": "dall-e-3", "prompt": "a weir", "size": "1792x1024", "quality": "standard"});
    scene.invoke_request(request(Operation::Images, &body)).await.unwrap();
    assert_eq!(scene.settled().await.cost_nano_usd, 40_000_000);
}

/// A form with a picture and a mask, and these fields.
fn edit(model: &str, fields: &[(&str, &str)]) -> InvokeRequest {
    let field = |(name, value): &(&str, &str)| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let file = |name: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a.png\"\r\n\r\npng\r\n")
    };
    let fixed = [("model", model), ("prompt", "a weir"), ("size", "1024x1024")];
    let body =
        fixed.iter().chain(fields).map(field).collect::<String>() + &file("image[]") + &file("mask") + "--b--\r\n";
    let headers = [("content-type".to_owned(), "multipart/form-data; boundary=b".to_owned())].into();
    InvokeRequest { operation: Operation::ImageEdits.into(), body: body.into(), headers, ..Default::default() }
}

#[tokio::test]
async fn an_edit_is_charged_by_what_it_was_given_and_what_it_made() {
    let scene = Scene::new().await;
    let answer = scene.invoke_request(edit("gpt-image-1", &[("quality", "low"), ("n", "2")])).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer["data"].as_array().unwrap().len(), 2);
    let event = scene.settled().await;
    // Two words and two pictures of 85 tokens, which cost twice what words cost.
    assert_eq!((event.input_tokens, event.output_tokens, event.estimated), (172, 2 * 272, false));
    assert_eq!((event.quantities["image_input_token"], event.operation.as_str()), (170, "images.edits"));
    assert_eq!(event.cost_nano_usd, 2 * 150 + 170 * 300 + 2 * 272 * 600);
    assert_eq!(amounts(&scene, &event, "image"), (Some(2), Some(2)));
    assert_eq!(amounts(&scene, &event, "image_request"), (Some(1), Some(1)));
    let (reserved, used) = amounts(&scene, &event, "nano_usd");
    assert!(reserved >= used, "{reserved:?} {used:?}");
    let served = &scene.provider.served_as(&event.event_id)[0];
    assert_eq!((served.operation.as_str(), served.images), ("images.edits", 2));
    let scene = Scene::new().await;
    scene.invoke_request(edit("dall-e-3", &[("quality", "hd")])).await.unwrap();
    assert_eq!(scene.settled().await.cost_nano_usd, 80_000_000);
}

#[tokio::test]
async fn a_streamed_edit_is_charged_by_its_last_event_and_a_broken_one_as_reserved() {
    let streamed = || edit("gpt-image-1", &[("quality", "low"), ("stream", "true"), ("partial_images", "1")]);
    let scene = Scene::new().await;
    let (kind, text, failure) = heard(scene.stream_request(streamed()).await.unwrap()).await;
    let text = String::from_utf8(text).unwrap();
    assert!(failure.is_none() && kind.starts_with("text/event-stream"), "{kind} {failure:?}");
    let events =
        ["partial_image", "completed"].map(|name| text.matches(&format!("event: image_edit.{name}\n")).count());
    assert_eq!(events, [1, 1], "{text}");
    let event = scene.settled().await;
    assert_eq!((event.input_tokens, event.output_tokens, event.estimated), (172, 372, false));
    let scene = Scene::new().await;
    simulate(&scene, "cut_after=1");
    let (_, _, failure) = heard(scene.stream_request(streamed()).await.unwrap()).await;
    assert_eq!(failure.unwrap().reason(), ErrorReason::ProviderFailed);
    let event = scene.settled().await;
    assert_eq!((event.output_tokens, event.estimated, event.outcome()), (372, true, Outcome::Broken));
}

#[tokio::test]
async fn pictures_that_cant_be_read_are_charged_and_refused_ones_are_not() {
    let body = json!({"model": "dall-e-3", "prompt": "a weir", "size": "1024x1024", "quality": "hd"});
    let scene = Scene::new().await;
    simulate(&scene, "body=malformed");
    scene.invoke_request(request(Operation::Images, &body)).await.unwrap_err();
    let event = scene.settled().await;
    assert!(event.estimated && event.cost_nano_usd == 80_000_000 && event.outcome() == Outcome::Broken);
    let scene = Scene::new().await;
    simulate(&scene, "status=400");
    scene.invoke_request(request(Operation::Images, &body)).await.unwrap_err();
    assert_eq!(scene.ends().await, (1, 0, 1));
}

#[tokio::test]
async fn what_cant_be_counted_or_has_no_such_api_is_refused_before_anything_is_reserved() {
    let scene = Scene::new().await;
    for (asked, field) in [
        (transcription("whisper-1", b"no sound", "json"), "file"),
        (transcription("sim-claude", FLAC, "json"), "model"),
        (request(Operation::Images, &json!({"model": "sim-claude", "prompt": "x"})), "model"),
        (request(Operation::Images, &json!({"model": "whisper-1", "prompt": "x"})), "model"),
        (edit("sim-claude", &[]), "model"),
        (edit("fal-ai/flux/dev", &[]), "model"),
        (edit("gpt-image-1", &[("n", "11")]), "size"),
    ] {
        let failure = scene.invoke_request(asked).await.unwrap_err();
        assert_eq!((failure.reason(), failure.fields()[0].subject.as_str()), (ErrorReason::InvalidArgument, field));
    }
    for (asked, field) in [
        (speech("sim-small", "pcm"), "model"),
        (speech("eleven_flash_v2_5", "flac"), "response_format"),
        (InvokeRequest { voice: "../../v1/user".into(), ..text_to_speech() }, "voice"),
        (InvokeRequest { query: "a=b/../c".into(), ..text_to_speech() }, "query"),
    ] {
        let failure = scene.stream_request(asked).await.map(drop).unwrap_err();
        assert_eq!((failure.reason(), failure.fields()[0].subject.as_str()), (ErrorReason::InvalidArgument, field));
    }
    assert!(scene.siblings.reserved.lock().is_empty());
}
