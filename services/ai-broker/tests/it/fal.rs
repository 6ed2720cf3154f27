//! Pictures of FAL's queue, asked for in OpenAI's words: submitted, waited for, charged once, whatever happens meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use weir_proto::broker::v1::{InvokeAction, Job, JobState, JobStep, Operation, job_step};
use weir_proto::common::v1::ErrorReason;
use weir_proto::usage::v1::Outcome;
use weir_simulator::{Directive, Fault, Options, Simulator};

use crate::database;
use crate::jobs::{House, QUICK, invoke, result};
use crate::own_keys;
use crate::scene::Scene;

fn quick(millis: u64) -> Options {
    let takes = Duration::from_millis(millis);
    Options { generation: (takes, takes), runners: 100, ..Options::default() }
}

async fn scene(millis: u64, settings: &str) -> Scene {
    let provider = Arc::new(Simulator::start(quick(millis)).await.unwrap());
    Scene::without_jobs(&provider, settings).await
}

fn picture() -> Value {
    json!({"model": "fal-ai/flux/dev", "prompt": "a gold ring", "size": "64x32", "n": 2})
}

/// The next request is treated so.
fn once(scene: &Scene, directive: &str) {
    let simulate: Directive = directive.parse().unwrap();
    scene.provider.add_fault(Fault { api_key: None, simulate, times: Some(1), percent: None });
}

/// How many requests of this kind the provider has seen.
fn seen(provider: &Simulator, operation: &str) -> usize {
    provider.served().iter().filter(|served| served.operation == operation).count()
}

async fn draw(scene: &Scene, body: &Value) -> Value {
    serde_json::from_slice(&scene.invoke_as(Operation::Images, body).await.unwrap().body).unwrap()
}

#[tokio::test]
async fn a_picture_is_answered_as_openai_would_and_charged_by_its_pixels() {
    let scene = scene(50, "").await;
    let answer = draw(&scene, &picture()).await;
    assert!(answer["created"].as_i64().unwrap() > 1_700_000_000, "{answer}");
    let url = answer["data"][1]["url"].as_str().unwrap();
    assert!(url.starts_with("http://") && answer["data"].as_array().unwrap().len() == 2, "{answer}");
    let event = scene.settled().await;
    assert_eq!((event.quantities["megapixel"], event.quantities["image"], event.cost_nano_usd), (2, 2, 50_000_000));
    assert_eq!((event.operation.as_str(), event.estimated), ("images.generations", false));
    let submitted = scene.provider.served_as(&event.event_id);
    let submitted = submitted.iter().find(|served| served.operation == "queue.submit").unwrap();
    assert_eq!((submitted.model.as_str(), submitted.images), ("fal-ai/flux/dev", 2));
}

#[tokio::test]
async fn a_picture_that_takes_its_time_holds_up_nobody_in_line() {
    // Nothing is done before the test ends.
    let provider = Arc::new(Simulator::start(quick(600_000)).await.unwrap());
    let scene = Scene::patient(&provider, "queue.turns = 1\nqueue.turn = \"60s\"").await;
    *scene.siblings.refusing_scope.lock() = "provider".into();
    scene.siblings.refuse.store(3, Ordering::Relaxed);
    let body = picture();
    let pictures = join_all((0..3).map(|_| scene.invoke_as(Operation::Images, &body)));
    let all = scene.eventually("all three were submitted", async |_| seen(&provider, "queue.submit") == 3);
    tokio::select! {
        answers = pictures => panic!("{answers:?}"),
        () = all => {}
    }
}

#[tokio::test]
async fn a_picture_comes_in_the_answer_itself_where_that_is_asked_for() {
    let scene = scene(10, "").await;
    let mut body = picture();
    body["response_format"] = "b64_json".into();
    let answer = draw(&scene, &body).await;
    assert!(answer["data"][0]["b64_json"].as_str().unwrap().starts_with("iVBORw0KGgo"), "{answer}");
    assert!(answer["data"][0].get("url").is_none());
}

#[tokio::test]
async fn what_fal_can_not_be_asked_for_is_refused_before_anything_is_reserved() {
    let scene = scene(10, "").await;
    for (field, value) in [("quality", json!("hd")), ("num_images", json!(3)), ("size", Value::Null)] {
        let mut body = picture();
        body[field] = value;
        let failure = scene.invoke_as(Operation::Images, &body).await.unwrap_err();
        assert_eq!((failure.reason(), &*failure.fields()[0].subject), (ErrorReason::InvalidArgument, field));
    }
    let chat = json!({"model": "fal-ai/flux/dev", "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(scene.invoke(&chat).await.unwrap_err().fields()[0].subject, "model");
    assert_eq!(scene.ends().await, (0, 0, 0));
}

#[tokio::test]
async fn a_picture_that_fails_is_made_again_and_charged_once() {
    let scene = scene(30, "").await;
    once(&scene, "error_after=1");
    draw(&scene, &picture()).await;
    assert_eq!(scene.ends().await, (2, 1, 1));
    assert_eq!(scene.settled().await.quantities["image"], 2);
    assert_eq!(seen(&scene.provider, "queue.submit"), 2);
}

#[tokio::test]
async fn a_submission_that_is_refused_costs_nothing() {
    let scene = scene(30, "").await;
    once(&scene, "status=422");
    let failure = scene.invoke_as(Operation::Images, &picture()).await.unwrap_err();
    let told = failure.provider_error().unwrap();
    assert_eq!(told.http_status, 422);
    let told: Value = serde_json::from_slice(&told.body).unwrap();
    assert!(told["error"]["message"].is_string(), "{told}");
    assert_eq!(scene.ends().await, (1, 0, 1));
}

#[tokio::test]
async fn a_submission_whose_answer_can_not_be_read_is_charged_as_reserved() {
    let scene = scene(30, "").await;
    once(&scene, "body=html");
    scene.invoke_as(Operation::Images, &picture()).await.unwrap_err();
    let event = scene.settled().await;
    assert!(event.estimated && event.outcome() == Outcome::Unknown, "{event:?}");
    assert_eq!(event.quantities["image"], 2);
}

#[tokio::test]
async fn a_request_that_the_provider_has_lost_is_charged_and_made_again() {
    let scene = scene(400, "").await;
    let body = picture();
    let asked = scene.invoke_as(Operation::Images, &body);
    let lost = async {
        scene.eventually("it is submitted", async |scene| seen(&scene.provider, "queue.submit") == 1).await;
        scene.provider.reset();
    };
    let (answer, ()) = tokio::join!(asked, lost);
    answer.unwrap();
    assert_eq!(scene.ends().await, (2, 2, 0));
    let estimated = scene.siblings.recorded.lock().values().filter(|event| event.estimated).count();
    assert_eq!(estimated, 1);
}

#[tokio::test]
async fn a_picture_that_takes_too_long_is_cancelled_and_not_charged() {
    let scene = scene(60_000, "").await;
    let failure = scene.invoke_as(Operation::Images, &picture()).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::DeadlineExceeded);
    assert_eq!(scene.ends().await, (1, 0, 1));
    assert_eq!(seen(&scene.provider, "queue.cancel"), 1);
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_request() {
    let scene = scene(60_000, "").await;
    let body = picture();
    {
        let asked = scene.invoke_as(Operation::Images, &body);
        let submitted = scene.eventually("it is submitted", async |scene| seen(&scene.provider, "queue.status") > 0);
        tokio::select! { _ = asked => panic!("it can't be done"), () = submitted => {} }
    }
    assert_eq!(scene.ends().await, (1, 0, 1));
    assert_eq!(seen(&scene.provider, "queue.cancel"), 1);
}

fn step() -> JobStep {
    let action = InvokeAction { operation: Operation::Images.into(), body: picture().to_string().into() };
    JobStep { action: Some(job_step::Action::Invoke(action)), ..invoke("draw", &json!({})) }
}

fn job() -> Job {
    Job { steps: vec![step()], ..Job::default() }
}

#[tokio::test]
async fn a_job_that_is_cancelled_ends_its_request() {
    let House { scene, .. } = &House::with(quick(60_000), "").await;
    let created = scene.create(job()).await;
    scene.eventually("it is submitted", async |scene| seen(&scene.provider, "queue.status") > 0).await;
    let request = weir_proto::broker::v1::CancelJobRequest { name: created.name.clone() };
    scene.jobs.clone().cancel_job(scene.bearer.request(request)).await.unwrap();
    scene.reaches(&created.name, JobState::Cancelled).await;
    assert_eq!(scene.ends().await, (1, 0, 1));
    assert_eq!(seen(&scene.provider, "queue.cancel"), 1);
}

#[tokio::test]
async fn a_job_whose_picture_fails_asks_for_another_one() {
    let House { scene, .. } = &House::with(quick(20), "max_attempts = 1").await;
    once(scene, "error_after=1");
    let created = scene.create(job()).await;
    let done = scene.reaches(&created.name, JobState::Complete).await;
    assert_eq!(done.steps[0].result.as_ref().unwrap().attempts, 2);
    assert_eq!((seen(&scene.provider, "queue.submit"), scene.ends().await), (2, (2, 1, 1)));
}

#[tokio::test]
async fn a_picture_is_asked_for_with_the_own_key_that_it_was_submitted_with() {
    let provider = Arc::new(Simulator::start(quick(50)).await.unwrap());
    let admin = database::database().await;
    let scene = own_keys::broker(&provider, database::connect(&admin.url).await, &own_keys::first_master()).await;
    let key = store(&scene).await;
    once(&scene, "error_after=1");
    let answer = scene.invoke_as(Operation::Images, &picture()).await.unwrap().accounting.unwrap();
    assert_eq!((answer.provider_key.as_str(), answer.cost_nano_usd), (key.as_str(), 0));
    assert_eq!(scene.ends().await, (2, 1, 1));
    let event = scene.settled().await;
    assert_eq!((event.quantities["own_nano_usd"], event.quantities["image"]), (50_000_000, 2));
    let asked = own_keys::served(&provider);
    assert!(asked.len() >= 6 && asked.iter().all(|ending| ending == "draw"), "{asked:?}");
}

/// The organisation's own key of the provider with a queue.
async fn store(scene: &Scene) -> String {
    let secret = own_keys::secret("draw");
    let limits = weir_proto::broker::v1::ProviderKeyLimits::default();
    let key = scene.store_for("pictures", scene.organization, &scene.bearer, None, &secret, limits).await;
    let key = key.unwrap().name;
    scene
        .eventually("the key is known", async |scene| {
            scene.list(&scene.bearer, 0).await.unwrap().provider_keys.len() == 1
        })
        .await;
    key
}

#[test]
fn who_takes_a_job_over_waits_for_its_request_and_accounts_for_it_once() {
    taken_over(false);
}

#[test]
fn who_takes_a_job_over_goes_on_with_the_own_key_that_submitted_its_request() {
    taken_over(true);
}

/// Two brokers, each in a runtime of its own, so that one can end without a word.
fn taken_over(by_own_key: bool) {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (here, there) = (runtime(), runtime());
    let masters = if by_own_key { own_keys::first_master() } else { String::new() };
    let settings = format!("{QUICK}\njobs.lease = \"1s\"\n{masters}");
    let (provider, admin) =
        here.block_on(async { (Arc::new(Simulator::start(quick(4_000)).await.unwrap()), database::database().await) });
    let scene = async || Scene::with_jobs(&provider, database::connect(&admin.url).await, &settings).await;
    let victim = there.block_on(scene());
    let created: Vec<Job> = there.block_on(async {
        if by_own_key {
            store(&victim).await;
        }
        let created = futures::future::join_all((0..3).map(|_| victim.create(job()))).await;
        let submitted = "select count(*) from broker.job_submissions";
        victim
            .eventually("all are written down", async |scene| {
                sqlx::query_scalar::<_, i64>(submitted).fetch_one(scene.database.pool()).await.unwrap() == 3
            })
            .await;
        created
    });
    let reserved: Vec<String> = victim.siblings.reserved.lock().keys().cloned().collect();
    there.shutdown_background();
    here.block_on(async {
        let mut survivor = scene().await;
        survivor.adopt(&victim);
        for job in &created {
            let done = survivor.reaches(&job.name, JobState::Complete).await;
            assert!(result(&done, 0)["data"][1]["url"].is_string());
        }
        assert_eq!(seen(&provider, "queue.submit"), 3, "nothing was asked for twice");
        survivor.eventually("all are committed", async |survivor| survivor.siblings.committed.lock().len() == 3).await;
        assert!(survivor.siblings.reserved.lock().is_empty(), "nothing was reserved twice");
        let committed = survivor.siblings.committed.lock();
        assert!(reserved.len() == 3 && reserved.iter().all(|id| committed.contains_key(id)), "{reserved:?}");
        let recorded = survivor.siblings.recorded.lock();
        assert!(recorded.values().all(|event| !event.estimated && event.quantities["image"] == 2));
        assert!(recorded.values().all(|event| event.provider_key.is_empty() != by_own_key));
        let asked = own_keys::served(&provider);
        assert!(asked.iter().all(|ending| (ending == "draw") == by_own_key), "{asked:?}");
        let extended = survivor.siblings.extended.lock();
        assert!(reserved.iter().all(|id| extended.iter().any(|lease| lease.reservation_id == *id)), "{extended:?}");
    });
}
