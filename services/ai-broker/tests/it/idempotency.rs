//! Calls with an idempotency key, on a real Postgres and with providers over real sockets.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use weir_database::Database;
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_proto::broker::v1::{Accounting, InvokeRequest, InvokeResponse, Operation};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::{Bearer, Failure};
use weir_simulator::{Options, Simulator};
use weir_testing::TestDatabase;

use crate::database;
use crate::scene::{Scene, chat, streamed};

/// A broker with a database, and what a second one beside it needs.
struct House {
    scene: Scene,
    provider: Arc<Simulator>,
    /// Dropped last: with it the database goes.
    admin: TestDatabase,
}

impl House {
    async fn new() -> Self {
        Self::with("").await
    }

    async fn with(settings: &str) -> Self {
        let admin = database::database().await;
        let provider = Arc::new(Simulator::start(Options::default()).await.unwrap());
        let scene = Scene::with_jobs(&provider, database::connect(&admin.url).await, settings).await;
        Self { scene, provider, admin }
    }

    /// Another broker, whose callers are those of the first.
    async fn second(&mut self, settings: &str) -> Scene {
        let database = database::connect(&self.admin.url).await;
        let mut second = Scene::with_jobs(&self.provider, database, settings).await;
        second.adopt(&self.scene);
        self.scene.adopt(&second);
        second
    }

    fn calls(&self) -> usize {
        self.provider.served().len()
    }
}

fn request(key: &str, operation: Operation, body: &Value) -> InvokeRequest {
    let body = body.to_string().into();
    InvokeRequest { operation: operation.into(), body, idempotency_key: key.into(), ..InvokeRequest::default() }
}

fn keyed(key: &str, body: &Value) -> InvokeRequest {
    request(key, Operation::ChatCompletions, body)
}

/// A stream's text, its accounting and its error; none of them if it did not begin.
async fn streamed_whole(scene: &Scene, key: &str, body: &Value) -> (String, Option<Accounting>, Option<Failure>) {
    match scene.stream_request(keyed(key, body)).await {
        Ok(parts) => Scene::whole(parts).await,
        Err(failure) => (String::new(), None, Some(failure)),
    }
}

async fn invoke_as(scene: &Scene, bearer: &Bearer, request: InvokeRequest) -> Result<InvokeResponse, Failure> {
    let answer = scene.broker.clone().invoke(bearer.request(request)).await;
    answer.map(tonic::Response::into_inner).map_err(Failure::from)
}

async fn count(database: &Database, condition: &'static str) -> i64 {
    let count = format!("select count(*) from broker.idempotent_calls where {condition}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(count)).fetch_one(database.pool()).await.unwrap()
}

async fn change(database: &Database, change: &'static str) {
    let changed = sqlx::query(sqlx::AssertSqlSafe(format!("update broker.idempotent_calls set {change}")));
    assert!(changed.execute(database.pool()).await.unwrap().rows_affected() > 0);
}

#[tokio::test]
async fn the_same_request_again_is_answered_with_the_first_answer_and_costs_nothing() {
    let house = House::new().await;
    let first = house.scene.invoke_request(keyed("k-1", &chat(3, ""))).await.unwrap();
    let again = house.scene.invoke_request(keyed("k-1", &chat(3, ""))).await.unwrap();
    assert_eq!((&again.body, &again.content_type), (&first.body, &first.content_type));
    let (said, repeated) = (first.accounting.unwrap(), again.accounting.unwrap());
    assert!(!said.replayed);
    assert_eq!(repeated, Accounting { replayed: true, ..said });
    let other = house.scene.invoke_request(keyed("k-2", &chat(3, ""))).await.unwrap();
    assert_ne!(other.accounting.unwrap().reservation_id, repeated.reservation_id);
    assert_eq!((house.calls(), house.scene.ends().await), (2, (2, 2, 0)));
}

#[tokio::test]
async fn a_stream_is_repeated_as_the_same_stream() {
    let house = House::new().await;
    let body = streamed(5, "");
    let (text, accounting, error) = streamed_whole(&house.scene, "k", &body).await;
    assert!(error.is_none() && text.contains("[DONE]"), "{text}");
    let (again, repeated, error) = streamed_whole(&house.scene, "k", &body).await;
    assert!(error.is_none());
    assert_eq!(again, text);
    assert_eq!(repeated, Some(Accounting { replayed: true, ..accounting.unwrap() }));
    assert_eq!(house.calls(), 1);
}

#[tokio::test]
async fn a_sound_is_repeated_byte_by_byte() {
    let house = House::new().await;
    let body = json!({"model": "tts-1", "input": "Hello there", "voice": "alloy"});
    let speech = async || {
        let mut parts = house.scene.stream_request(request("k", Operation::Speech, &body)).await.unwrap();
        let (mut kind, mut sound, mut replayed) = (String::new(), Vec::new(), false);
        while let Some(part) = parts.message().await.unwrap() {
            match part.part.unwrap() {
                Part::Start(start) => kind = start.content_type,
                Part::Chunk(chunk) => sound.extend_from_slice(&chunk),
                Part::Accounting(accounting) => replayed = accounting.replayed,
                Part::Queued(_) => {}
            }
        }
        (kind, sound, replayed)
    };
    let (first, again) = (speech().await, speech().await);
    assert!(first.1.len() > 100 && !first.2 && again.2);
    assert_eq!((&first.0, &first.1), (&again.0, &again.1));
    assert_eq!(house.calls(), 1);
}

#[tokio::test]
async fn a_form_is_the_same_request_with_another_boundary() {
    let house = House::new().await;
    let form = |boundary: &str| {
        let flac: &[u8] = include_bytes!("../../../../libs/media/tests/audio/plain.flac");
        let part = format!("--{boundary}\r\nContent-Disposition: form-data; name=");
        let body = [
            format!("{part}\"model\"\r\n\r\nwhisper-1\r\n{part}\"file\"; filename=\"a.flac\"\r\n\r\n").as_bytes(),
            flac,
            format!("\r\n--{boundary}--\r\n").as_bytes(),
        ]
        .concat();
        let headers = [("content-type".to_owned(), format!("multipart/form-data; boundary={boundary}"))].into();
        InvokeRequest { body: body.into(), headers, ..request("k", Operation::Transcriptions, &json!({})) }
    };
    house.scene.invoke_request(form("one")).await.unwrap();
    assert!(house.scene.invoke_request(form("two")).await.unwrap().accounting.unwrap().replayed);
    assert_eq!(house.calls(), 1);
}

#[tokio::test]
async fn another_request_under_the_same_key_is_refused() {
    let house = House::new().await;
    house.scene.invoke_request(keyed("k", &chat(3, ""))).await.unwrap();
    let refused = house.scene.invoke_request(keyed("k", &chat(4, ""))).await.unwrap_err();
    assert_eq!(refused.reason(), ErrorReason::IdReused);
    let (_, _, refused) = streamed_whole(&house.scene, "k", &streamed(3, "")).await;
    assert_eq!(refused.unwrap().reason(), ErrorReason::IdReused);
    assert_eq!(house.calls(), 1);
    for bad in ["ä", "a\tb", &"x".repeat(256)] {
        let refused = house.scene.invoke_request(keyed(bad, &chat(3, ""))).await.unwrap_err();
        assert_eq!(refused.reason(), ErrorReason::InvalidArgument, "{bad}");
    }
}

#[tokio::test]
async fn keys_are_each_principals_own() {
    let mut house = House::new().await;
    let first = house.scene.invoke_request(keyed("k", &chat(3, ""))).await.unwrap();
    let strange = invoke_as(&house.scene, &house.scene.stranger, keyed("k", &chat(3, ""))).await.unwrap();
    // Of the same organisation, without a user or a key.
    house.second("").await;
    let colleague = house.scene.invoke_request(keyed("k", &chat(9, ""))).await.unwrap();
    let ids: std::collections::HashSet<_> =
        [first, strange, colleague].into_iter().map(|answer| answer.accounting.unwrap().reservation_id).collect();
    assert_eq!((ids.len(), house.calls()), (3, 3));
}

#[tokio::test]
async fn a_repetition_waits_for_the_call_under_way_or_is_told_of_it() {
    let mut house = House::new().await;
    let second = house.second("idempotency.wait = \"0s\"").await;
    let body = chat(3, "latency_ms=300");
    let told = async {
        house.scene.eventually("it is under way", async |_| count(&second.database, "state = 1").await == 1).await;
        second.invoke_request(keyed("k", &body)).await.unwrap_err()
    };
    let (first, again, told) = tokio::join!(
        house.scene.invoke_request(keyed("k", &body)),
        house.scene.invoke_request(keyed("k", &body)),
        told
    );
    let replayed = [first, again].map(|answer| answer.unwrap().accounting.unwrap().replayed);
    assert_eq!(replayed.iter().filter(|replayed| **replayed).count(), 1);
    assert_eq!(told.reason(), ErrorReason::CallInProgress);
    assert!(told.retry_after().is_some());
    assert_eq!(house.calls(), 1);
}

#[tokio::test]
async fn of_many_at_two_brokers_at_once_one_makes_the_call() {
    let mut house = House::new().await;
    let second = house.second("").await;
    for round in 0..5 {
        let (key, body) = (format!("k-{round}"), chat(3, "latency_ms=20"));
        let one = |n: usize| {
            let scene = if n.is_multiple_of(2) { &house.scene } else { &second };
            scene.invoke_request(keyed(&key, &body))
        };
        let answers = join_all((0..20).map(one)).await;
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.unwrap()).collect();
        assert!(answers.iter().all(|answer| answer.body == answers[0].body));
        let made = answers.iter().filter(|answer| !answer.accounting.as_ref().unwrap().replayed).count();
        assert_eq!((made, house.calls()), (1, round + 1));
    }
    assert_eq!(house.scene.ends().await.1 + second.ends().await.1, 5);
}

#[tokio::test]
async fn what_was_refused_before_anything_was_charged_leaves_its_key_free() {
    let house = House::new().await;
    house.scene.siblings.refuse.store(2, std::sync::atomic::Ordering::Relaxed);
    let refused = house.scene.invoke_request(keyed("k", &chat(3, ""))).await.unwrap_err();
    assert_eq!(refused.reason(), ErrorReason::QuotaExceeded);
    house.scene.siblings.refuse.store(0, std::sync::atomic::Ordering::Relaxed);
    let body = chat(3, "status=400, fail_times=1");
    for (what, body) in [("by the provider", &body), ("and with another request", &chat(4, ""))] {
        let refused = house.scene.invoke_request(keyed("other", body)).await;
        assert_eq!(refused.is_err(), what == "by the provider", "{what}");
    }
    assert!(!house.scene.invoke_request(keyed("k", &chat(3, ""))).await.unwrap().accounting.unwrap().replayed);
    let (_, _, refused) = streamed_whole(&house.scene, "s", &streamed(3, "status=400, fail_times=1, tag=s")).await;
    assert_eq!(refused.unwrap().reason(), ErrorReason::ProviderRejected);
    assert_eq!(count(&house.scene.database, "true").await, 2);
}

#[tokio::test]
async fn what_was_charged_and_failed_is_not_tried_again() {
    let house = House::new().await;
    for (key, body) in [("broken", chat(3, "body=malformed")), ("late", chat(3, "hang=1"))] {
        let first = house.scene.invoke_request(keyed(key, &body)).await.unwrap_err();
        let calls = house.calls();
        let again = house.scene.invoke_request(keyed(key, &body)).await.unwrap_err();
        assert_eq!((again.reason(), again.message()), (first.reason(), first.message()), "{key}");
        assert_eq!(house.calls(), calls, "{key}");
    }
    let broken = streamed(9, "cut_after=3");
    let (_, _, first) = streamed_whole(&house.scene, "stream", &broken).await;
    let calls = house.calls();
    let (text, _, again) = streamed_whole(&house.scene, "stream", &broken).await;
    assert_eq!((text.as_str(), again.unwrap().message()), ("", first.unwrap().message()));
    assert_eq!(house.calls(), calls);
}

#[tokio::test]
async fn of_an_answer_that_is_too_large_only_is_known_that_it_was_made() {
    let house = House::with("idempotency.max_answer_bytes = 100").await;
    house.scene.invoke_request(keyed("k", &chat(50, ""))).await.unwrap();
    let (text, _, error) = streamed_whole(&house.scene, "s", &streamed(50, "")).await;
    assert!(text.len() > 100 && error.is_none());
    let again = house.scene.invoke_request(keyed("k", &chat(50, ""))).await.unwrap_err();
    assert_eq!(again.reason(), ErrorReason::NotRepeatable);
    let (_, _, again) = streamed_whole(&house.scene, "s", &streamed(50, "")).await;
    assert_eq!(again.unwrap().reason(), ErrorReason::NotRepeatable);
    assert_eq!(house.calls(), 2);
}

#[tokio::test]
async fn who_left_finds_the_answer_when_he_comes_back() {
    let house = House::with("drain = \"10ms\"").await;
    let body = chat(3, "latency_ms=2000");
    let left = tokio::time::timeout(Duration::from_secs(1), house.scene.invoke_request(keyed("k", &body))).await;
    assert!(left.is_err());
    let answer = house.scene.invoke_request(keyed("k", &body)).await.unwrap();
    assert!(answer.accounting.unwrap().replayed);
    assert_eq!((house.calls(), house.scene.ends().await), (1, (1, 1, 0)));
}

#[tokio::test]
async fn a_stream_that_was_left_is_there_if_the_drain_reached_its_end() {
    let house = House::with("drain = \"5s\"").await;
    let body = streamed(20, "chunk_ms=10");
    let mut parts = house.scene.stream_request(keyed("k", &body)).await.unwrap();
    parts.message().await.unwrap();
    drop(parts);
    let (text, accounting, error) = streamed_whole(&house.scene, "k", &body).await;
    assert!(text.contains("[DONE]") && error.is_none() && accounting.unwrap().replayed);
    assert_eq!(house.calls(), 1);

    let cut = House::with("drain = \"10ms\"").await;
    let mut parts = cut.scene.stream_request(keyed("k", &body)).await.unwrap();
    parts.message().await.unwrap();
    drop(parts);
    let (_, _, error) = streamed_whole(&cut.scene, "k", &body).await;
    assert_eq!(error.unwrap().reason(), ErrorReason::NotRepeatable);
    assert_eq!(cut.calls(), 1);
}

#[tokio::test]
async fn a_key_is_forgotten_after_its_time() {
    let house = House::new().await;
    house.scene.invoke_request(keyed("k", &chat(3, ""))).await.unwrap();
    change(&house.scene.database, "expires_at = now()").await;
    let again = house.scene.invoke_request(keyed("k", &chat(9, ""))).await.unwrap();
    assert!(!again.accounting.unwrap().replayed);
    let kept =
        count(&house.scene.database, "expires_at between now() + interval '23h' and now() + interval '24h'").await;
    assert_eq!((kept, house.calls()), (1, 2));
}

#[tokio::test]
async fn neither_key_nor_content_lies_in_the_store() {
    let house = House::new().await;
    let answer = house.scene.invoke_request(keyed("my-own-key", &chat(30, ""))).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    let said = answer["choices"][0]["message"]["content"].as_str().unwrap();
    let rows: Vec<String> = sqlx::query_scalar("select convert_from(row_to_json(c)::text::bytea, 'utf8') || encode(answer, 'escape') from broker.idempotent_calls c")
        .fetch_all(house.scene.database.pool())
        .await
        .unwrap();
    assert_eq!(rows.len(), 1);
    for secret in ["my-own-key", "one two three", &said[..12], "choices"] {
        assert!(!rows[0].contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn without_the_store_calls_with_a_key_are_refused_and_others_go_on() {
    let scene = Scene::new().await;
    let refused = scene.invoke_request(keyed("k", &chat(3, ""))).await.unwrap_err();
    assert_eq!(refused.reason(), ErrorReason::Unavailable);
    scene.invoke(&chat(3, "")).await.unwrap();
    assert_eq!(scene.provider.served().len(), 1);
}

/// A broker in a runtime of its own ends without a word; another one is asked again.
fn killed(directive: &str, until: &'static str, refuse: bool) -> (House, Scene, Value, tokio::runtime::Runtime) {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (here, there) = (runtime(), runtime());
    let mut house = here.block_on(House::with("idempotency.lease = \"1s\""));
    let database = here.block_on(async { database::connect(&house.admin.url).await });
    let provider = Arc::clone(&house.provider);
    let url = house.admin.url.clone();
    let mut victim = there.block_on(async {
        let database = database::connect(&url).await;
        Scene::with_jobs(&provider, database, "idempotency.lease = \"1s\"").await
    });
    victim.adopt(&house.scene);
    house.scene.adopt(&victim);
    if refuse {
        victim.siblings.unanswered.store(9, std::sync::atomic::Ordering::Relaxed);
    }
    let body = chat(3, directive);
    let (client, bearer, asked) = (victim.broker.clone(), victim.bearer.clone(), keyed("k", &body));
    there.spawn(async move { client.clone().invoke(bearer.request(asked)).await });
    here.block_on(async {
        for _ in 0..6_000 {
            if count(&database, until).await == 1 && (refuse || provider.stats().in_flight == 1) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the call never got there");
    });
    there.shutdown_background();
    (house, victim, body, here)
}

#[test]
fn a_call_whose_broker_was_killed_when_a_provider_had_been_asked_is_not_made_again() {
    let (house, _victim, body, here) = killed("latency_ms=1500", "state = 1", false);
    here.block_on(async {
        let told = house.scene.invoke_request(keyed("k", &body)).await.unwrap_err();
        assert_eq!(told.reason(), ErrorReason::NotRepeatable, "{told:?}");
        let told = house.scene.invoke_request(keyed("k", &chat(4, ""))).await.unwrap_err();
        assert_eq!(told.reason(), ErrorReason::IdReused);
        house.scene.eventually("the provider is done", async |_| house.provider.stats().in_flight == 0).await;
        assert!(house.calls() <= 1 && house.scene.siblings.reserved.lock().is_empty());
    });
}

#[test]
fn a_call_whose_broker_was_killed_before_that_is_made_by_another() {
    let (house, _victim, body, here) = killed("", "state = 0", true);
    here.block_on(async {
        let answer = house.scene.invoke_request(keyed("k", &body)).await.unwrap();
        assert!(!answer.accounting.unwrap().replayed);
        assert_eq!(house.calls(), 1);
    });
}

#[tokio::test]
async fn a_broker_that_lost_its_claim_asks_no_provider() {
    let house = House::with("idempotency.lease = \"1h\"").await;
    house.scene.siblings.unanswered.store(1, std::sync::atomic::Ordering::Relaxed);
    let body = chat(3, "");
    let taken = async {
        house.scene.eventually("it is claimed", async |scene| count(&scene.database, "state = 0").await == 1).await;
        // As if another broker had taken it for lost.
        change(&house.scene.database, "claim = gen_random_uuid()").await;
    };
    let (told, ()) = tokio::join!(house.scene.invoke_request(keyed("k", &body)), taken);
    assert_eq!(told.unwrap_err().reason(), ErrorReason::CallInProgress);
    assert_eq!(house.calls(), 0);
    house.scene.eventually("it is released", async |scene| !scene.siblings.released.lock().is_empty()).await;
}

#[tokio::test]
async fn a_lease_is_prolonged_while_the_call_is_under_way() {
    let mut house = House::with("idempotency.lease = \"1s\"").await;
    let second = house.second("idempotency.lease = \"1s\"").await;
    let body = chat(3, "latency_ms=1800");
    let late = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        second.invoke_request(keyed("k", &body)).await
    };
    let (first, again) = tokio::join!(house.scene.invoke_request(keyed("k", &body)), late);
    first.unwrap();
    assert!(again.unwrap().accounting.unwrap().replayed);
    assert_eq!(house.calls(), 1);
}
