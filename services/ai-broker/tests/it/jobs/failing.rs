//! Jobs that do not go well: tries, limits, deadlines, ends.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use weir_proto::broker::v1::{CancelJobRequest, Job, JobState, RerunJobRequest};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Failure;
use weir_simulator::{Fault, Options};

use super::{House, invoke, one_step};
use crate::scene::{Scene, chat};

async fn rerun(scene: &Scene, name: &str) -> Result<Job, Failure> {
    let request = scene.bearer.request(RerunJobRequest { name: name.into() });
    scene.jobs.clone().rerun_job(request).await.map(tonic::Response::into_inner).map_err(Failure::from)
}

#[tokio::test]
async fn a_step_is_tried_again_after_a_while_and_those_before_it_are_not() {
    let House { scene, .. } = &House::with(Options::default(), "max_attempts = 1").await;
    let steps = vec![invoke("one", &chat(1, "")), invoke("two", &chat(1, "status=500,fail_times=2"))];
    let job = scene.create(Job { steps, ..Job::default() }).await;
    let job = scene.reaches(&job.name, JobState::Complete).await;
    let attempts: Vec<_> = job.steps.iter().map(|step| step.result.as_ref().unwrap().attempts).collect();
    assert_eq!(attempts, [1, 3]);
    assert_eq!(scene.provider.served().len(), 4);
    assert_eq!(scene.ends().await, (4, 2, 2));
}

#[tokio::test]
async fn a_job_without_tries_left_is_dead_until_it_is_run_again_and_keeps_its_results() {
    let House { scene, .. } = &House::with(Options::default(), "max_attempts = 1").await;
    let mut steps = vec![invoke("one", &chat(1, "")), invoke("two", &chat(1, "status=500,fail_times=2"))];
    steps[1].max_attempts = 2;
    let job = scene.create(Job { steps, ..Job::default() }).await;
    let dead = scene.reaches(&job.name, JobState::Failed).await;
    let error = dead.error.unwrap();
    assert_eq!((error.reason(), error.http_status), (ErrorReason::ProviderRejected, 500));
    assert!(dead.steps[0].result.is_some() && dead.steps[1].result.is_none());
    assert_eq!(scene.listed(JobState::Failed).await.len(), 1);

    let state = rerun(scene, &job.name).await.unwrap().state();
    assert!(matches!(state, JobState::Queued | JobState::Processing), "{state:?}");
    let job = scene.reaches(&job.name, JobState::Complete).await;
    assert!(job.error.is_none());
    assert_eq!(scene.answered(), 2, "the first step was not done again");
    let failure = rerun(scene, &job.name).await.unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::InvalidArgument);
}

#[tokio::test]
async fn a_mistake_is_not_tried_again() {
    let House { scene, .. } = &House::new().await;
    let mut unknown = chat(1, "");
    unknown["model"] = json!("nobody-knows");
    let job = scene.create(Job { steps: vec![invoke("one", &unknown)], ..Job::default() }).await;
    let job = scene.reaches(&job.name, JobState::Failed).await;
    assert_eq!(job.error.unwrap().reason(), ErrorReason::ModelNotFound);
    assert!(scene.provider.served().is_empty());
}

#[tokio::test]
async fn a_limit_of_the_tenants_own_is_waited_for_and_costs_no_try() {
    let House { scene, .. } = &House::new().await;
    // Quota is asked twice for each try.
    scene.siblings.refuse.store(6, Ordering::Relaxed);
    let mut job = one_step("");
    job.steps[0].max_attempts = 1;
    let job = scene.create(job).await;
    let waits = scene.reaches(&job.name, JobState::Queued).await;
    assert!(waits.end_time.is_none());
    let job = scene.reaches(&job.name, JobState::Complete).await;
    assert_eq!(job.steps[0].result.as_ref().unwrap().attempts, 1);
}

#[tokio::test]
async fn nobody_waits_beyond_a_jobs_deadline() {
    let House { scene, .. } = &House::with(Options::default(), "jobs.max_age = \"1s\"").await;
    let job = scene.create(one_step("latency_ms=1900")).await;
    let dead = scene.reaches(&job.name, JobState::Failed).await;
    assert_eq!(dead.error.unwrap().reason(), ErrorReason::DeadlineExceeded);
    scene.siblings.refuse.store(u64::MAX, Ordering::Relaxed);
    let job = scene.create(one_step("")).await;
    let dead = scene.reaches(&job.name, JobState::Failed).await;
    let reason = dead.error.unwrap().reason();
    assert!(matches!(reason, ErrorReason::QuotaExceeded | ErrorReason::DeadlineExceeded), "{reason:?}");
}

#[tokio::test]
async fn a_step_that_takes_too_long_is_broken_off_and_tried_again() {
    let House { scene, .. } = &House::new().await;
    scene.provider.add_fault(Fault {
        api_key: None,
        simulate: "latency_ms=1500".parse().unwrap(),
        times: Some(1),
        percent: None,
    });
    let mut job = one_step("");
    job.steps[0].timeout = Some(prost_types::Duration { seconds: 0, nanos: 300_000_000 });
    let job = scene.create(job).await;
    let job = scene.reaches(&job.name, JobState::Complete).await;
    assert_eq!(job.steps[0].result.as_ref().unwrap().attempts, 2);
}

#[tokio::test]
async fn cancelling_reaches_a_step_under_way() {
    let House { scene, .. } = &House::with(Options::default(), "drain = \"100ms\"").await;
    let steps = vec![invoke("one", &chat(1, "latency_ms=1900")), invoke("two", &chat(1, ""))];
    let job = scene.create(Job { steps, ..Job::default() }).await;
    scene.reaches(&job.name, JobState::Processing).await;
    scene.eventually("the step is under way", async |scene| !scene.siblings.reserved.lock().is_empty()).await;
    let request = scene.bearer.request(CancelJobRequest { name: job.name.clone() });
    scene.jobs.clone().cancel_job(request).await.unwrap();
    let job = scene.reaches(&job.name, JobState::Cancelled).await;
    assert!(job.steps.iter().all(|step| step.result.is_none()));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(scene.siblings.reserved.lock().len(), 1, "no further step was begun");
}

#[tokio::test]
async fn an_answer_that_is_too_long_to_keep_fails_the_step() {
    let House { scene, .. } = &House::with(Options::default(), "jobs.max_result_bytes = 1024").await;
    let job = scene.create(Job { steps: vec![invoke("one", &chat(2000, ""))], ..Job::default() }).await;
    let job = scene.reaches(&job.name, JobState::Failed).await;
    assert_eq!(job.error.unwrap().reason(), ErrorReason::TooLarge);
    assert_eq!(scene.ends().await, (1, 1, 0), "it is paid for all the same");
}
