//! The models that a caller may use.

use weir_proto::broker::v1::Model;
use weir_rpc::Error;
use weir_types::OrganizationId;

use super::Broker;
use crate::domain::catalogue;

impl Broker {
    /// The models on offer that the organisation's plan includes, by name.
    pub(crate) async fn models(&self, organization: OrganizationId) -> Result<Vec<Model>, Error> {
        let plan = self.entitlements.of(organization).await?;
        let offering = self.offering.load();
        let routes = offering.as_ref().map(|offering| offering.catalogue.offered()).unwrap_or_default();
        let allowed = routes.into_iter().filter(|route| catalogue::is_allowed(&plan.models, &route.id));
        Ok(allowed.map(|route| Model { id: route.id.clone(), owned_by: route.provider.clone(), created: 0 }).collect())
    }
}
