//! Jobs: work that outlives its request.

mod events;
mod message;
mod schedules;
mod webhook_secret;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;
use weir_proto::broker::v1 as proto;
use weir_types::{OrganizationId, names};

use super::created::Created;
use super::extract::{ApiPath, ApiQuery, By, LargeJson, NoQuery};
use super::problem::Problem;
use crate::calls::reuse::idempotency_key;
use crate::facade::Facade;
use crate::network;

pub(super) use message::Operation;
use message::{CreateJob, Job, Jobs, State as JobState};

/// The routes of jobs and schedules.
pub(super) fn routes() -> OpenApiRouter<Arc<Facade>> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(get, cancel))
        .routes(routes!(rerun))
        .routes(routes!(events::watch))
        .routes(routes!(schedules::create, schedules::list))
        .routes(routes!(schedules::delete))
        .routes(routes!(webhook_secret::rotate))
}

/// A page of jobs.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct JobsQuery {
    /// At most this many; 50 by default, 1,000 at most.
    #[serde(default)]
    page_size: i32,
    /// The `next_page_token` of the page before.
    #[serde(default)]
    page_token: String,
    /// Only jobs in this state.
    #[serde(default)]
    #[param(inline)]
    state: Option<JobState>,
}

/// How much of a job is told.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct JobQuery {
    /// `basic` leaves out the steps' bodies and results, which can be megabytes; `full` unless set.
    #[serde(default)]
    #[param(inline)]
    view: Detail,
}

/// How much of a job is told.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Detail {
    Basic,
    #[default]
    Full,
}

impl JobQuery {
    fn view(&self) -> i32 {
        let view = match self.view {
            Detail::Basic => proto::JobView::Basic,
            Detail::Full => proto::JobView::Full,
        };
        view.into()
    }
}

fn name(organization: &OrganizationId, job: Uuid) -> String {
    format!("{}/jobs/{job}", names::organization(organization))
}

/// Stores a job. It begins as soon as there is room for it; the answer comes when it can not be lost any more.
///
/// With the header `Idempotency-Key` the same job is stored once: the same key and job again answer the first one, another job under
/// the same key is refused (409).
#[utoipa::path(
    post, path = "/api/v1/jobs", operation_id = "createJob", tag = "jobs", request_body = CreateJob,
    params(("Idempotency-Key" = Option<String>, Header, description = "At most 255 visible ASCII characters.")),
    responses(
        (status = 201, description = "The job.", body = Job),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn create(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    request: axum::extract::Request,
) -> Result<Created<Job>, Problem> {
    let client_ip = network::client(request.extensions(), request.headers(), &facade.trusted_proxies);
    let idempotency_key = idempotency_key(request.headers())?;
    let LargeJson(asked): LargeJson<CreateJob> = LargeJson::read(request, &facade).await?;
    let delay = asked.delay();
    let request = proto::CreateJobRequest {
        parent: names::organization(&caller.organization),
        job: Some(asked.try_into()?),
        idempotency_key,
        delay,
        client_ip: client_ip.map(|ip| ip.to_string()).unwrap_or_default(),
    };
    let job = facade.as_caller(&caller, request, async |request| facade.jobs.clone().create_job(request).await).await?;
    let job = Job::try_from(job)?;
    Ok(Created { location: format!("/api/v1/jobs/{}", job.id), body: job })
}

/// Lists the organisation's jobs, newest first, without bodies and results. With `state=failed`: those that are dead.
#[utoipa::path(
    get, path = "/api/v1/jobs", operation_id = "listJobs", tag = "jobs", params(JobsQuery),
    responses(
        (status = 200, description = "A page of jobs.", body = Jobs),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn list(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    ApiQuery(asked): ApiQuery<JobsQuery>,
) -> Result<Json<Jobs>, Problem> {
    let request = proto::ListJobsRequest {
        parent: names::organization(&caller.organization),
        page_size: asked.page_size,
        page_token: asked.page_token,
        state: asked.state.map(proto::JobState::from).unwrap_or_default().into(),
    };
    let listed =
        facade.as_caller(&caller, request, async |request| facade.jobs.clone().list_jobs(request).await).await?;
    let jobs = listed.jobs.into_iter().map(Job::try_from).collect::<Result<_, _>>()?;
    Ok(Json(Jobs { jobs, next_page_token: listed.next_page_token }))
}

/// Reads a job: how it stands, where it waits, and what its steps came to.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}", operation_id = "getJob", tag = "jobs", params(("id" = Uuid, Path), JobQuery),
    responses(
        (status = 200, description = "The job.", body = Job),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn get(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    ApiQuery(asked): ApiQuery<JobQuery>,
    ApiPath(job): ApiPath<Uuid>,
) -> Result<Json<Job>, Problem> {
    let request = proto::GetJobRequest { name: name(&caller.organization, job), view: asked.view() };
    let job = facade.as_caller(&caller, request, async |request| facade.jobs.clone().get_job(request).await).await?;
    Ok(Json(job.try_into()?))
}

/// Ends a job: one that waits at once, one under way as soon as its broker hears of it. One that has ended stays as it is.
#[utoipa::path(
    delete, path = "/api/v1/jobs/{id}", operation_id = "cancelJob", tag = "jobs", params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The job as it stands.", body = Job),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn cancel(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    ApiPath(job): ApiPath<Uuid>,
) -> Result<Json<Job>, Problem> {
    let request = proto::CancelJobRequest { name: name(&caller.organization, job) };
    let job = facade.as_caller(&caller, request, async |request| facade.jobs.clone().cancel_job(request).await).await?;
    Ok(Json(job.try_into()?))
}

/// Queues a job that failed or was cancelled once more. Results are kept: it goes on with the first step that has none.
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/rerun", operation_id = "rerunJob", tag = "jobs", params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The job, queued.", body = Job),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn rerun(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    _: NoQuery,
    ApiPath(job): ApiPath<Uuid>,
) -> Result<Json<Job>, Problem> {
    let request = proto::RerunJobRequest { name: name(&caller.organization, job) };
    let job = facade.as_caller(&caller, request, async |request| facade.jobs.clone().rerun_job(request).await).await?;
    Ok(Json(job.try_into()?))
}
