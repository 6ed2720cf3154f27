//! Jobs over gRPC: messages to use cases and back.

mod parse;
mod render;

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};
use weir_proto::broker::v1::job_service_server::JobService;
use weir_proto::broker::v1::{
    CancelJobRequest, CreateJobRequest, CreateScheduleRequest, DeleteScheduleRequest, DeleteScheduleResponse,
    GetJobRequest, Job, ListJobsRequest, ListJobsResponse, ListSchedulesRequest, ListSchedulesResponse,
    RerunJobRequest, RotateWebhookSecretRequest, RotateWebhookSecretResponse, Schedule, WatchJobRequest,
    WatchJobResponse,
};
use weir_rpc::Error;

use super::resources::{child, next, own, page};
use super::who;
use crate::app::jobs::{Asked, Jobs, NewSchedule};
use crate::storage::jobs::JobKey;

/// Serves [`JobService`].
pub(crate) struct JobsGrpc(pub(crate) Arc<Jobs>);

#[tonic::async_trait]
impl JobService for JobsGrpc {
    async fn create_job(&self, request: Request<CreateJobRequest>) -> Result<Response<Job>, Status> {
        let principal = weir_rpc::caller(&request).principal()?.clone();
        let asked = request.into_inner();
        let organization = own(&principal, &asked.parent)?;
        let mut job = asked.job.ok_or_else(|| Error::invalid("job", "is required"))?;
        let who = who(&principal, asked.client_ip, std::mem::take(&mut job.feature), "job.feature")?;
        let run_at = parse::run_at(&job, asked.delay.as_ref())?;
        let created = self.0.create(Asked {
            organization,
            run_at,
            expires_at: parse::instant("job.expire_time", job.expire_time.as_ref())?,
            idempotency_key: parse::idempotency_key(asked.idempotency_key)?,
            spec: parse::spec(job, who)?,
        });
        Ok(Response::new(render::job(created.await?)))
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Result<Response<Job>, Status> {
        let key = named(&request, &request.get_ref().name)?;
        let detail = parse::detail(request.get_ref().view)?;
        Ok(Response::new(render::job(self.0.get(key, detail).await?)))
    }

    async fn list_jobs(&self, request: Request<ListJobsRequest>) -> Result<Response<ListJobsResponse>, Status> {
        let principal = weir_rpc::caller(&request).principal()?;
        let asked = request.get_ref();
        let organization = own(principal, &asked.parent)?;
        let list = format!("jobs of {organization} in {}", asked.state);
        let page = page(&list, asked.page_size, &asked.page_token)?;
        let listed = self.0.list(organization, parse::filter(asked.state)?, page).await?;
        let last = listed.jobs.last().map(|job| job.row.job_id);
        Ok(Response::new(ListJobsResponse {
            jobs: listed.jobs.into_iter().map(render::job).collect(),
            next_page_token: next(&list, last.filter(|_| listed.more)),
        }))
    }

    async fn cancel_job(&self, request: Request<CancelJobRequest>) -> Result<Response<Job>, Status> {
        let key = named(&request, &request.get_ref().name)?;
        Ok(Response::new(render::job(self.0.cancel(key).await?)))
    }

    async fn rerun_job(&self, request: Request<RerunJobRequest>) -> Result<Response<Job>, Status> {
        let key = named(&request, &request.get_ref().name)?;
        Ok(Response::new(render::job(self.0.rerun(key).await?)))
    }

    type WatchJobStream = Pin<Box<dyn Stream<Item = Result<WatchJobResponse, Status>> + Send>>;

    async fn watch_job(&self, request: Request<WatchJobRequest>) -> Result<Response<Self::WatchJobStream>, Status> {
        let key = named(&request, &request.get_ref().name)?;
        let watch = self.0.watch(key, parse::detail(request.get_ref().view)?).await?;
        let told = |view| WatchJobResponse { job: Some(render::job(view)) };
        Ok(Response::new(Box::pin(watch.map(move |view| view.map(told).map_err(Status::from)))))
    }

    async fn create_schedule(&self, request: Request<CreateScheduleRequest>) -> Result<Response<Schedule>, Status> {
        let principal = weir_rpc::caller(&request).principal()?.clone();
        let asked = request.into_inner();
        let organization = own(&principal, &asked.parent)?;
        let schedule = asked.schedule.ok_or_else(|| Error::invalid("schedule", "is required"))?;
        let (cron, every) = parse::pace(schedule.pace)?;
        let mut job = schedule.job.ok_or_else(|| Error::invalid("schedule.job", "is required"))?;
        let who = who(&principal, String::new(), std::mem::take(&mut job.feature), "schedule.job.feature")?;
        let spec = parse::spec(job, who)?;
        let new = NewSchedule { organization, spec, cron, every, time_zone: schedule.time_zone };
        Ok(Response::new(render::schedule(self.0.create_schedule(new).await?)?))
    }

    async fn list_schedules(
        &self,
        request: Request<ListSchedulesRequest>,
    ) -> Result<Response<ListSchedulesResponse>, Status> {
        let principal = weir_rpc::caller(&request).principal()?;
        let asked = request.get_ref();
        let organization = own(principal, &asked.parent)?;
        let list = format!("schedules of {organization}");
        let page = page(&list, asked.page_size, &asked.page_token)?;
        let (rows, more) = self.0.list_schedules(organization, page).await?;
        let last = rows.last().map(|row| row.schedule_id);
        Ok(Response::new(ListSchedulesResponse {
            schedules: rows.into_iter().map(render::schedule).collect::<Result<_, _>>()?,
            next_page_token: next(&list, last.filter(|_| more)),
        }))
    }

    async fn delete_schedule(
        &self,
        request: Request<DeleteScheduleRequest>,
    ) -> Result<Response<DeleteScheduleResponse>, Status> {
        let principal = weir_rpc::caller(&request).principal()?;
        let (organization, schedule) = child(principal, &request.get_ref().name, "/schedules/")?;
        self.0.delete_schedule(organization, schedule).await?;
        Ok(Response::new(DeleteScheduleResponse {}))
    }

    async fn rotate_webhook_secret(
        &self,
        request: Request<RotateWebhookSecretRequest>,
    ) -> Result<Response<RotateWebhookSecretResponse>, Status> {
        let principal = weir_rpc::caller(&request).principal()?;
        let organization = own(principal, &request.get_ref().parent)?;
        let overlap = parse::duration("overlap", request.get_ref().overlap.as_ref())?.unwrap_or_default();
        let secret = self.0.rotate_secret(organization, overlap).await?;
        Ok(Response::new(RotateWebhookSecretResponse { secret }))
    }
}

fn named<T>(request: &Request<T>, name: &str) -> Result<JobKey, Error> {
    let (organization, job) = child(weir_rpc::caller(request).principal()?, name, "/jobs/")?;
    Ok(JobKey { organization, job })
}
