//! A step that stores what an earlier one made.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use weir_database::Error as DatabaseError;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::{Error, Failure};
use weir_types::OrganizationId;

use super::Jobs;
use super::work::{Work, failure};
use crate::app::results::{NewResult, result_id};
use crate::domain::jobs::{Action, Ending, Failed, Finished, Spec};
use crate::domain::results::{Found, found};
use crate::storage::results;

/// The largest file that is fetched.
const LARGEST: usize = 32 << 20;
const FETCH: Duration = Duration::from_secs(60);

impl Jobs {
    /// Refuses jobs that store where there is nothing to store into, or of a tenant that wants nothing stored.
    pub(super) async fn check_storage(&self, organization: OrganizationId, spec: &Spec) -> Result<(), Error> {
        let stores = |action: &Action| matches!(action, Action::Store { .. });
        let Some(index) = spec.steps.iter().position(|step| stores(&step.action)) else { return Ok(()) };
        let Some(results) = &self.results else {
            let message = "no object storage is configured here: see broker.results";
            return Err(Error::invalid(format!("job.steps[{index}].store"), message));
        };
        results.check_enabled(organization).await
    }

    pub(super) async fn store_answer(&self, work: &Work, index: usize, from: &str, public: bool) -> Ending {
        let timeout = work.spec.steps.get(index).map_or(Duration::ZERO, |step| Duration::from_millis(step.timeout));
        let stored = tokio::time::timeout(timeout, self.store_parts(work, index, from, public)).await;
        let late = |_| Err(told(ErrorReason::DeadlineExceeded, format!("the step took longer than {timeout:?}")));
        match stored.unwrap_or_else(late) {
            Ok(body) => {
                let content_type = "application/json".to_owned();
                Ending::Done(Finished { body, content_type, accounting: None })
            }
            Err(failed) => Ending::Failed(failed),
        }
    }

    async fn store_parts(&self, work: &Work, index: usize, from: &str, public: bool) -> Result<Bytes, Failed> {
        let mistake = |text: String| told(ErrorReason::InvalidArgument, text);
        let results = self.results.as_ref().ok_or_else(|| mistake("no object storage is configured".into()))?;
        let organization = work.key.organization;
        results.check_enabled(organization).await.map_err(failed)?;
        let _room = results.room().await.map_err(failed)?;
        let (body, content_type) = self.answer(work, from).await?;
        let mut stored = Vec::new();
        for (part, found) in found(&content_type, &body).map_err(mistake)?.into_iter().enumerate() {
            let (bytes, content_type) = match found {
                Found::Bytes(bytes) => (bytes, content_type.clone()),
                Found::Url(url) => self.webhooks.fetch(&url, LARGEST, FETCH).await?,
            };
            let id = result_id(work.key.job, index, part);
            let new = NewResult { organization, id, bytes, content_type, public };
            stored.push(results.store(new).await.map_err(failed)?);
        }
        Ok(json!({"data": stored}).to_string().into())
    }

    /// What the step `from` answered.
    async fn answer(&self, work: &Work, from: &str) -> Result<(Bytes, String), Failed> {
        let step = work.spec.steps.iter().position(|step| step.key == from).and_then(|step| i16::try_from(step).ok());
        let read = async {
            let mut tx = self.database.begin_tenant(work.key.organization).await?;
            let answer = results::answer(&mut tx, work.key.organization, work.key.job, step.unwrap_or(-1)).await?;
            tx.rollback().await?;
            Ok::<_, DatabaseError>(answer)
        };
        let answer = self.database.bounded(read).await;
        let answer = answer.map_err(|_| told(ErrorReason::Unavailable, "the step's result can't be read"))?;
        let (body, content_type) =
            answer.ok_or_else(|| told(ErrorReason::InvalidArgument, "the step has no result"))?;
        Ok((body.into(), content_type))
    }
}

fn told(reason: ErrorReason, message: impl Into<String>) -> Failed {
    Failed { error: failure(reason, message), retry_after: None }
}

fn failed(error: Error) -> Failed {
    let told = Failure::from(tonic::Status::from(error));
    Failed { error: failure(told.reason(), told.message()), retry_after: told.retry_after() }
}
