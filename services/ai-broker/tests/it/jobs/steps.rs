//! Jobs that go well: steps in order, results, times, lists.

use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use serde_json::json;
use weir_proto::broker::v1::{
    CancelJobRequest, CreateJobRequest, GetJobRequest, Job, JobState, JobView, ListJobsRequest, WatchJobRequest,
    job_step::Action,
};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Failure;
use weir_types::names;

use super::{House, invoke, one_step, result};
use crate::scene::chat;

#[tokio::test]
async fn steps_go_in_order_and_take_what_earlier_ones_said() {
    let House { scene, .. } = &House::new().await;
    let first = chat(4, "");
    let mut second = chat(2, "");
    second["messages"][0]["content"] = json!({"$from": "write#/choices/0/message/content"});
    let steps = vec![invoke("write", &first), invoke("rewrite", &second)];
    let job = scene.create(Job { steps, ..Job::default() }).await;
    assert_eq!(job.state(), JobState::Queued);
    let job = scene.reaches(&job.name, JobState::Complete).await;
    assert_eq!(result(&job, 0)["usage"]["completion_tokens"], 4);
    assert_eq!(result(&job, 1)["usage"]["prompt_tokens"], 4, "the four words that the first step said");
    let accounting = job.steps[1].result.as_ref().unwrap().accounting.as_ref().unwrap();
    assert_eq!((accounting.input_tokens, accounting.output_tokens), (4, 2));
    assert!(job.start_time.is_some() && job.end_time.is_some() && job.error.is_none());
    assert_eq!(scene.ends().await, (2, 2, 0));
    let id = job.name.rsplit('/').next().unwrap();
    let mut told: Vec<_> = scene.siblings.recorded.lock().values().map(|event| event.request_id.clone()).collect();
    told.sort();
    assert_eq!(told, [format!("job-{id}-0-1"), format!("job-{id}-1-1")]);
}

#[tokio::test]
async fn a_key_that_is_repeated_answers_its_job_and_another_job_under_it_is_refused() {
    let House { scene, .. } = &House::new().await;
    let first = scene.try_create(one_step(""), "order-7").await.unwrap();
    let again = scene.try_create(one_step(""), "order-7").await.unwrap();
    assert_eq!(first.name, again.name);
    let other = scene.try_create(one_step("latency_ms=1"), "order-7").await.unwrap_err();
    assert_eq!(other.reason(), ErrorReason::IdReused);
    scene.reaches(&first.name, JobState::Complete).await;
    assert_eq!(scene.answered(), 1);
}

#[tokio::test]
async fn a_job_waits_for_its_time_and_can_be_cancelled_meanwhile() {
    let House { scene, .. } = &House::new().await;
    let request = |millis: i32| {
        scene.bearer.request(CreateJobRequest {
            parent: names::organization(&scene.organization),
            job: Some(one_step("")),
            delay: Some(prost_types::Duration { seconds: 0, nanos: millis * 1_000_000 }),
            ..CreateJobRequest::default()
        })
    };
    let soon = scene.jobs.clone().create_job(request(300)).await.unwrap().into_inner();
    let began = SystemTime::now();
    let never = scene.jobs.clone().create_job(request(900)).await.unwrap().into_inner();
    let cancel = scene.bearer.request(CancelJobRequest { name: never.name.clone() });
    assert_eq!(scene.jobs.clone().cancel_job(cancel).await.unwrap().into_inner().state(), JobState::Cancelled);
    scene.reaches(&soon.name, JobState::Complete).await;
    assert!(began.elapsed().unwrap() >= Duration::from_millis(250));
    assert_eq!(scene.job(&never.name).await.state(), JobState::Cancelled);
    assert_eq!(scene.answered(), 1);
}

#[tokio::test]
async fn lists_have_pages_and_only_the_state_that_is_asked_for() {
    let House { scene, .. } = &House::new().await;
    let mut names = Vec::new();
    for directive in ["", "", "status=400", ""] {
        names.push(scene.create(one_step(directive)).await.name);
    }
    for (name, state) in
        names.iter().zip([JobState::Complete, JobState::Complete, JobState::Failed, JobState::Complete])
    {
        scene.reaches(name, state).await;
    }
    names.reverse();
    let page = async |page_token: String| {
        let parent = weir_types::names::organization(&scene.organization);
        let request = ListJobsRequest { parent, page_size: 3, page_token, ..ListJobsRequest::default() };
        scene.jobs.clone().list_jobs(scene.bearer.request(request)).await.unwrap().into_inner()
    };
    let first = page(String::new()).await;
    let second = page(first.next_page_token.clone()).await;
    let listed: Vec<_> = first.jobs.iter().chain(&second.jobs).map(|job| job.name.clone()).collect();
    assert_eq!((listed, second.next_page_token.as_str()), (names.clone(), ""));
    assert!(first.jobs.iter().all(|job| job.steps[0].result.is_none()));
    let dead = scene.listed(JobState::Failed).await;
    assert_eq!(dead.iter().map(|job| &job.name).collect::<Vec<_>>(), [&names[1]]);
    assert_eq!(scene.listed(JobState::Complete).await.len(), 3);
    assert!(scene.listed(JobState::Queued).await.is_empty() && scene.listed(JobState::Processing).await.is_empty());
}

#[tokio::test]
async fn nobody_sees_or_ends_the_jobs_of_another_organisation() {
    let House { scene, .. } = &House::new().await;
    let job = scene.create(one_step("latency_ms=300")).await;
    let mut jobs = scene.jobs.clone();
    let seen = jobs
        .get_job(scene.stranger.request(GetJobRequest { name: job.name.clone(), ..GetJobRequest::default() }))
        .await
        .unwrap_err();
    assert_eq!(Failure::from(seen).reason(), ErrorReason::NotFound);
    let ended = jobs.cancel_job(scene.stranger.request(CancelJobRequest { name: job.name.clone() })).await.unwrap_err();
    assert_eq!(Failure::from(ended).reason(), ErrorReason::NotFound);
    let parent = names::organization(&scene.organization);
    let listed = jobs.list_jobs(scene.stranger.request(ListJobsRequest { parent, ..ListJobsRequest::default() })).await;
    assert_eq!(Failure::from(listed.unwrap_err()).reason(), ErrorReason::NotFound);
    scene.reaches(&job.name, JobState::Complete).await;
}

#[tokio::test]
async fn whoever_watches_sees_each_change_until_the_end() {
    let House { scene, .. } = &House::new().await;
    let steps = vec![invoke("one", &chat(1, "latency_ms=500")), invoke("two", &chat(1, "latency_ms=500"))];
    let job = scene.create(Job { steps, ..Job::default() }).await;
    let request = scene.bearer.request(WatchJobRequest { name: job.name, ..WatchJobRequest::default() });
    let told = scene.jobs.clone().watch_job(request).await.unwrap().into_inner();
    let told: Vec<Job> = told.map(|told| told.unwrap().job.unwrap()).collect().await;
    let steps: Vec<i32> = told.iter().map(|job| job.current_step).collect();
    assert!(steps.is_sorted() && steps.contains(&1), "{steps:?}");
    let last = told.last().unwrap();
    assert_eq!((last.state(), last.current_step), (JobState::Complete, 2));
    assert!(last.steps.iter().all(|step| step.result.is_some()));
}

#[tokio::test]
async fn who_asks_for_the_basic_view_gets_no_bodies_and_results() {
    let House { scene, .. } = &House::new().await;
    let name = scene.create(one_step("")).await.name;
    assert!(scene.reaches(&name, JobState::Complete).await.steps[0].result.is_some());
    let bare = |job: &Job| match &job.steps[0].action {
        Some(Action::Invoke(invoke)) => invoke.body.is_empty() && job.steps[0].result.is_none(),
        _ => false,
    };
    let view = JobView::Basic.into();
    let request = scene.bearer.request(GetJobRequest { name: name.clone(), view });
    let read = scene.jobs.clone().get_job(request).await.unwrap().into_inner();
    assert_eq!((read.state(), read.current_step, bare(&read)), (JobState::Complete, 1, true));
    let request = scene.bearer.request(WatchJobRequest { name: name.clone(), view });
    let told = scene.jobs.clone().watch_job(request).await.unwrap().into_inner().next().await;
    assert!(bare(&told.unwrap().unwrap().job.unwrap()));
    let request = scene.bearer.request(GetJobRequest { name, view: 99 });
    let refused = Failure::from(scene.jobs.clone().get_job(request).await.unwrap_err());
    assert_eq!(refused.fields()[0].subject, "view");
}

#[tokio::test]
async fn what_can_not_be_carried_out_is_refused_at_once() {
    let House { scene, .. } = &House::new().await;
    let refused = async |job: Job| scene.try_create(job, "").await.unwrap_err().fields()[0].subject.clone();
    assert_eq!(refused(Job::default()).await, "job.steps");
    let later = json!({"model": "sim-small", "messages": {"$from": "later#/x"}});
    assert_eq!(refused(Job { steps: vec![invoke("one", &later)], ..Job::default() }).await, "job.steps[0].body");
    let mut long = one_step("");
    long.steps[0].max_attempts = 21;
    assert_eq!(refused(long).await, "job.steps[0].max_attempts");
    assert_eq!(refused(Job { webhook_url: "nowhere".into(), ..one_step("") }).await, "job.webhook_url");
}
