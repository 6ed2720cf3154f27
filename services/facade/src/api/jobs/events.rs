//! How a job stands, as server-sent events.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, Response};
use bytes::Bytes;
use futures::Stream as _;
use http_body::Frame;
use tonic::Streaming;
use uuid::Uuid;
use weir_proto::broker::v1::{WatchJobRequest, WatchJobResponse};

use super::message::Job;
use super::{JobQuery, name};
use crate::api::extract::{ApiPath, ApiQuery, By};
use crate::api::problem::Problem;
use crate::facade::Facade;

/// nginx and others that understand it must not hold events back.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Streams how a job stands: `event: job` with the job as `data`, at first and whenever something about it changes, until it has
/// ended. A stream that is cut before may be opened again at any time.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/events", operation_id = "watchJob", tag = "jobs", params(("id" = Uuid, Path), JobQuery),
    responses(
        (status = 200, description = "Events.", body = Job, content_type = "text/event-stream"),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn watch(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    ApiQuery(asked): ApiQuery<JobQuery>,
    ApiPath(job): ApiPath<Uuid>,
) -> Result<Response<Body>, Problem> {
    let request = WatchJobRequest { name: name(&caller.organization, job), view: asked.view() };
    let told = facade.as_caller(&caller, request, async |request| facade.jobs.clone().watch_job(request).await).await?;
    let mut response = Response::new(Body::new(Events { told, over: false }));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// One event for each change.
struct Events {
    told: Streaming<WatchJobResponse>,
    over: bool,
}

/// A change as an event; none for what can't be shown.
fn event(told: WatchJobResponse) -> Option<Bytes> {
    let job = Job::try_from(told.job?).ok()?;
    // JSON has no line breaks of its own: one line of data.
    let json = serde_json::to_string(&job).ok()?.replace('\n', " ");
    Some(format!("event: job\ndata: {json}\n\n").into())
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while !self.over {
            match std::task::ready!(Pin::new(&mut self.told).poll_next(context)) {
                Some(Ok(told)) => {
                    if let Some(event) = event(told) {
                        return Poll::Ready(Some(Ok(Frame::data(event))));
                    }
                }
                // Clients of server-sent events open the stream again.
                Some(Err(_)) | None => self.over = true,
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }
}
