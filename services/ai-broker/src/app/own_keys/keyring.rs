//! The keys that one caller has brought, and the way that a call takes with them.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;

use super::table::OwnKey;
use crate::domain::catalogue::Route;

/// The keys of a caller: the user's, then the organisation's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keyring {
    user: Option<Arc<[Arc<OwnKey>]>>,
    organization: Option<Arc<[Arc<OwnKey>]>>,
}

impl Keyring {
    pub(super) const fn new(user: Option<Arc<[Arc<OwnKey>]>>, organization: Option<Arc<[Arc<OwnKey>]>>) -> Self {
        Self { user, organization }
    }

    /// The key for a provider: the user's own before the organisation's.
    pub(crate) fn key(&self, provider: &str) -> Option<Arc<OwnKey>> {
        let mut keys = self.user.iter().chain(&self.organization).flat_map(|keys| keys.iter());
        keys.find(|key| key.view.holder.provider == provider).map(Arc::clone)
    }

    /// What of the rest of a way is left after a target: what began with a caller's own key never goes on with the platform's.
    pub(crate) fn after(&self, own: Option<&Arc<OwnKey>>, rest: &[Arc<Route>]) -> Vec<Arc<Route>> {
        let stays = |route: &&Arc<Route>| own.is_none() || self.key(&route.provider).is_some();
        rest.iter().filter(stays).map(Arc::clone).collect()
    }

    fn is_empty(&self) -> bool {
        self.user.is_none() && self.organization.is_none()
    }

    /// The way of a call: of the targets that share a name's calls, those that the caller has brought a key for come first. With
    /// `only` there are no others on it at all.
    ///
    /// # Errors
    /// There would be none.
    pub(crate) fn way(&self, mut way: Vec<Arc<Route>>, only: bool) -> Result<Vec<Arc<Route>>, Error> {
        if only {
            let (own, others): (Vec<_>, Vec<_>) =
                way.into_iter().partition(|route| self.key(&route.provider).is_some());
            return if own.is_empty() { Err(required(&others)) } else { Ok(own) };
        }
        if !self.is_empty() {
            // A fallback is another model: it does not come before what was asked for.
            let targets = way.chunk_by(|a, b| a.id == b.id).next().map_or(0, <[_]>::len);
            way[..targets].sort_by_key(|route| self.key(&route.provider).is_none());
        }
        Ok(way)
    }
}

fn required(routes: &[Arc<Route>]) -> Error {
    let providers: BTreeSet<&str> = routes.iter().map(|route| route.provider.as_str()).collect();
    let providers: Vec<&str> = providers.into_iter().collect();
    let message = format!(
        "Your plan goes by your own keys of providers: store one for {} at /api/v1/provider-keys.",
        providers.join(" or ")
    );
    Error::new(ErrorReason::OwnKeyRequired, message).metadata("providers", providers.join(","))
}
