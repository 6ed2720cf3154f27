//! A step that calls a model: the same path as any call, on behalf of whoever asked for the job.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use prost::Message as _;
use tokio::sync::Notify;
use tokio::time::Instant;
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_proto::broker::v1::{InvokeResponse, Operation};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::{Error, Failure};

use super::Jobs;
use super::work::{Work, failure};
use crate::app::deferred::Keeper;
use crate::app::queue::Waiting;
use crate::app::{Caller, Incoming, Patience, Reuse};
use crate::domain::jobs::{Ending, Failed, Finished, JobError};
use crate::storage::jobs::JobKey;

/// How often is looked whether a call has taken too long.
const LOOK: Duration = Duration::from_millis(250);

impl Jobs {
    pub(super) async fn invoke(&self, work: &mut Work, index: usize, operation: i32, body: Bytes) -> Ending {
        let Some(api) = Operation::try_from(operation).ok().and_then(crate::grpc::api) else {
            let error = failure(ErrorReason::InvalidArgument, "the operation is not known");
            return Ending::Failed(Failed { error, retry_after: None });
        };
        let timeout = work.spec.steps.get(index).map_or(LOOK, |step| Duration::from_millis(step.timeout));
        let waiting = Arc::new(Waiting::default());
        work.flight.waits(Some(Arc::clone(&waiting)));
        let received = Instant::now();
        let keeper = Arc::new(Keeper {
            database: self.database.clone(),
            key: work.key,
            step: i16::try_from(index).unwrap_or(i16::MAX),
            attempt: work.attempt,
            cancelled: work.flight.cancelled.clone(),
            expires: work.expires,
            timed_out: AtomicBool::new(false),
        });
        let incoming = Incoming {
            caller: Caller::new(work.key.organization, &work.spec.who),
            api,
            body,
            suffix: String::new(),
            headers: http::HeaderMap::new(),
            // The usage events of all tries of a job can be found by it.
            request_id: request_id(work.key, index, work.attempt),
            stream: api.is_sound(),
            deadline: Some(work.expires.into_std()),
            spare: false,
            received: received.into_std(),
            patience: Some(Patience {
                since: work.since.into_std(),
                until: work.expires.into_std(),
                waiting: Arc::clone(&waiting),
            }),
            reuse: Reuse::default(),
            keeper: Some(Arc::clone(&keeper)),
        };
        let queued = Notify::new();
        let call = async {
            if api.is_sound() { self.hear(incoming, &queued).await } else { self.broker.invoke(incoming).await }
        };
        let waits = async {
            if api.is_sound() {
                queued.notified().await;
            } else {
                waiting.changed().await;
            }
        };
        tokio::pin!(call, waits);
        let mut aside = false;
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut call => break answer,
                () = &mut waits, if !aside => {
                    work.step_aside(&self.waiting);
                    aside = true;
                }
                () = tokio::time::sleep(LOOK.min(timeout)) => {
                    if received.elapsed().saturating_sub(waiting.waited_so_far()) >= timeout {
                        keeper.timed_out.store(true, Ordering::Relaxed);
                        let error = failure(ErrorReason::DeadlineExceeded, format!("the step took longer than {timeout:?}"));
                        return Ending::Failed(Failed { error, retry_after: None });
                    }
                }
            }
        };
        match answer {
            Ok(answer) => self.finished(answer),
            // Who waits in line at the shutdown is turned away.
            Err(_) if self.stop.is_cancelled() => Ending::Released,
            Err(error) => Ending::Failed(failed(&Failure::from(tonic::Status::from(error)))),
        }
    }

    /// A sound: it comes as a stream, and is kept as one piece.
    async fn hear(&self, incoming: Incoming, queued: &Notify) -> Result<InvokeResponse, Error> {
        let mut parts = self.broker.stream(incoming).await?;
        let (mut body, mut answer) = (BytesMut::new(), InvokeResponse::default());
        while let Some(part) = parts.next().await {
            match part?.part {
                Some(Part::Queued(_)) => queued.notify_one(),
                Some(Part::Start(start)) => answer.content_type = start.content_type,
                // Beyond what is kept its length is all that matters.
                Some(Part::Chunk(chunk)) if body.len() <= self.options.max_result_bytes => {
                    body.extend_from_slice(&chunk)
                }
                Some(Part::Chunk(_)) | None => {}
                Some(Part::Accounting(accounting)) => answer.accounting = Some(accounting),
            }
        }
        Ok(InvokeResponse { body: body.freeze(), ..answer })
    }

    fn finished(&self, answer: InvokeResponse) -> Ending {
        if answer.body.len() > self.options.max_result_bytes {
            let message =
                format!("the answer has {} bytes; a job keeps {}", answer.body.len(), self.options.max_result_bytes);
            return Ending::Failed(Failed { error: failure(ErrorReason::TooLarge, message), retry_after: None });
        }
        let accounting = answer.accounting.map(|accounting| accounting.encode_to_vec());
        Ending::Done(Finished { body: answer.body, content_type: answer.content_type, accounting })
    }
}

/// `job-{job}-{step}-{attempt}`: the same for no two tries.
fn request_id(key: JobKey, index: usize, attempt: i32) -> String {
    format!("job-{}-{index}-{attempt}", key.job)
}

fn failed(failure: &Failure) -> Failed {
    let http_status = failure.provider_error().map_or(0, |answer| answer.http_status);
    let error = JobError { reason: failure.reason(), message: failure.message().to_owned(), http_status };
    Failed { error, retry_after: failure.retry_after() }
}
