//! Which models an organisation's plan includes: asked of billing, kept for a while, kept on when billing is away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use weir_proto::billing::v1::billing_service_client::BillingServiceClient;
use weir_proto::billing::v1::{GetEntitlementsRequest, WatchEntitlementsRequest};
use weir_rpc::{Channel, Error, Failure};
use weir_types::{OrganizationId, names};

/// After this an answer is asked for again; changes are pushed long before.
const FRESH: Duration = Duration::from_secs(60);
/// Organisations that are kept.
const CAPACITY: u64 = 100_000;
const DEADLINE: Duration = Duration::from_secs(2);
const RECONNECT: Duration = Duration::from_secs(1);

/// What a plan says about models.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) plan: String,
    pub(crate) models: Vec<String>,
    /// Where calls wait, higher goes first.
    pub(crate) priority: i32,
    /// Calls go by the callers' own keys, never by the platform's.
    pub(crate) own_keys_only: bool,
    read: Instant,
}

/// Plans by organisation.
#[derive(Clone)]
pub(crate) struct Entitlements {
    billing: BillingServiceClient<Channel>,
    plans: moka::sync::Cache<OrganizationId, Arc<Plan>>,
}

impl Entitlements {
    pub(crate) fn new(billing: BillingServiceClient<Channel>) -> Self {
        Self { billing, plans: moka::sync::Cache::new(CAPACITY) }
    }

    /// The organisation's plan.
    pub(crate) async fn of(&self, organization: OrganizationId) -> Result<Arc<Plan>, Error> {
        let known = self.plans.get(&organization);
        match known {
            Some(plan) if plan.read.elapsed() < FRESH => Ok(plan),
            known => match (self.ask(organization).await, known) {
                (Ok(plan), _) => {
                    self.plans.insert(organization, Arc::clone(&plan));
                    Ok(plan)
                }
                (Err(_), Some(stale)) => Ok(stale),
                (Err(failure), None) => Err(failure.into()),
            },
        }
    }

    async fn ask(&self, organization: OrganizationId) -> Result<Arc<Plan>, Failure> {
        let mut request =
            tonic::Request::new(GetEntitlementsRequest { organization: names::organization(&organization) });
        request.set_timeout(DEADLINE);
        let answer = self.billing.clone().get_entitlements(request).await.map_err(|status| Failure::from(&status))?;
        let answer = answer.into_inner();
        Ok(Arc::new(Plan {
            plan: answer.plan,
            models: answer.models,
            priority: answer.priority,
            own_keys_only: answer.own_keys_only,
            read: Instant::now(),
        }))
    }

    /// Forgets plans as they change, until `stop`.
    pub(crate) async fn watch(self, stop: CancellationToken) {
        while let Some(ended) = stop.run_until_cancelled(self.follow()).await {
            if let Err(failure) = ended {
                tracing::debug!(error = %failure, "billing's changes can't be followed");
            }
            if stop.run_until_cancelled(tokio::time::sleep(RECONNECT)).await.is_none() {
                return;
            }
        }
    }

    async fn follow(&self) -> Result<(), Failure> {
        let failed = |status: tonic::Status| Failure::from(&status);
        let mut changes =
            self.billing.clone().watch_entitlements(WatchEntitlementsRequest {}).await.map_err(failed)?.into_inner();
        while let Some(change) = changes.next().await {
            let change = change.map_err(failed)?;
            if change.all {
                self.plans.invalidate_all();
            } else if let Ok(organization) = names::parse_organization(&change.organization) {
                self.plans.invalidate(&organization);
            }
        }
        Ok(())
    }
}
