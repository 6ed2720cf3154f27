//! The organisations' limits: billing's, kept in memory and in Postgres.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use moka::sync::Cache;
use prost::Message as _;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use weir_database::Database;
use weir_proto::billing::v1::billing_service_client::BillingServiceClient;
use weir_proto::billing::v1::{self as billing, GetEntitlementsRequest, WatchEntitlementsRequest};
use weir_rpc::{Channel, Failure};
use weir_types::{OrganizationId, names};

use super::dictionary::Dictionary;
use super::refusals::Sampler;
use crate::config::Config;
use crate::domain::{CounterKey, Plan, Tuning};
use crate::error::{Error, Result};
use crate::grpc::limits;
use crate::storage::entitlements;

/// What this process knows of one organisation.
#[derive(Debug, Default)]
pub(super) struct Organization {
    plan: ArcSwapOption<Known>,
    /// How many changes were pushed.
    wanted: AtomicU64,
    fetching: Mutex<()>,
    /// In which generation, and when (seconds), it was last put on the list of tenants that may have leases.
    pub(super) registered: (AtomicU64, AtomicI64),
    /// Which of its refusals are written down.
    pub(super) refusals: Sampler,
    /// In which generation what the store has kept of it counts.
    pub(super) recounted: AtomicU64,
}

#[derive(Debug)]
struct Known {
    plan: Arc<Plan>,
    /// How many changes had been pushed when it was fetched, for this organisation and for all.
    seen: (u64, u64),
    good_until: Instant,
}

/// The organisations' limits.
#[derive(Debug)]
pub(super) struct Entitlements {
    organizations: Cache<OrganizationId, Arc<Organization>>,
    all_wanted: AtomicU64,
    database: Database,
    billing: BillingServiceClient<Channel>,
    dictionary: Arc<Dictionary>,
    tuning: Tuning,
    refresh: Duration,
    timeout: Duration,
}

/// After a failure, what is known is used for so long before billing is asked again.
const RETRY: Duration = Duration::from_secs(2);
/// A watched billing that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);

impl Entitlements {
    pub(super) fn new(
        config: &Config,
        database: Database,
        billing: BillingServiceClient<Channel>,
        dictionary: Arc<Dictionary>,
    ) -> Self {
        Self {
            organizations: Cache::new(config.entitlements.cache),
            all_wanted: AtomicU64::new(0),
            database,
            billing,
            dictionary,
            tuning: config.windows.tuning(),
            refresh: config.entitlements.refresh_every,
            timeout: config.entitlements.timeout,
        }
    }

    /// What this process knows of an organisation.
    pub(super) fn organization(&self, id: &OrganizationId) -> Arc<Organization> {
        self.organizations.get(id).unwrap_or_else(|| self.organizations.get_with(*id, Arc::default))
    }

    /// All organisations that this process has dealt with lately.
    pub(super) fn known(&self) -> Vec<OrganizationId> {
        self.organizations.iter().map(|(id, _)| *id).collect()
    }

    /// The limits of an organisation.
    pub(super) async fn plan(&self, id: &OrganizationId, organization: &Organization) -> Result<Arc<Plan>> {
        if let Some(plan) = self.fresh(organization) {
            return Ok(plan);
        }
        Box::pin(self.renew(id, organization)).await
    }

    async fn renew(&self, id: &OrganizationId, organization: &Organization) -> Result<Arc<Plan>> {
        let _one_at_a_time = organization.fetching.lock().await;
        if let Some(plan) = self.fresh(organization) {
            return Ok(plan);
        }
        // Noted before the fetch: what is pushed meanwhile makes its answer stale.
        let seen = (organization.wanted.load(Ordering::Acquire), self.all_wanted.load(Ordering::Acquire));
        let (plan, good_for) = match self.fetch(id).await {
            Ok(plan) => (plan, self.refresh),
            Err(Error::Billing(failure)) if failure.is_transient() => {
                tracing::warn!(organization = %id, error = %failure, "billing does not answer: serving the stored limits");
                (self.fall_back(id, organization, failure).await?, RETRY)
            }
            Err(error) => return Err(error),
        };
        let known = Known { plan: Arc::clone(&plan), seen, good_until: Instant::now() + good_for };
        organization.plan.store(Some(Arc::new(known)));
        Ok(plan)
    }

    fn fresh(&self, organization: &Organization) -> Option<Arc<Plan>> {
        let known = organization.plan.load();
        let known = known.as_ref()?;
        let wanted = (organization.wanted.load(Ordering::Acquire), self.all_wanted.load(Ordering::Acquire));
        (known.seen == wanted && Instant::now() < known.good_until).then(|| Arc::clone(&known.plan))
    }

    async fn fetch(&self, id: &OrganizationId) -> Result<Arc<Plan>> {
        let mut request = tonic::Request::new(GetEntitlementsRequest { organization: names::organization(id) });
        request.set_timeout(self.timeout);
        let answer = self.billing.clone().get_entitlements(request).await;
        let message = answer.map_err(|status| Error::Billing(Failure::from(status)))?.into_inner();
        let plan = self.compile(&message).await?;
        let stored = async {
            let mut transaction = self.database.begin_tenant(*id).await?;
            entitlements::store(&mut transaction, id, message.version, &message.encode_to_vec()).await?;
            Ok::<_, weir_database::Error>(transaction.commit().await?)
        };
        // The copy is for a day on which billing is down; without it this one still serves.
        if let Err(error) = self.database.bounded(stored).await {
            tracing::warn!(organization = %id, %error, "the limits could not be stored");
        }
        Ok(plan)
    }

    /// The limits of these organisations that are at hand without billing: in memory, or stored. They may be a little old.
    pub(super) async fn at_hand(&self, ids: &[OrganizationId]) -> Result<HashMap<OrganizationId, Arc<Plan>>> {
        let mut plans = HashMap::with_capacity(ids.len());
        let mut missing = Vec::new();
        for id in ids {
            match self.organizations.get(id).and_then(|organization| organization.plan.load_full()) {
                Some(known) => drop(plans.insert(*id, Arc::clone(&known.plan))),
                None => missing.push(*id),
            }
        }
        for (id, body) in entitlements::load_all(self.database.pool(), &missing).await? {
            let message =
                billing::Entitlements::decode(body.as_slice()).map_err(|error| Error::Bug(error.to_string()))?;
            plans.insert(id, self.compile(&message).await?);
        }
        Ok(plans)
    }

    /// What is in memory, else what is in Postgres.
    async fn fall_back(&self, id: &OrganizationId, organization: &Organization, failure: Failure) -> Result<Arc<Plan>> {
        if let Some(known) = organization.plan.load_full() {
            return Ok(Arc::clone(&known.plan));
        }
        let load = async {
            let mut transaction = self.database.begin_tenant(*id).await?;
            let stored = entitlements::load(&mut transaction, id).await?;
            transaction.rollback().await?;
            Ok::<_, weir_database::Error>(stored)
        };
        let Some((_, body)) = self.database.bounded(load).await? else { return Err(Error::Billing(failure)) };
        let message = billing::Entitlements::decode(body.as_slice()).map_err(|error| Error::Bug(error.to_string()))?;
        self.compile(&message).await
    }

    async fn compile(&self, message: &billing::Entitlements) -> Result<Arc<Plan>> {
        let limits = limits(&message.limits)?;
        let keys: Vec<CounterKey> = limits.iter().map(CounterKey::from).collect();
        let ids = self.dictionary.numbers(&keys).await?;
        let plan = Plan::new(message.version, ids.into_iter().zip(limits), self.tuning);
        Ok(Arc::new(plan.named(message.plan.strip_prefix("plans/").unwrap_or_default())))
    }

    /// Follows billing's pushes until the end.
    pub(super) async fn follow(&self, shutdown: CancellationToken) {
        let mut pause = Duration::from_millis(100);
        while !shutdown.is_cancelled() {
            let followed = shutdown.run_until_cancelled(self.follow_once()).await;
            let Some(heard) = followed else { return };
            // What was pushed while nobody listened is not known.
            if heard {
                self.all_wanted.fetch_add(1, Ordering::AcqRel);
                pause = Duration::from_millis(100);
            }
            shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    /// Follows one stream to its end; answers whether it ever said anything.
    async fn follow_once(&self) -> bool {
        let stream = match self.billing.clone().watch_entitlements(WatchEntitlementsRequest {}).await {
            Ok(stream) => stream,
            Err(status) => {
                tracing::debug!(error = %Failure::from(status), "billing's changes can't be followed");
                return false;
            }
        };
        let mut stream = stream.into_inner();
        let mut heard = false;
        // What changed before this stream began is not known.
        self.all_wanted.fetch_add(1, Ordering::AcqRel);
        loop {
            match timeout(SILENCE, stream.message()).await {
                Ok(Ok(Some(change))) => {
                    heard = true;
                    self.changed(&change);
                }
                Ok(Ok(None)) => return heard,
                Ok(Err(status)) => {
                    tracing::debug!(error = %Failure::from(status), "billing's changes broke off");
                    return heard;
                }
                Err(_) => return heard,
            }
        }
    }

    fn changed(&self, change: &billing::EntitlementsChange) {
        if change.all {
            self.all_wanted.fetch_add(1, Ordering::AcqRel);
        } else if let Ok(id) = names::parse_organization(&change.organization)
            && let Some(organization) = self.organizations.get(&id)
        {
            organization.wanted.fetch_add(1, Ordering::AcqRel);
        }
    }
}
