//! Sounds and files: what goes to the broker, and what comes back.

use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::json;
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_proto::broker::v1::{
    InvokeRequest, InvokeResponse, Operation, QueueStanding, StreamInvokeRequest, StreamInvokeResponse, StreamStart,
};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;

use crate::answers::openai_error;
use crate::fixtures::{INVOKE, STREAM};
use crate::scene::{KEY, Scene};

fn part(part: Part) -> Result<StreamInvokeResponse, Error> {
    Ok(StreamInvokeResponse { part: Some(part) })
}

fn start() -> Result<StreamInvokeResponse, Error> {
    part(Part::Start(StreamStart { content_type: "audio/mpeg".into(), ..Default::default() }))
}

#[tokio::test]
async fn speech_is_nothing_but_its_bytes_even_if_it_had_to_wait() {
    let scene = Scene::new().await;
    scene.siblings.stream(STREAM, || {
        let waits = part(Part::Queued(QueueStanding { position: 3, eta: None }));
        let sound = [Bytes::from_static(b"ID3\0\xff"), Bytes::from_static(b"\n\ndata: ")];
        futures::stream::iter([waits, start()])
            .chain(futures::stream::iter(sound.map(|b| part(Part::Chunk(b)))))
            .boxed()
    });
    let voice = "21m00Tcm4TlvDq8ikWAM";
    for (path, operation, query) in [
        ("/v1/audio/speech".to_owned(), Operation::Speech, ""),
        (
            format!("/v1/text-to-speech/{voice}?output_format=pcm_24000"),
            Operation::TextToSpeech,
            "output_format=pcm_24000",
        ),
        (format!("/v1/text-to-speech/{voice}/stream"), Operation::TextToSpeech, ""),
    ] {
        let request = scene.request("POST", &path).header("xi-api-key", KEY).json(&json!({"text": "hi"}));
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "audio/mpeg");
        assert_eq!(&response.bytes().await.unwrap()[..], b"ID3\0\xff\n\ndata: ", "{path}");
        let asked = scene.siblings.last::<StreamInvokeRequest>(STREAM).0.request.unwrap();
        assert_eq!((asked.operation(), asked.query.as_str()), (operation, query));
        assert_eq!(asked.voice, if operation == Operation::TextToSpeech { voice } else { "" });
    }
}

#[tokio::test]
async fn speech_that_breaks_off_is_not_taken_for_the_whole() {
    let scene = Scene::new().await;
    let (go_on, wait) = tokio::sync::watch::channel(false);
    scene.siblings.stream(STREAM, move || {
        let mut wait = wait.clone();
        let broken = async move {
            wait.wait_for(|go_on| *go_on).await.unwrap();
            Err(Error::new(ErrorReason::ProviderFailed, "it broke off"))
        };
        let begun = futures::stream::iter([start(), part(Part::Chunk(Bytes::from_static(b"ID3")))]);
        begun.chain(futures::stream::once(broken)).boxed()
    });
    let mut response = scene.post("/v1/audio/speech", &json!({})).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.chunk().await.unwrap()), (200, Some(Bytes::from_static(b"ID3"))));
    go_on.send(true).unwrap();
    assert!(response.bytes().await.is_err());
    scene.siblings.stream(STREAM, || {
        futures::stream::iter([Err::<StreamInvokeResponse, _>(Error::new(ErrorReason::QuotaExceeded, "no"))]).boxed()
    });
    let response = scene.post("/v1/audio/speech", &json!({})).send().await.unwrap();
    assert_eq!(openai_error(response).await.0, 429);
}

#[tokio::test]
async fn a_form_and_a_picture_are_streamed_where_they_ask_for_it() {
    let scene = Scene::new().await;
    scene.siblings.answer(INVOKE, InvokeResponse { body: Bytes::from_static(b"{}"), ..InvokeResponse::default() });
    scene.siblings.stream(STREAM, || {
        let start = StreamStart { content_type: "text/event-stream".into(), ..Default::default() };
        let event = Bytes::from_static(b"data: {\"type\":\"transcript.text.delta\"}\n\n");
        futures::stream::iter([part(Part::Start(start)), part(Part::Chunk(event))]).boxed()
    });
    let form_at = |path: &str, stream: &str| {
        let body = format!("--b\r\nContent-Disposition: form-data; name=\"stream\"\r\n\r\n{stream}\r\n--b--\r\n");
        let request = scene.request("POST", path).bearer_auth(KEY);
        request.header("content-type", "multipart/form-data; boundary=b").body(body)
    };
    let form = |stream: &str| form_at("/v1/audio/transcriptions", stream);
    let edit = |stream: &str| form_at("/v1/images/edits", stream);
    let drawing = |stream: bool| scene.post("/v1/images/generations", &json!({"stream": stream}));
    for (request, operation) in [
        (form("true"), Operation::Transcriptions),
        (drawing(true), Operation::Images),
        (edit("true"), Operation::ImageEdits),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert!(response.text().await.unwrap().contains("transcript.text.delta"));
        let asked = scene.siblings.last::<StreamInvokeRequest>(STREAM).0.request.unwrap();
        assert_eq!(asked.operation(), operation);
    }
    for (request, operation) in [
        (form("false"), Operation::Transcriptions),
        (drawing(false), Operation::Images),
        (edit("false"), Operation::ImageEdits),
    ] {
        assert_eq!(request.send().await.unwrap().text().await.unwrap(), "{}");
        assert_eq!(scene.siblings.last::<InvokeRequest>(INVOKE).0.operation(), operation);
    }
    assert_eq!((scene.siblings.count(STREAM), scene.siblings.count(INVOKE)), (3, 3));
}

#[tokio::test]
async fn a_file_goes_to_the_broker_as_it_came_within_a_bound_of_its_own() {
    let scene = Scene::with("max_body_bytes = 1024\nmax_upload_bytes = 8192").await;
    scene.siblings.answer(INVOKE, InvokeResponse { content_type: "text/plain".into(), ..Default::default() });
    let send = async |size: usize| {
        let form = scene.request("POST", "/v1/audio/transcriptions").bearer_auth(KEY);
        let form = form.header("content-type", "multipart/form-data; boundary=xyz");
        form.body(vec![7; size]).send().await.unwrap()
    };
    assert_eq!(send(8192).await.headers()["content-type"], "text/plain");
    let (asked, _) = scene.siblings.last::<InvokeRequest>(INVOKE);
    assert_eq!((asked.operation(), asked.body.len()), (Operation::Transcriptions, 8192));
    assert_eq!(asked.headers["content-type"], "multipart/form-data; boundary=xyz");
    assert_eq!(openai_error(send(8193).await).await.0, 413);
    let long = json!({"input": "x".repeat(1024)});
    assert_eq!(openai_error(scene.post("/v1/responses", &long).send().await.unwrap()).await.0, 413);
}

#[tokio::test]
async fn responses_and_pictures_are_asked_as_what_they_are() {
    let scene = Scene::new().await;
    scene.siblings.answer(INVOKE, InvokeResponse { content_type: "application/json".into(), ..Default::default() });
    for (path, operation) in [("/v1/responses", Operation::Responses), ("/v1/images/generations", Operation::Images)] {
        assert_eq!(scene.post(path, &json!({"model": "m"})).send().await.unwrap().status(), 200);
        assert_eq!(scene.siblings.last::<InvokeRequest>(INVOKE).0.operation(), operation);
    }
}
