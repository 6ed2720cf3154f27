//! Messages to what a job is.

use std::time::Duration;

use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use serde_json::value::RawValue;
use weir_proto::broker::v1::{Job, JobState, JobStep, JobView, job_step, schedule};
use weir_rpc::Error;

use crate::app::jobs::Detail;
use crate::domain::jobs::{Action, MAX_STEPS, Spec, Step, Who};
use crate::storage::jobs::read::Filter;
use crate::storage::jobs::state;

const TRIES: u16 = 3;
const BACKOFF: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(600);
const MAX_KEY: usize = 255;

/// The steps and the webhook of a job; the rest is output, or read elsewhere.
pub(super) fn spec(job: Job, who: Who) -> Result<Spec, Error> {
    if job.steps.len() > MAX_STEPS {
        return Err(Error::invalid("job.steps", format!("a job has 1 to {MAX_STEPS} steps")));
    }
    let steps = job.steps.into_iter().enumerate().map(|(index, one)| step(index, one));
    Ok(Spec { steps: steps.collect::<Result<_, _>>()?, webhook_url: job.webhook_url, who })
}

fn step(index: usize, step: JobStep) -> Result<Step, Error> {
    let at = |field: &str| format!("job.steps[{index}].{field}");
    let json = |field: &str, body: &[u8]| -> Result<Box<RawValue>, Error> {
        serde_json::from_slice(body).map_err(|error| Error::invalid(at(field), format!("must be JSON: {error}")))
    };
    let action = match step.action {
        Some(job_step::Action::Invoke(invoke)) => {
            if crate::grpc::api(invoke.operation()).is_none() {
                return Err(Error::invalid(at("invoke.operation"), "is required, and must be one that takes JSON"));
            }
            Action::Invoke { operation: invoke.operation, body: json("invoke.body", &invoke.body)? }
        }
        Some(job_step::Action::Webhook(webhook)) => {
            Action::Webhook { url: webhook.url, body: json("webhook.body", &webhook.body)? }
        }
        Some(job_step::Action::Store(store)) => Action::Store { from: store.from, public: store.public },
        None => return Err(Error::invalid(at("action"), "`invoke`, `webhook` or `store` is required")),
    };
    let max_attempts = match u16::try_from(step.max_attempts) {
        Ok(0) => TRIES,
        Ok(tries) => tries,
        Err(_) => return Err(Error::invalid(at("max_attempts"), "must be from 1 to 20")),
    };
    Ok(Step {
        key: if step.key.is_empty() { format!("step-{}", index + 1) } else { step.key },
        action,
        max_attempts,
        backoff: millis(duration(&at("backoff"), step.backoff.as_ref())?.unwrap_or(BACKOFF)),
        timeout: millis(duration(&at("timeout"), step.timeout.as_ref())?.unwrap_or(TIMEOUT)),
    })
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// When a job is to begin; none: at once.
pub(super) fn run_at(job: &Job, delay: Option<&prost_types::Duration>) -> Result<Option<DateTime<Utc>>, Error> {
    let Some(delay) = duration("delay", delay)? else { return instant("job.run_time", job.run_time.as_ref()) };
    if job.run_time.is_some() {
        return Err(Error::invalid("delay", "`job.run_time` says when, too: set one of them"));
    }
    let at = chrono::TimeDelta::from_std(delay).ok().and_then(|delay| Utc::now().checked_add_signed(delay));
    at.map(Some).ok_or_else(|| Error::invalid("delay", "is too long"))
}

/// A duration that is not negative.
pub(super) fn duration(field: &str, given: Option<&prost_types::Duration>) -> Result<Option<Duration>, Error> {
    let read = |given: &prost_types::Duration| {
        Duration::try_from(*given).map_err(|_| Error::invalid(field, "must be a duration that is not negative"))
    };
    given.map(read).transpose()
}

/// An instant.
pub(super) fn instant(field: &str, given: Option<&Timestamp>) -> Result<Option<DateTime<Utc>>, Error> {
    let read = |given: &Timestamp| {
        let nanos = u32::try_from(given.nanos).ok();
        let instant = nanos.and_then(|nanos| DateTime::from_timestamp(given.seconds, nanos));
        instant.ok_or_else(|| Error::invalid(field, "must be an instant"))
    };
    given.map(read).transpose()
}

/// A key of visible ASCII characters.
pub(super) fn idempotency_key(key: String) -> Result<Option<String>, Error> {
    if key.is_empty() {
        return Ok(None);
    }
    if key.len() > MAX_KEY || !key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return Err(Error::invalid("idempotency_key", format!("must have at most {MAX_KEY} visible ASCII characters")));
    }
    Ok(Some(key))
}

/// Which jobs are listed.
pub(super) fn filter(asked: i32) -> Result<Filter, Error> {
    Ok(match JobState::try_from(asked) {
        Ok(JobState::Unspecified) => Filter::All,
        Ok(JobState::Queued) => Filter::Queued,
        Ok(JobState::Processing) => Filter::State(state::PROCESSING),
        Ok(JobState::Complete) => Filter::State(state::COMPLETE),
        Ok(JobState::Failed) => Filter::State(state::FAILED),
        Ok(JobState::Cancelled) => Filter::State(state::CANCELLED),
        Err(_) => return Err(Error::invalid("state", "is not known")),
    })
}

/// How much of a job is asked for.
pub(super) fn detail(asked: i32) -> Result<Detail, Error> {
    match JobView::try_from(asked) {
        Ok(JobView::Basic) => Ok(Detail::Basic),
        Ok(JobView::Unspecified | JobView::Full) => Ok(Detail::Full),
        Err(_) => Err(Error::invalid("view", "is not known")),
    }
}

/// A pattern, or milliseconds.
pub(super) fn pace(pace: Option<schedule::Pace>) -> Result<(Option<String>, Option<i64>), Error> {
    match pace {
        Some(schedule::Pace::Cron(pattern)) => Ok((Some(pattern), None)),
        Some(schedule::Pace::Every(every)) => {
            let every = duration("schedule.every", Some(&every))?.unwrap_or_default();
            Ok((None, Some(i64::try_from(every.as_millis()).unwrap_or(i64::MAX))))
        }
        None => Err(Error::invalid("schedule.pace", "`cron` or `every` is required")),
    }
}
