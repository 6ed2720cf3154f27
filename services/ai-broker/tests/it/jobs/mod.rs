//! Jobs on a real Postgres, with a provider over a real socket.

mod counted;
mod failing;
mod fleet;
mod rate;
mod schedules;
mod steps;
mod webhooks;

use std::sync::Arc;

use serde_json::{Value, json};
use weir_proto::broker::v1::{
    CreateJobRequest, GetJobRequest, InvokeAction, Job, JobState, JobStep, ListJobsRequest, Operation, WebhookAction,
    job_step,
};
use weir_rpc::Failure;
use weir_simulator::{Options, Simulator};
use weir_testing::TestDatabase;
use weir_types::names;

use crate::database;
use crate::scene::{Scene, chat};

/// A broker that works on jobs.
pub(crate) struct House {
    pub(crate) scene: Scene,
    /// Dropped last: with it the database goes.
    _database: TestDatabase,
}

pub(crate) const QUICK: &str = "jobs.poll = \"20ms\"\njobs.beat = \"50ms\"\njobs.webhooks.allow_private = true";

impl House {
    pub(crate) async fn new() -> Self {
        Self::with(Options::default(), "").await
    }

    pub(crate) async fn with(options: Options, settings: &str) -> Self {
        let admin = database::database().await;
        let database = database::connect(&admin.url).await;
        let provider = Arc::new(Simulator::start(options).await.unwrap());
        let scene = Scene::with_jobs(&provider, database, &format!("{QUICK}\n{settings}")).await;
        Self { scene, _database: admin }
    }
}

/// A step that asks for a chat of so many tokens.
pub(crate) fn invoke(key: &str, body: &Value) -> JobStep {
    let action = InvokeAction { operation: Operation::ChatCompletions.into(), body: body.to_string().into() };
    JobStep {
        key: key.into(),
        action: Some(job_step::Action::Invoke(action)),
        backoff: Some(prost_types::Duration { seconds: 0, nanos: 10_000_000 }),
        ..JobStep::default()
    }
}

/// A job of one short chat.
pub(crate) fn one_step(directive: &str) -> Job {
    Job { steps: vec![invoke("one", &chat(2, directive))], ..Job::default() }
}

pub(crate) fn webhook(key: &str, url: &str, body: &Value) -> JobStep {
    let action = WebhookAction { url: url.into(), body: body.to_string().into() };
    JobStep { action: Some(job_step::Action::Webhook(action)), ..invoke(key, &json!({})) }
}

impl Scene {
    pub(crate) async fn create(&self, job: Job) -> Job {
        self.try_create(job, "").await.unwrap()
    }

    pub(crate) async fn try_create(&self, job: Job, idempotency_key: &str) -> Result<Job, Failure> {
        let request = CreateJobRequest {
            parent: names::organization(&self.organization),
            job: Some(job),
            idempotency_key: idempotency_key.into(),
            ..CreateJobRequest::default()
        };
        let answer = self.jobs.clone().create_job(self.bearer.request(request)).await;
        answer.map(tonic::Response::into_inner).map_err(Failure::from)
    }

    pub(crate) async fn job(&self, name: &str) -> Job {
        let request = self.bearer.request(GetJobRequest { name: name.into(), ..GetJobRequest::default() });
        self.jobs.clone().get_job(request).await.unwrap().into_inner()
    }

    /// The names of those in this state, newest first.
    pub(crate) async fn listed(&self, state: JobState) -> Vec<Job> {
        let parent = names::organization(&self.organization);
        let request =
            self.bearer.request(ListJobsRequest { parent, state: state.into(), ..ListJobsRequest::default() });
        self.jobs.clone().list_jobs(request).await.unwrap().into_inner().jobs
    }

    /// The job, once it is in this state.
    pub(crate) async fn reaches(&self, name: &str, state: JobState) -> Job {
        for _ in 0..3000 {
            let job = self.job(name).await;
            if job.state() == state {
                return job;
            }
            assert!(job.end_time.is_none(), "it ended otherwise: {job:?}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("never {state:?}: {:?}", self.job(name).await);
    }

    /// How many calls the provider answered well.
    pub(crate) fn answered(&self) -> usize {
        self.provider.served().iter().filter(|served| served.status == 200).count()
    }
}

/// What a step came to, as JSON.
pub(crate) fn result(job: &Job, step: usize) -> Value {
    serde_json::from_slice(&job.steps[step].result.as_ref().unwrap().body).unwrap()
}
