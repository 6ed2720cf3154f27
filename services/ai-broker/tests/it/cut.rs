//! Streams that are cut, in every dialect that is streamed: by the client, by the provider, by the end of the broker. Each is counted,
//! is charged once, and never more than was reserved.

use std::sync::Arc;

use prost::Message as _;
use serde_json::{Value, json};
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_proto::broker::v1::{InvokeRequest, Operation, StreamInvokeResponse};
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::ExpiredReservation;
use weir_proto::usage::v1::{Outcome, UsageEvent};
use weir_simulator::{Directive, Fault, Options, Simulator};

use crate::media::{VOICE, request};
use crate::scene::{Scene, chat};

/// A dialect as the client speaks it, and the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Chat,
    ChatOfAnthropic,
    Messages,
    MessagesOfOpenAi,
    Responses,
    Speech,
    SpeechOfElevenLabs,
    TextToSpeech,
}

const ALL: [Kind; 8] = [
    Kind::Chat,
    Kind::ChatOfAnthropic,
    Kind::Messages,
    Kind::MessagesOfOpenAi,
    Kind::Responses,
    Kind::Speech,
    Kind::SpeechOfElevenLabs,
    Kind::TextToSpeech,
];

/// Tokens or words of a long answer.
const LONG: u32 = 500;

impl Kind {
    fn is_sound(self) -> bool {
        matches!(self, Self::Speech | Self::SpeechOfElevenLabs | Self::TextToSpeech)
    }

    /// A stream of at most so many tokens; of so many words, where they are spoken.
    fn asking(self, length: u32) -> InvokeRequest {
        let text = "weir ".repeat(length as usize);
        let message = |model: &str| {
            let messages = json!([{"role": "user", "content": "one two three four five"}]);
            json!({"model": model, "max_tokens": length, "messages": messages, "stream": true})
        };
        let chat = |model: &str| {
            let mut body = chat(length, "");
            body["model"] = model.into();
            body["stream"] = true.into();
            body
        };
        let speech = |model: &str| json!({"model": model, "input": text, "voice": VOICE, "response_format": "pcm"});
        let (operation, body): (_, Value) = match self {
            Self::Chat => (Operation::ChatCompletions, chat("sim-small")),
            Self::ChatOfAnthropic => (Operation::ChatCompletions, chat("sim-claude")),
            Self::Messages => (Operation::Messages, message("sim-claude")),
            Self::MessagesOfOpenAi => (Operation::Messages, message("sim-small")),
            Self::Responses => {
                let body = json!({"model": "sim-small", "input": "hi", "max_output_tokens": length, "stream": true});
                (Operation::Responses, body)
            }
            Self::Speech => (Operation::Speech, speech("tts-1")),
            Self::SpeechOfElevenLabs => (Operation::Speech, speech("eleven_flash_v2_5")),
            Self::TextToSpeech => {
                let body = json!({"model_id": "eleven_flash_v2_5", "text": text});
                let query = "output_format=pcm_24000".to_owned();
                return InvokeRequest { voice: VOICE.into(), query, ..request(Operation::TextToSpeech, &body) };
            }
        };
        request(operation, &body)
    }

    /// What is counted of an answer, as its event says.
    fn counted(self, event: &UsageEvent) -> i64 {
        if self.is_sound() { event.quantities["character"] } else { event.output_tokens }
    }

    /// All of an answer of that length.
    fn whole(self, length: u32) -> i64 {
        if self.is_sound() { 5 * i64::from(length) } else { i64::from(length) }
    }
}

fn simulate(provider: &Simulator, directive: &str) {
    let simulate: Directive = directive.parse().unwrap();
    provider.add_fault(Fault { api_key: None, simulate, times: None, percent: None });
}

/// Reads to the first piece of the answer.
async fn begun(parts: &mut tonic::Streaming<StreamInvokeResponse>) {
    while !matches!(parts.message().await.unwrap().unwrap().part, Some(Part::Chunk(_))) {}
}

/// The only event; of no unit there is more than was reserved.
async fn bounded(scene: &Scene, what: &str) -> UsageEvent {
    scene.eventually("the call is committed", async |scene| scene.siblings.committed.lock().len() == 1).await;
    assert_eq!(scene.ends().await, (1, 1, 0), "{what}");
    let event = scene.siblings.recorded.lock().values().next().cloned().unwrap();
    let reserved = scene.siblings.reserved.lock()[&event.event_id].amounts.clone();
    let committed = scene.siblings.committed.lock()[&event.event_id].actuals.clone();
    for amount in &committed {
        let most = reserved.iter().find(|held| held.unit == amount.unit).map_or(0, |held| held.value);
        assert!(amount.value <= most, "{what}: {amount:?} of {most}");
    }
    assert!(event.cost_nano_usd > 0, "{what}");
    event
}

#[tokio::test]
async fn a_client_that_leaves_pays_what_the_provider_counts_if_it_is_done_in_time() {
    for kind in ALL {
        let scene = Scene::new().await;
        simulate(&scene.provider, "chunk_ms=5,output_tokens=20");
        let mut parts = scene.stream_request(kind.asking(20)).await.unwrap();
        begun(&mut parts).await;
        drop(parts);
        let event = bounded(&scene, &format!("{kind:?}")).await;
        assert_eq!((kind.counted(&event), event.estimated), (kind.whole(20), false), "{kind:?}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_a_long_answer_pays_what_was_counted_when_it_was_cut() {
    for kind in ALL {
        let scene = Scene::with(&["k"], "drain = \"200ms\"").await;
        simulate(&scene.provider, "chunk_ms=60,output_tokens=500");
        let mut parts = scene.stream_request(kind.asking(LONG)).await.unwrap();
        begun(&mut parts).await;
        drop(parts);
        let event = bounded(&scene, &format!("{kind:?}")).await;
        assert_eq!((event.outcome(), event.estimated), (Outcome::Cancelled, true), "{kind:?}");
        let counted = kind.counted(&event);
        if kind.is_sound() {
            assert_eq!(counted, kind.whole(LONG), "sounds are charged by what was to be said");
        } else {
            assert!((1..i64::from(LONG)).contains(&counted), "{kind:?}: {counted}");
        }
    }
}

#[tokio::test]
async fn a_provider_that_breaks_off_is_paid_what_came_and_the_client_is_told() {
    for kind in ALL {
        for fault in ["cut_after=6", "hang_after=6", "error_after=6", "end_after=6"] {
            // A sound has no end of its own that could be missing.
            if kind.is_sound() && fault == "end_after=6" {
                continue;
            }
            let what = format!("{kind:?} {fault}");
            let scene = Scene::new().await;
            simulate(&scene.provider, &format!("{fault},output_tokens=50"));
            let (_, _, failure) = whole(scene.stream_request(kind.asking(50)).await.unwrap()).await;
            assert_eq!(failure, Some(ErrorReason::ProviderFailed), "{what}");
            let event = bounded(&scene, &what).await;
            assert_eq!((event.outcome(), event.estimated), (Outcome::Broken, true), "{what}");
            let counted = kind.counted(&event);
            assert!((6..=kind.whole(50)).contains(&counted), "{what}: {counted}");
        }
    }
}

/// Reads to the end: how many bytes came, whether there is an accounting, and the error.
async fn whole(mut parts: tonic::Streaming<StreamInvokeResponse>) -> (usize, bool, Option<ErrorReason>) {
    let (mut bytes, mut accounted) = (0, false);
    loop {
        match parts.message().await {
            Ok(Some(StreamInvokeResponse { part: Some(Part::Chunk(chunk)) })) => bytes += chunk.len(),
            Ok(Some(StreamInvokeResponse { part: Some(Part::Accounting(_)) })) => accounted = true,
            Ok(Some(_)) => {}
            Ok(None) => return (bytes, accounted, None),
            Err(status) => return (bytes, accounted, Some(weir_rpc::Failure::from(&status).reason())),
        }
    }
}

/// Two brokers, each in a runtime of its own, so that one can end without a word.
#[test]
fn streams_of_a_broker_that_dies_are_charged_as_reserved_once() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (here, there) = (runtime(), runtime());
    let provider = here.block_on(async { Arc::new(Simulator::start(Options::default()).await.unwrap()) });
    simulate(&provider, "chunk_ms=1000,output_tokens=500");
    let quick = "take_over_check = \"20ms\"";
    let victim = there.block_on(Scene::without_jobs(&provider, ""));
    let open = there.block_on(async {
        let mut open = Vec::new();
        for kind in ALL {
            let mut parts = victim.stream_request(kind.asking(LONG)).await.unwrap();
            begun(&mut parts).await;
            open.push(parts);
        }
        open
    });
    there.shutdown_background();
    // Who is killed puts nothing in order.
    std::mem::forget(open);
    let reserved: Vec<_> = victim.siblings.reserved.lock().values().cloned().collect();
    assert_eq!(reserved.len(), ALL.len());
    here.block_on(async {
        let survivor = Scene::without_jobs(&provider, quick).await;
        survivor.siblings.expired.lock().extend(reserved.iter().map(|held| ExpiredReservation {
            reservation_id: held.reservation_id.clone(),
            organization: held.subject.clone().unwrap().organization,
            context: held.context.clone(),
            ..ExpiredReservation::default()
        }));
        let all = async |survivor: &Scene| survivor.siblings.committed.lock().len() == ALL.len();
        survivor.eventually("all are committed", all).await;
        let recorded = survivor.siblings.recorded.lock();
        for held in &reserved {
            let event = &recorded[&held.reservation_id];
            assert_eq!(*event, UsageEvent::decode(held.context.clone()).unwrap());
            assert!(event.estimated && event.outcome() == Outcome::Unknown, "{event:?}");
            let of = |unit: &str| held.amounts.iter().find(|amount| amount.unit == unit).map(|amount| amount.value);
            assert_eq!(of("nano_usd"), Some(event.cost_nano_usd));
            assert!(event.cost_nano_usd > 0 && (event.output_tokens > 0 || event.quantities["character"] > 0));
        }
    });
}
