//! Jobs to messages.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use prost::Message as _;
use prost_types::Timestamp;
use weir_proto::broker::v1::{
    Accounting, InvokeAction, Job, JobError, JobState, JobStep, QueueStanding, Schedule, StepResult, StoreAction,
    WebhookAction, job_step, schedule,
};
use weir_rpc::Error;

use crate::app::jobs::{Detail, Standing, View, name};
use crate::domain::jobs::{Action, Spec, Step};
use crate::storage::jobs::read::ResultRow;
use crate::storage::jobs::schedules::ScheduleRow;
use crate::storage::jobs::{JobKey, state};

/// A job, with bodies and results if it was read in full.
pub(super) fn job(view: View) -> Job {
    let View { row, spec, detail, results, standing } = view;
    let key = JobKey::new(row.organization_id, row.job_id);
    let state = match row.state {
        state::DELAYED | state::READY => JobState::Queued,
        state::PROCESSING => JobState::Processing,
        state::COMPLETE => JobState::Complete,
        state::CANCELLED => JobState::Cancelled,
        _ => JobState::Failed,
    };
    let error = row.reason.map(|reason| JobError {
        reason,
        message: row.message.unwrap_or_default(),
        http_status: row.http_status.unwrap_or_default(),
    });
    let schedule = |id| format!("organizations/{}/schedules/{id}", key.organization);
    Job {
        name: name(key),
        state: state.into(),
        steps: steps(&spec, results, detail == Detail::Full),
        create_time: Some(timestamp(row.created_at)),
        run_time: (state == JobState::Queued).then(|| timestamp(row.due_at)),
        expire_time: Some(timestamp(row.expires_at)),
        start_time: row.started_at.map(timestamp),
        end_time: row.ended_at.map(timestamp),
        standing: standing.map(queue_standing),
        error,
        webhook_url: spec.webhook_url,
        feature: spec.who.feature,
        schedule: row.schedule_id.map(schedule).unwrap_or_default(),
        current_step: row.current_step.into(),
    }
}

fn steps(spec: &Spec, results: Vec<ResultRow>, bodies: bool) -> Vec<JobStep> {
    let mut steps: Vec<JobStep> = spec.steps.iter().map(|one| step(one, bodies)).collect();
    for row in results {
        if let Some(step) = usize::try_from(row.step).ok().and_then(|index| steps.get_mut(index)) {
            step.result = Some(StepResult {
                attempts: row.attempts.into(),
                end_time: Some(timestamp(row.ended_at)),
                accounting: row.accounting.and_then(|bytes| Accounting::decode(bytes.as_slice()).ok()),
                body: row.body.into(),
                content_type: row.content_type,
            });
        }
    }
    steps
}

fn step(step: &Step, bodies: bool) -> JobStep {
    let body = |body: &serde_json::value::RawValue| {
        if bodies { Bytes::copy_from_slice(body.get().as_bytes()) } else { Bytes::new() }
    };
    let action = match &step.action {
        Action::Invoke { operation, body: json } => {
            job_step::Action::Invoke(InvokeAction { operation: *operation, body: body(json) })
        }
        Action::Webhook { url, body: json } => {
            job_step::Action::Webhook(WebhookAction { url: url.clone(), body: body(json) })
        }
        Action::Store { from, public } => job_step::Action::Store(StoreAction { from: from.clone(), public: *public }),
    };
    let duration = |millis: u64| std::time::Duration::from_millis(millis).try_into().ok();
    JobStep {
        key: step.key.clone(),
        action: Some(action),
        max_attempts: step.max_attempts.into(),
        backoff: duration(step.backoff),
        timeout: duration(step.timeout),
        result: None,
    }
}

/// A schedule.
pub(super) fn schedule(row: ScheduleRow) -> Result<Schedule, Error> {
    let spec: Spec = serde_json::from_slice(&row.spec).map_err(Error::defect)?;
    let every = row.every_ms.and_then(|millis| u64::try_from(millis).ok()).map(std::time::Duration::from_millis);
    let every = every.and_then(|every| every.try_into().ok()).map(schedule::Pace::Every);
    let steps = steps(&spec, Vec::new(), true);
    Ok(Schedule {
        name: format!("organizations/{}/schedules/{}", row.organization_id, row.schedule_id),
        job: Some(Job { steps, webhook_url: spec.webhook_url, feature: spec.who.feature, ..Job::default() }),
        pace: row.cron.map(schedule::Pace::Cron).or(every),
        time_zone: row.time_zone,
        create_time: Some(timestamp(row.created_at)),
        next_time: Some(timestamp(row.next_at)),
    })
}

fn queue_standing(standing: Standing) -> QueueStanding {
    QueueStanding { position: standing.position, eta: standing.eta.and_then(|eta| eta.try_into().ok()) }
}

fn timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: at.timestamp(), nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0) }
}
