//! Schedules: jobs that are created at times.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;
use weir_proto::broker::v1 as proto;
use weir_rpc::Error;
use weir_types::names;

use super::message::{CreateJob, CreateStep, Step};
use crate::api::convert::{id, required};
use crate::api::created::Created;
use crate::api::extract::{ApiPath, ApiQuery, By, LargeJson, NoQuery};
use crate::api::page::Page;
use crate::api::problem::Problem;
use crate::facade::Facade;

/// When which jobs are to be created: at the times of `cron`, or every so many seconds.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateSchedule {
    /// Of each job.
    steps: Vec<CreateStep>,
    #[serde(default)]
    webhook_url: String,
    /// Of each job: what of the product it is for, as plans and limits know it.
    #[serde(default)]
    feature: String,
    /// Five fields, or six with seconds first; `@daily` and its like.
    #[serde(default)]
    cron: Option<String>,
    /// IANA's name of the zone that `cron` is read in; `UTC` by default.
    #[serde(default)]
    time_zone: String,
    #[serde(default)]
    every_seconds: Option<u32>,
}

/// A schedule.
#[derive(Serialize, ToSchema)]
pub(crate) struct Schedule {
    id: String,
    steps: Vec<Step>,
    /// What of the product its jobs are for.
    feature: Option<String>,
    cron: Option<String>,
    every_seconds: Option<i64>,
    time_zone: String,
    create_time: DateTime<Utc>,
    /// When it creates its next job.
    next_time: DateTime<Utc>,
}

/// A page of schedules.
#[derive(Serialize, ToSchema)]
pub(crate) struct Schedules {
    schedules: Vec<Schedule>,
    /// Empty on the last page.
    next_page_token: String,
}

impl TryFrom<proto::Schedule> for Schedule {
    type Error = Error;

    fn try_from(schedule: proto::Schedule) -> Result<Self, Error> {
        let (cron, every_seconds) = match schedule.pace {
            Some(proto::schedule::Pace::Cron(cron)) => (Some(cron), None),
            Some(proto::schedule::Pace::Every(every)) => (None, Some(every.seconds)),
            None => (None, None),
        };
        let job = schedule.job.unwrap_or_default();
        Ok(Self {
            id: id(&schedule.name),
            feature: Some(job.feature).filter(|feature| !feature.is_empty()),
            steps: job.steps.into_iter().map(Step::try_from).collect::<Result<_, _>>()?,
            cron,
            every_seconds,
            time_zone: schedule.time_zone,
            create_time: required(schedule.create_time)?,
            next_time: required(schedule.next_time)?,
        })
    }
}

/// Begins a schedule. Times that pass while nothing runs are not made up for.
#[utoipa::path(
    post, path = "/api/v1/schedules", operation_id = "createSchedule", tag = "jobs", request_body = CreateSchedule,
    responses(
        (status = 201, description = "The schedule.", body = Schedule),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn create(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    LargeJson(asked): LargeJson<CreateSchedule>,
) -> Result<Created<Schedule>, Problem> {
    let pace = match (asked.cron, asked.every_seconds) {
        (Some(cron), None) => proto::schedule::Pace::Cron(cron),
        (None, Some(every)) => proto::schedule::Pace::Every(prost_types::Duration { seconds: every.into(), nanos: 0 }),
        _ => return Err(Error::invalid("cron", "a schedule has either `cron` or `every_seconds`").into()),
    };
    let job = CreateJob::of(asked.steps, asked.webhook_url, asked.feature).try_into()?;
    let schedule =
        proto::Schedule { job: Some(job), pace: Some(pace), time_zone: asked.time_zone, ..proto::Schedule::default() };
    let parent = names::organization(&caller.organization);
    let request = proto::CreateScheduleRequest { parent, schedule: Some(schedule) };
    let made =
        facade.as_caller(&caller, request, async |request| facade.jobs.clone().create_schedule(request).await).await?;
    let schedule = Schedule::try_from(made)?;
    Ok(Created { location: format!("/api/v1/schedules/{}", schedule.id), body: schedule })
}

/// Lists the organisation's schedules, newest first.
#[utoipa::path(
    get, path = "/api/v1/schedules", operation_id = "listSchedules", tag = "jobs", params(Page),
    responses(
        (status = 200, description = "A page of schedules.", body = Schedules),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn list(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    ApiQuery(page): ApiQuery<Page>,
) -> Result<Json<Schedules>, Problem> {
    let Page { page_size, page_token } = page;
    let parent = names::organization(&caller.organization);
    let request = proto::ListSchedulesRequest { parent, page_size, page_token };
    let listed =
        facade.as_caller(&caller, request, async |request| facade.jobs.clone().list_schedules(request).await).await?;
    let schedules = listed.schedules.into_iter().map(Schedule::try_from).collect::<Result<_, _>>()?;
    Ok(Json(Schedules { schedules, next_page_token: listed.next_page_token }))
}

/// Ends a schedule. Jobs that it created go on.
#[utoipa::path(
    delete, path = "/api/v1/schedules/{id}", operation_id = "deleteSchedule", tag = "jobs", params(("id" = Uuid, Path)),
    responses(
        (status = 204, description = "It has ended."),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn delete(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    ApiPath(schedule): ApiPath<Uuid>,
) -> Result<StatusCode, Problem> {
    let name = format!("{}/schedules/{schedule}", names::organization(&caller.organization));
    let request = proto::DeleteScheduleRequest { name };
    facade.as_caller(&caller, request, async |request| facade.jobs.clone().delete_schedule(request).await).await?;
    Ok(StatusCode::NO_CONTENT)
}
