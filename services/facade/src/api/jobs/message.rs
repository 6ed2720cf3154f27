//! Jobs as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use weir_proto::broker::v1 as proto;
use weir_rpc::Error;

use super::super::convert::{id, instant, optional_id, required, timestamp};

/// What the new job is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateJob {
    /// In order, 1 to 16.
    steps: Vec<CreateStep>,
    /// It does not begin before.
    #[serde(default)]
    run_time: Option<DateTime<Utc>>,
    /// Instead of `run_time`: from now on.
    #[serde(default)]
    delay_seconds: Option<u32>,
    /// When it is given up if it has not ended; a day after it could begin unless configured otherwise.
    #[serde(default)]
    expire_time: Option<DateTime<Utc>>,
    /// Told when the job has ended, by a POST that is signed as <https://www.standardwebhooks.com> says.
    #[serde(default)]
    webhook_url: String,
    /// What of the product it is for, as plans and limits know it: 1 to 64 letters, digits, `.`, `_` and `-`.
    #[serde(default)]
    feature: String,
}

/// A step: a call to a model (`operation` and `body`), a webhook, or what is to be stored.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateStep {
    /// Its name within the job; `step-1` and so on by default.
    #[serde(default)]
    key: String,
    /// What `body` is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operation: Option<Operation>,
    /// As the operation's own route takes it, not streamed. An object `{"$from": "key#/pointer"}` in it stands for the value at the
    /// JSON Pointer in the result of an earlier step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    body: Option<Box<RawValue>>,
    /// A signed POST; any 2xx is success. Sent again under the same `webhook-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    webhook: Option<Webhook>,
    /// Puts the pictures or sounds of an earlier step's result into object storage; its result has their addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    store: Option<Store>,
    /// 1 to 20; 3 by default.
    #[serde(default)]
    max_attempts: Option<u32>,
    /// Between the first try and the second; doubles with each one. 2 by default.
    #[serde(default)]
    backoff_seconds: Option<u32>,
    /// Of one try, without the time in a provider's line. 600 by default, 3,600 at most.
    #[serde(default)]
    timeout_seconds: Option<u32>,
}

/// What a step calls.
#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
pub(crate) enum Operation {
    /// `POST /v1/chat/completions`.
    #[serde(rename = "chat.completions")]
    ChatCompletions,
    /// `POST /v1/embeddings`.
    #[serde(rename = "embeddings")]
    Embeddings,
    /// `POST /v1/messages`.
    #[serde(rename = "messages")]
    Messages,
    /// `POST /v1/responses`.
    #[serde(rename = "responses")]
    Responses,
    /// `POST /v1/images/generations`.
    #[serde(rename = "images.generations")]
    Images,
    /// `POST /v1/audio/speech`; the sound is the step's result.
    #[serde(rename = "audio.speech")]
    Speech,
}

/// Where a webhook goes, and what it says.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Webhook {
    url: String,
    /// References as in a step's `body`.
    #[schema(value_type = Object)]
    body: Box<RawValue>,
}

/// What is stored.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    /// The key of the step that made it.
    from: String,
    /// Anybody who knows an address may read it; otherwise addresses are signed, and expire.
    #[serde(default)]
    public: bool,
}

/// How a job stands.
#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Waits: for its time, for room, or for its next try.
    Queued,
    /// Is worked on, or waits in a provider's line.
    Processing,
    /// Every step has its result.
    Complete,
    /// Dead, until it is run again.
    Failed,
    /// Ended on request.
    Cancelled,
}

/// Work that outlives its request.
#[derive(Serialize, ToSchema)]
pub(crate) struct Job {
    pub(super) id: String,
    #[schema(inline)]
    state: State,
    steps: Vec<Step>,
    /// The index of the step that is next or under way.
    current_step: i32,
    /// While it waits for others.
    queue: Option<Queue>,
    /// Why its last try failed.
    error: Option<JobError>,
    create_time: DateTime<Utc>,
    /// While it is queued: when it is tried next.
    run_time: Option<DateTime<Utc>>,
    expire_time: Option<DateTime<Utc>>,
    start_time: Option<DateTime<Utc>>,
    end_time: Option<DateTime<Utc>>,
    webhook_url: Option<String>,
    /// What of the product it is for.
    feature: Option<String>,
    /// The schedule that created it.
    schedule_id: Option<String>,
}

/// A page of jobs.
#[derive(Serialize, ToSchema)]
pub(crate) struct Jobs {
    pub(super) jobs: Vec<Job>,
    /// Empty on the last page.
    pub(super) next_page_token: String,
}

/// Where it stands.
#[derive(Serialize, ToSchema)]
pub(crate) struct Queue {
    /// From 1; only falls.
    position: i32,
    /// At the present pace, once that is known.
    eta_seconds: Option<i64>,
}

/// Why a try failed.
#[derive(Serialize, ToSchema)]
pub(crate) struct JobError {
    /// For programs, for instance `PROVIDER_FAILED`.
    reason: &'static str,
    message: String,
    /// Of the provider or the receiver that refused.
    http_status: Option<i32>,
}

/// A step and what it came to.
#[derive(Serialize, ToSchema)]
pub(crate) struct Step {
    #[serde(flatten)]
    step: CreateStep,
    /// None before it is done.
    result: Option<StepResult>,
}

/// What a step came to.
#[derive(Serialize, ToSchema)]
pub(crate) struct StepResult {
    /// As the provider answered, if that is JSON.
    #[schema(value_type = Option<Object>)]
    body: Option<Box<RawValue>>,
    /// As the provider answered, if it is something else.
    base64: Option<String>,
    content_type: String,
    /// The tries that it took.
    attempts: i32,
    end_time: DateTime<Utc>,
    /// Of a call to a model: whether its answer was kept from an earlier one.
    cached: Option<bool>,
    /// Of a call to a model: what it cost.
    cost_nano_usd: Option<i64>,
    input_tokens: Option<i64>,
    output_tokens: Option<i64>,
}

fn seconds(seconds: u32) -> prost_types::Duration {
    prost_types::Duration { seconds: seconds.into(), nanos: 0 }
}

impl CreateJob {
    /// One without times of its own.
    pub(super) fn of(steps: Vec<CreateStep>, webhook_url: String, feature: String) -> Self {
        Self { steps, run_time: None, delay_seconds: None, expire_time: None, webhook_url, feature }
    }

    /// From now on.
    pub(super) fn delay(&self) -> Option<prost_types::Duration> {
        self.delay_seconds.map(seconds)
    }
}

impl TryFrom<CreateJob> for proto::Job {
    type Error = Error;

    fn try_from(asked: CreateJob) -> Result<Self, Error> {
        let steps = asked.steps.into_iter().enumerate().map(|(index, step)| step.message(index));
        Ok(Self {
            steps: steps.collect::<Result<_, _>>()?,
            run_time: asked.run_time.map(timestamp),
            expire_time: asked.expire_time.map(timestamp),
            webhook_url: asked.webhook_url,
            feature: asked.feature,
            ..Self::default()
        })
    }
}

impl CreateStep {
    fn message(self, index: usize) -> Result<proto::JobStep, Error> {
        let bytes = |raw: Box<RawValue>| Bytes::from(Box::<str>::from(raw).into_string());
        let action = match (self.operation, self.body, self.webhook, self.store) {
            (Some(operation), Some(body), None, None) => proto::job_step::Action::Invoke(proto::InvokeAction {
                operation: proto::Operation::from(operation).into(),
                body: bytes(body),
            }),
            (None, None, Some(Webhook { url, body }), None) => {
                proto::job_step::Action::Webhook(proto::WebhookAction { url, body: bytes(body) })
            }
            (None, None, None, Some(Store { from, public })) => {
                proto::job_step::Action::Store(proto::StoreAction { from, public })
            }
            _ => {
                let message = "a step has either `operation` and `body`, or `webhook`, or `store`";
                return Err(Error::invalid(format!("steps[{index}]"), message));
            }
        };
        let tries = self.max_attempts.map(|tries| i32::try_from(tries).unwrap_or(i32::MAX));
        if tries == Some(0) {
            return Err(Error::invalid(format!("steps[{index}].max_attempts"), "must be from 1 to 20"));
        }
        Ok(proto::JobStep {
            key: self.key,
            action: Some(action),
            max_attempts: tries.unwrap_or(0),
            backoff: self.backoff_seconds.map(seconds),
            timeout: self.timeout_seconds.map(seconds),
            result: None,
        })
    }
}

impl From<Operation> for proto::Operation {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::ChatCompletions => Self::ChatCompletions,
            Operation::Embeddings => Self::Embeddings,
            Operation::Messages => Self::Messages,
            Operation::Responses => Self::Responses,
            Operation::Images => Self::Images,
            Operation::Speech => Self::Speech,
        }
    }
}

fn operation(operation: proto::Operation) -> Option<Operation> {
    match operation {
        proto::Operation::ChatCompletions => Some(Operation::ChatCompletions),
        proto::Operation::Embeddings => Some(Operation::Embeddings),
        proto::Operation::Messages => Some(Operation::Messages),
        proto::Operation::Responses => Some(Operation::Responses),
        proto::Operation::Images => Some(Operation::Images),
        proto::Operation::Speech => Some(Operation::Speech),
        // What is asked is no JSON, or has more than a body, or is no work.
        proto::Operation::Transcriptions
        | proto::Operation::ImageEdits
        | proto::Operation::TextToSpeech
        | proto::Operation::CountTokens
        | proto::Operation::Unspecified => None,
    }
}

impl From<State> for proto::JobState {
    fn from(state: State) -> Self {
        match state {
            State::Queued => Self::Queued,
            State::Processing => Self::Processing,
            State::Complete => Self::Complete,
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
        }
    }
}

fn state(state: proto::JobState) -> Result<State, Error> {
    Ok(match state {
        proto::JobState::Queued => State::Queued,
        proto::JobState::Processing => State::Processing,
        proto::JobState::Complete => State::Complete,
        proto::JobState::Failed => State::Failed,
        proto::JobState::Cancelled => State::Cancelled,
        proto::JobState::Unspecified => return Err(Error::defect("a job without a state")),
    })
}

impl TryFrom<proto::Job> for Job {
    type Error = Error;

    fn try_from(job: proto::Job) -> Result<Self, Error> {
        Ok(Self {
            id: id(&job.name),
            state: state(job.state())?,
            current_step: job.current_step,
            queue: job.standing.map(|standing| Queue {
                position: standing.position,
                eta_seconds: standing.eta.map(|eta| eta.seconds + i64::from(eta.nanos > 0)),
            }),
            error: job.error.map(|error| JobError {
                reason: error.reason().as_str_name().trim_start_matches("ERROR_REASON_"),
                http_status: Some(error.http_status).filter(|status| *status != 0),
                message: error.message,
            }),
            create_time: required(job.create_time)?,
            run_time: instant(job.run_time),
            expire_time: instant(job.expire_time),
            start_time: instant(job.start_time),
            end_time: instant(job.end_time),
            webhook_url: Some(job.webhook_url).filter(|url| !url.is_empty()),
            feature: Some(job.feature).filter(|feature| !feature.is_empty()),
            schedule_id: optional_id(&job.schedule),
            steps: job.steps.into_iter().map(Step::try_from).collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<proto::JobStep> for Step {
    type Error = Error;

    fn try_from(step: proto::JobStep) -> Result<Self, Error> {
        let duration = |span: Option<prost_types::Duration>| span.and_then(|span| u32::try_from(span.seconds).ok());
        let result = step.result.map(StepResult::try_from).transpose()?;
        let mut shown = CreateStep {
            key: step.key,
            operation: None,
            body: None,
            webhook: None,
            store: None,
            max_attempts: u32::try_from(step.max_attempts).ok(),
            backoff_seconds: duration(step.backoff),
            timeout_seconds: duration(step.timeout),
        };
        match step.action {
            Some(proto::job_step::Action::Invoke(invoke)) => {
                shown.operation = operation(invoke.operation());
                shown.body = raw(&invoke.body);
            }
            Some(proto::job_step::Action::Webhook(webhook)) => {
                let body = raw(&webhook.body).unwrap_or_else(|| RawValue::NULL.to_owned());
                shown.webhook = Some(Webhook { url: webhook.url, body });
            }
            Some(proto::job_step::Action::Store(store)) => {
                shown.store = Some(Store { from: store.from, public: store.public });
            }
            None => {}
        }
        Ok(Self { step: shown, result })
    }
}

impl TryFrom<proto::StepResult> for StepResult {
    type Error = Error;

    fn try_from(result: proto::StepResult) -> Result<Self, Error> {
        let accounting = result.accounting;
        let body = raw(&result.body);
        let base64 = (body.is_none() && !result.body.is_empty()).then(|| STANDARD.encode(&result.body));
        Ok(Self {
            body,
            base64,
            content_type: result.content_type,
            attempts: result.attempts,
            end_time: required(result.end_time)?,
            cached: accounting.as_ref().map(|one| one.cached),
            cost_nano_usd: accounting.as_ref().map(|one| one.cost_nano_usd),
            input_tokens: accounting.as_ref().map(|one| one.input_tokens),
            output_tokens: accounting.as_ref().map(|one| one.output_tokens),
        })
    }
}

/// JSON as it came; none if it is none.
fn raw(bytes: &[u8]) -> Option<Box<RawValue>> {
    serde_json::from_slice(bytes).ok()
}
