//! Which models and features an organisation's plan includes: asked of billing, kept for a while, kept on when billing is away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use weir_proto::billing::v1::billing_service_client::BillingServiceClient;
use weir_proto::billing::v1::{GetEntitlementsRequest, WatchEntitlementsRequest};
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::Subject;
use weir_rpc::{Channel, Error, Failure};
use weir_types::{OrganizationId, names};

use crate::domain::catalogue::is_allowed;

/// After this an answer is asked for again; changes are pushed long before.
const FRESH: Duration = Duration::from_secs(60);
/// Organisations that are kept.
const CAPACITY: u64 = 100_000;
const DEADLINE: Duration = Duration::from_secs(2);
const RECONNECT: Duration = Duration::from_secs(1);

/// The label of a call that says what of the product it is for.
pub(crate) const FEATURE: &str = "feature";

/// What a plan says about models and features.
#[derive(Debug)]
pub(crate) struct Plan {
    plan: String,
    pub(crate) models: Vec<String>,
    /// Where calls wait, higher goes first.
    pub(crate) priority: i32,
    /// Calls go by the callers' own keys, never by the platform's.
    pub(crate) own_keys_only: bool,
    /// Patterns of the features that calls may be for; none: all.
    features: Vec<String>,
    read: Instant,
}

impl Plan {
    /// Whether calls may be for this model, and for this feature if they say that they are for one.
    ///
    /// # Errors
    /// The plan does not include it.
    pub(crate) fn check(&self, model: &str, subject: &Subject) -> Result<(), Error> {
        self.check_feature(subject.labels.get(FEATURE).map_or("", String::as_str))?;
        if is_allowed(&self.models, model) {
            return Ok(());
        }
        let message = format!("The model `{model}` is not part of the plan `{}`.", self.name());
        Err(Error::new(ErrorReason::ModelNotAllowed, message).metadata("plan", self.plan.clone()))
    }

    /// The same of the feature alone; empty: of none.
    ///
    /// # Errors
    /// The plan does not include it.
    pub(crate) fn check_feature(&self, feature: &str) -> Result<(), Error> {
        if feature.is_empty() || self.features.is_empty() || is_allowed(&self.features, feature) {
            return Ok(());
        }
        let plan = self.name();
        let message = format!(
            "The feature `{feature}` is not part of the plan `{plan}`: change to a plan that has it (GET /api/v1/plans lists them)."
        );
        let error = Error::new(ErrorReason::FeatureNotAllowed, message);
        Err(error.metadata("feature", feature).metadata("plan", self.plan.clone()))
    }

    fn name(&self) -> &str {
        self.plan.strip_prefix("plans/").unwrap_or(&self.plan)
    }
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

    /// The organisation's plan, if it is at hand.
    pub(crate) fn at_hand(&self, organization: OrganizationId) -> Option<Arc<Plan>> {
        self.plans.get(&organization).filter(|plan| plan.read.elapsed() < FRESH)
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
            features: answer.features,
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
