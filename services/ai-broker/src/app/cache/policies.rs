//! What organisations allow, at hand for a few seconds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_database::{Database, Error};
use weir_types::OrganizationId;

use crate::domain::cache::TenantPolicy;
use crate::storage::cache_policies as storage;

/// After this a policy is asked for again: how long other brokers go by an old one.
pub(super) const FRESH: Duration = Duration::from_secs(5);
/// After this one that could not be read.
const UNREAD: Duration = Duration::from_millis(250);
/// Calls wait for it.
const DEADLINE: Duration = Duration::from_millis(100);
/// Organisations that are kept.
const CAPACITY: u64 = 100_000;

/// Policies by organisation.
pub(super) struct Policies {
    database: Database,
    known: moka::sync::Cache<OrganizationId, Arc<Known>>,
}

struct Known {
    policy: TenantPolicy,
    until: Instant,
}

impl Policies {
    pub(super) fn new(database: Database) -> Self {
        Self { database, known: moka::sync::Cache::new(CAPACITY) }
    }

    /// The organisation's policy. While it can't be read nothing is allowed that was not known to be a moment before.
    pub(super) async fn of(&self, organization: OrganizationId) -> TenantPolicy {
        let known = self.known.get(&organization);
        match known {
            Some(known) if Instant::now() < known.until => known.policy,
            _ => {
                let read = tokio::time::timeout(DEADLINE, Box::pin(self.read(organization))).await;
                let (policy, lasts) = match read {
                    Ok(Ok(policy)) => (policy, FRESH),
                    Ok(Err(_)) | Err(_) => (TenantPolicy::default(), UNREAD),
                };
                self.remember(organization, policy, lasts);
                policy
            }
        }
    }

    /// The organisation's policy, if it is at hand.
    pub(super) fn at_hand(&self, organization: OrganizationId) -> Option<TenantPolicy> {
        let known = self.known.get(&organization)?;
        (Instant::now() < known.until).then_some(known.policy)
    }

    /// As it is stored.
    pub(super) async fn read(&self, organization: OrganizationId) -> Result<TenantPolicy, Error> {
        let mut tx = self.database.begin_tenant(organization).await?;
        let policy = storage::read(&mut tx, organization).await?;
        tx.commit().await?;
        Ok(policy.unwrap_or_default())
    }

    /// Stores it.
    pub(super) async fn write(&self, organization: OrganizationId, policy: TenantPolicy) -> Result<(), Error> {
        let mut tx = self.database.begin_tenant(organization).await?;
        storage::write(&mut tx, organization, &policy).await?;
        tx.commit().await?;
        self.remember(organization, policy, FRESH);
        Ok(())
    }

    fn remember(&self, organization: OrganizationId, policy: TenantPolicy, lasts: Duration) {
        self.known.insert(organization, Arc::new(Known { policy, until: Instant::now() + lasts }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_could_not_be_read_is_asked_for_again_much_sooner_than_one_that_could() {
        let nowhere = weir_database::Config {
            url: weir_config::Secret::from("postgres://nobody:x@127.0.0.1:1/weir".to_owned()),
            max_connections: 1,
            min_connections: 0,
            acquire_timeout: Duration::from_millis(10),
            idle_timeout: Duration::from_secs(60),
            max_lifetime: Duration::from_secs(600),
            statement_timeout: Duration::from_secs(1),
            statement_cache_capacity: 0,
        };
        let policies = Policies::new(Database::connect(&nowhere, "broker").await.expect("a pool"));
        let organization = OrganizationId::new_v7();
        assert_eq!(policies.of(organization).await, TenantPolicy::default(), "nothing is allowed meanwhile");
        let known = policies.known.get(&organization).expect("it is not asked for by every call");
        assert!(known.until.saturating_duration_since(Instant::now()) <= FRESH / 10);
    }
}
