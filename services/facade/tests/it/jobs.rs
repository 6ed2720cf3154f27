//! Jobs, schedules and webhook secrets as JSON.

use futures::StreamExt as _;
use prost_types::{Duration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;
use weir_proto::broker::v1 as proto;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;
use weir_types::names;

use crate::answers::problem;
use crate::fixtures::*;
use crate::scene::Scene;

/// 2026-01-02T03:04:05Z.
const THEN: Option<Timestamp> = Some(Timestamp { seconds: 1_767_323_045, nanos: 0 });
const THEN_TEXT: &str = "2026-01-02T03:04:05Z";
const ID: Uuid = Uuid::from_u128(0x0192_f0c1_2d3e_7f00_8a1b_2c3d_4e5f_6a7b);

fn job(scene: &Scene, state: proto::JobState) -> proto::Job {
    let invoke = proto::InvokeAction {
        operation: proto::Operation::ChatCompletions.into(),
        body: r#"{"model":"m","x":1.50}"#.into(),
    };
    let result = proto::StepResult {
        body: r#"{"id":"a",  "n":1.0}"#.into(),
        content_type: "application/json".into(),
        attempts: 2,
        end_time: THEN,
        accounting: Some(proto::Accounting {
            input_tokens: 3,
            output_tokens: 4,
            cost_nano_usd: 5,
            ..Default::default()
        }),
    };
    proto::Job {
        name: format!("{}/jobs/{ID}", names::organization(&scene.organization)),
        state: state.into(),
        steps: vec![proto::JobStep {
            key: "one".into(),
            action: Some(proto::job_step::Action::Invoke(invoke)),
            max_attempts: 3,
            backoff: Some(Duration { seconds: 2, nanos: 0 }),
            timeout: Some(Duration { seconds: 600, nanos: 0 }),
            result: Some(result),
        }],
        create_time: THEN,
        expire_time: THEN,
        standing: Some(proto::QueueStanding { position: 7, eta: Some(Duration { seconds: 8, nanos: 1 }) }),
        error: Some(proto::JobError {
            reason: ErrorReason::ProviderFailed.into(),
            message: "it broke".into(),
            http_status: 0,
        }),
        feature: "interview".into(),
        ..proto::Job::default()
    }
}

fn job_json(state: &str) -> Value {
    json!({
        "id": ID, "state": state, "current_step": 0,
        "steps": [{
            "key": "one", "operation": "chat.completions", "body": {"model": "m", "x": 1.50}, "max_attempts": 3,
            "backoff_seconds": 2, "timeout_seconds": 600,
            "result": {
                "body": {"id": "a", "n": 1.0}, "base64": null, "content_type": "application/json", "attempts": 2,
                "end_time": THEN_TEXT, "cached": false, "cost_nano_usd": 5, "input_tokens": 3, "output_tokens": 4,
            },
        }],
        "queue": {"position": 7, "eta_seconds": 9},
        "error": {"reason": "PROVIDER_FAILED", "message": "it broke", "http_status": null},
        "create_time": THEN_TEXT, "run_time": null, "expire_time": THEN_TEXT, "start_time": null, "end_time": null,
        "webhook_url": null, "feature": "interview", "schedule_id": null,
    })
}

async fn json_of(request: reqwest::RequestBuilder, status: u16) -> Value {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["cache-control"], "no-store");
    response.json().await.unwrap()
}

#[tokio::test]
async fn a_job_is_created_with_its_bodies_as_they_came() {
    let scene = Scene::new().await;
    scene.siblings.answer(CREATE_JOB, job(&scene, proto::JobState::Queued));
    let body = r#"{"steps":[{"key":"one","operation":"chat.completions","body":{"z":1.50,"a":12345678901234567890123},
        "max_attempts":5,"backoff_seconds":1},{"webhook":{"url":"https://e.org/h","body":{"x":{"$from":"one#/id"}}}}],
        "delay_seconds":60,"expire_time":"2026-01-02T03:04:05Z","webhook_url":"https://e.org/end","feature":"interview"}"#;
    let request = scene.request("POST", "/api/v1/jobs").bearer_auth(crate::scene::KEY).body(body);
    let request = request.header("idempotency-key", "order-7");
    let response = request.try_clone().unwrap().send().await.unwrap();
    assert_eq!(response.headers()["location"], format!("/api/v1/jobs/{ID}"));
    assert_eq!(json_of(request, 201).await, job_json("queued"));
    let (asked, _) = scene.siblings.last::<proto::CreateJobRequest>(CREATE_JOB);
    assert_eq!(asked.parent, names::organization(&scene.organization));
    assert_eq!((asked.idempotency_key.as_str(), asked.delay), ("order-7", Some(Duration { seconds: 60, nanos: 0 })));
    assert_eq!(asked.client_ip, "127.0.0.1");
    let asked = asked.job.unwrap();
    assert_eq!((asked.expire_time, asked.webhook_url.as_str()), (THEN, "https://e.org/end"));
    assert_eq!(asked.feature, "interview");
    assert_eq!((asked.steps[0].max_attempts, asked.steps[0].backoff), (5, Some(Duration { seconds: 1, nanos: 0 })));
    match (asked.steps[0].action.as_ref().unwrap(), asked.steps[1].action.as_ref().unwrap()) {
        (proto::job_step::Action::Invoke(invoke), proto::job_step::Action::Webhook(webhook)) => {
            assert_eq!(invoke.body, r#"{"z":1.50,"a":12345678901234567890123}"#);
            assert_eq!(
                (webhook.url.as_str(), webhook.body.as_ref()),
                ("https://e.org/h", br#"{"x":{"$from":"one#/id"}}"#.as_slice())
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_step_that_is_neither_one_nor_the_other_is_refused_here() {
    let scene = Scene::new().await;
    for (step, parameter) in [
        (json!({"operation": "chat.completions"}), "steps[0]"),
        (json!({"body": {}}), "steps[0]"),
        (json!({"operation": "embeddings", "body": {}, "webhook": {"url": "https://e.org", "body": {}}}), "steps[0]"),
        (json!({"operation": "dance", "body": {}}), "steps[0].operation"),
        (json!({"operation": "embeddings", "body": {}, "max_attempts": 0}), "steps[0].max_attempts"),
        (json!({"operation": "embeddings", "body": {}, "unheard_of": 0}), "steps[0].unheard_of"),
    ] {
        let response = scene.post("/api/v1/jobs", &json!({"steps": [step]})).send().await.unwrap();
        let (status, answer) = problem(response).await;
        assert_eq!((status, answer["parameters"][0]["name"].as_str()), (400, Some(parameter)), "{answer}");
    }
    assert_eq!(scene.siblings.count(CREATE_JOB), 0);
}

#[tokio::test]
async fn jobs_are_listed_read_cancelled_and_run_again() {
    let scene = Scene::new().await;
    let listed =
        proto::ListJobsResponse { jobs: vec![job(&scene, proto::JobState::Failed)], next_page_token: "n".into() };
    scene.siblings.answer(LIST_JOBS, listed);
    let answer = json_of(scene.get("/api/v1/jobs?page_size=7&page_token=abc&state=failed"), 200).await;
    assert_eq!(answer, json!({"jobs": [job_json("failed")], "next_page_token": "n"}));
    let (asked, _) = scene.siblings.last::<proto::ListJobsRequest>(LIST_JOBS);
    assert_eq!((asked.page_size, asked.page_token.as_str(), asked.state()), (7, "abc", proto::JobState::Failed));

    let name = job(&scene, proto::JobState::Complete).name;
    let path = format!("/api/v1/jobs/{ID}");
    scene.siblings.answer(GET_JOB, job(&scene, proto::JobState::Complete));
    assert_eq!(json_of(scene.get(&path), 200).await, job_json("complete"));
    let (asked, _) = scene.siblings.last::<proto::GetJobRequest>(GET_JOB);
    assert_eq!((asked.name.as_str(), asked.view()), (name.as_str(), proto::JobView::Full));
    json_of(scene.get(&format!("{path}?view=basic")), 200).await;
    assert_eq!(scene.siblings.last::<proto::GetJobRequest>(GET_JOB).0.view(), proto::JobView::Basic);
    scene.siblings.answer(CANCEL_JOB, job(&scene, proto::JobState::Cancelled));
    let delete = scene.request("DELETE", &path).bearer_auth(crate::scene::KEY);
    assert_eq!(json_of(delete, 200).await, job_json("cancelled"));
    assert_eq!(scene.siblings.last::<proto::CancelJobRequest>(CANCEL_JOB).0.name, name);
    scene.siblings.answer(RERUN_JOB, job(&scene, proto::JobState::Processing));
    assert_eq!(json_of(scene.post(&format!("{path}/rerun"), &json!({})), 200).await, job_json("processing"));
    assert_eq!(scene.siblings.last::<proto::RerunJobRequest>(RERUN_JOB).0.name, name);
}

#[tokio::test]
async fn changes_come_as_events_until_the_end() {
    let scene = Scene::new().await;
    let told = [proto::JobState::Queued, proto::JobState::Complete].map(|state| job(&scene, state));
    scene.siblings.stream(WATCH_JOB, move || {
        let told = told.clone().map(|job| Ok(proto::WatchJobResponse { job: Some(job) }));
        futures::stream::iter(told).boxed()
    });
    let response = scene.get(&format!("/api/v1/jobs/{ID}/events?view=basic")).send().await.unwrap();
    assert_eq!(scene.siblings.last::<proto::WatchJobRequest>(WATCH_JOB).0.view(), proto::JobView::Basic);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.unwrap();
    let events: Vec<_> =
        text.split_terminator("\n\n").map(|event| event.strip_prefix("event: job\ndata: ").unwrap()).collect();
    let told: Vec<Value> = events.into_iter().map(|data| serde_json::from_str(data).unwrap()).collect();
    assert_eq!(told, [job_json("queued"), job_json("complete")]);
    let gone = Error::not_found("jobs/x");
    scene.siblings.refuse(WATCH_JOB, gone);
    let (status, _) = problem(scene.get(&format!("/api/v1/jobs/{ID}/events")).send().await.unwrap()).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn schedules_are_created_listed_and_deleted() {
    let scene = Scene::new().await;
    let name = format!("{}/schedules/{ID}", names::organization(&scene.organization));
    let schedule = proto::Schedule {
        name: name.clone(),
        job: Some(proto::Job { steps: vec![], ..proto::Job::default() }),
        pace: Some(proto::schedule::Pace::Cron("0 9 * * *".into())),
        time_zone: "Europe/Berlin".into(),
        create_time: THEN,
        next_time: THEN,
    };
    let shown = json!({
        "id": ID, "steps": [], "feature": null, "cron": "0 9 * * *", "every_seconds": null, "time_zone": "Europe/Berlin",
        "create_time": THEN_TEXT, "next_time": THEN_TEXT,
    });
    scene.siblings.answer(CREATE_SCHEDULE, schedule.clone());
    let step = json!({"operation": "embeddings", "body": {"model": "m"}});
    let body = json!({"steps": [step], "cron": "0 9 * * *", "time_zone": "Europe/Berlin"});
    assert_eq!(json_of(scene.post("/api/v1/schedules", &body), 201).await, shown);
    let (asked, _) = scene.siblings.last::<proto::CreateScheduleRequest>(CREATE_SCHEDULE);
    let asked = asked.schedule.unwrap();
    assert_eq!((asked.pace, asked.job.unwrap().steps.len()), (schedule.pace.clone(), 1));
    let both = json!({"steps": [], "cron": "0 9 * * *", "every_seconds": 5});
    assert_eq!(problem(scene.post("/api/v1/schedules", &both).send().await.unwrap()).await.0, 400);

    let listed = proto::ListSchedulesResponse { schedules: vec![schedule], next_page_token: String::new() };
    scene.siblings.answer(LIST_SCHEDULES, listed);
    assert_eq!(
        json_of(scene.get("/api/v1/schedules"), 200).await,
        json!({"schedules": [shown], "next_page_token": ""})
    );
    scene.siblings.answer(DELETE_SCHEDULE, proto::DeleteScheduleResponse {});
    let path = format!("/api/v1/schedules/{ID}");
    let deleted = scene.request("DELETE", &path).bearer_auth(crate::scene::KEY).send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    assert_eq!(scene.siblings.last::<proto::DeleteScheduleRequest>(DELETE_SCHEDULE).0.name, name);
}

#[tokio::test]
async fn the_secret_of_webhooks_is_shown_by_its_rotation() {
    let scene = Scene::new().await;
    scene.siblings.answer(ROTATE_WEBHOOK_SECRET, proto::RotateWebhookSecretResponse { secret: "whsec_x".into() });
    let answer = json_of(scene.post("/api/v1/webhook-secret/rotate", &json!({"overlap_seconds": 5})), 200).await;
    assert_eq!(answer, json!({"secret": "whsec_x"}));
    let (asked, _) = scene.siblings.last::<proto::RotateWebhookSecretRequest>(ROTATE_WEBHOOK_SECRET);
    assert_eq!(asked.overlap, Some(Duration { seconds: 5, nanos: 0 }));
}
