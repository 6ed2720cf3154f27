//! What an organisation says of its kept answers.

use std::time::Duration;

use tokio::time::Instant;
use weir_rpc::Error;
use weir_types::OrganizationId;

use super::at_hand::AT_HAND;
use super::{Cache, fresh};
use crate::domain::cache::TenantPolicy;
use crate::storage::answers::Answers;

/// One statement for a request that waits for it.
const DEADLINE: Duration = Duration::from_secs(5);

impl Cache {
    /// The organisation's policy.
    pub(crate) async fn policy(&self, organization: OrganizationId) -> Result<TenantPolicy, Error> {
        in_time(self.policies.read(organization)).await
    }

    /// Sets it. Turned off, everything is deleted before it is answered, and no broker takes or keeps anything from then on.
    pub(crate) async fn set_policy(&self, organization: OrganizationId, policy: TenantPolicy) -> Result<(), Error> {
        in_time(self.policies.write(organization, policy)).await?;
        // Other brokers go by the old policy for a moment: the store itself tells them.
        if policy.enabled { self.revive(organization).await } else { self.end(organization, true).await.map(drop) }
    }

    /// Deletes the organisation's kept answers; answers how many there were. What others may have of those that it shared ends with its
    /// time.
    pub(crate) async fn purge(&self, organization: OrganizationId) -> Result<u64, Error> {
        self.end(organization, false).await
    }

    async fn end(&self, organization: OrganizationId, off: bool) -> Result<u64, Error> {
        let Some(answers) = &self.answers else { return Ok(0) };
        let (mut deleted, mut all) = purge(answers, organization, off).await?;
        // What any broker has at hand was asked for before that.
        let forgotten = Instant::now() + AT_HAND;
        while !all {
            let more = purge(answers, organization, off).await?;
            (deleted, all) = (deleted + more.0, more.1);
        }
        tokio::time::sleep_until(forgotten).await;
        Ok(deleted)
    }

    /// Ends what [`Self::end`] said of an organisation that is off.
    async fn revive(&self, organization: OrganizationId) -> Result<(), Error> {
        let Some(answers) = &self.answers else { return Ok(()) };
        answers.revive(&organization.to_string()).await.map_err(|error| Error::unavailable("redis", error))
    }
}

async fn purge(answers: &Answers, organization: OrganizationId, off: bool) -> Result<(u64, bool), Error> {
    let fresh = fresh().ok_or_else(|| Error::defect("the operating system gave no random bytes"))?;
    let purged = answers.purge(&organization.to_string(), fresh, off).await;
    purged.map_err(|error| Error::unavailable("redis", error))
}

async fn in_time<T>(work: impl Future<Output = Result<T, weir_database::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(DEADLINE, Box::pin(work)).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Error::unavailable("postgres", error)),
        Err(_) => Err(Error::unavailable("postgres", "no answer in time")),
    }
}
