//! Who has brought which key.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use weir_types::{OrganizationId, UserId, names};

use super::keyring::Keyring;
use crate::domain::own_keys::{DataKey, KeyView, Masters, Wrapped, named};
use crate::storage::own_keys::{DataKeyRow, KeyRow};

/// A key, its secret sealed.
pub(crate) struct OwnKey {
    pub(crate) view: KeyView,
    pub(super) sealed: Vec<u8>,
}

impl fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnKey").field("view", &self.view).finish_non_exhaustive()
    }
}

impl OwnKey {
    /// Its resource name.
    pub(crate) fn name(&self) -> String {
        names::provider_key(&self.view.holder.organization, &self.view.id)
    }

    /// What people know it by.
    pub(crate) fn spoken(&self) -> String {
        named(&self.view.label, &self.view.last_four)
    }
}

/// All keys, by tenant and holder.
#[derive(Default)]
pub(super) struct Table {
    /// They have been read.
    pub(super) is_read: bool,
    tenants: HashMap<OrganizationId, Tenant>,
}

#[derive(Default)]
struct Tenant {
    data_key: Option<Arc<DataKey>>,
    /// As long as no master key opens it.
    unopened: Option<Wrapped>,
    /// Of each user, and of none: the organisation's.
    keys: HashMap<Option<UserId>, Arc<[Arc<OwnKey>]>>,
}

impl Table {
    /// Whether nobody of the organisation has brought any.
    pub(super) fn has_none(&self, organization: OrganizationId) -> bool {
        self.is_read && self.tenants.get(&organization).is_none_or(|tenant| tenant.keys.is_empty())
    }

    /// The keys of a user (by resource name, which may be empty) and of his organisation.
    pub(super) fn keyring(&self, organization: OrganizationId, user: &str) -> Keyring {
        let Some(tenant) = self.tenants.get(&organization) else { return Keyring::default() };
        let user = names::parse_user(user).ok().and_then(|(_, user)| tenant.keys.get(&Some(user)));
        Keyring::new(user.cloned(), tenant.keys.get(&None).cloned())
    }

    pub(super) fn data_key(&self, organization: OrganizationId) -> Option<Arc<DataKey>> {
        self.tenants.get(&organization)?.data_key.clone()
    }

    /// Takes a key as it is now, or forgets it.
    pub(super) fn put(&mut self, row: KeyRow) {
        let KeyRow { view, sealed, deleted, .. } = row;
        let tenant = self.tenants.entry(view.holder.organization).or_default();
        let holder = view.holder.user;
        let others = tenant.keys.get(&holder).into_iter().flat_map(|keys| keys.iter());
        let mut keys: Vec<_> = others.filter(|key| key.view.id != view.id).cloned().collect();
        if !deleted {
            keys.push(Arc::new(OwnKey { view, sealed }));
        }
        if keys.is_empty() {
            tenant.keys.remove(&holder);
        } else {
            tenant.keys.insert(holder, keys.into());
        }
    }

    /// Takes a data key. One that has been opened stays what it is, whichever master key wraps it.
    pub(super) fn put_data_key(&mut self, row: DataKeyRow, masters: &Masters) {
        let tenant = self.tenants.entry(row.organization).or_default();
        if tenant.data_key.is_some() {
            return;
        }
        match masters.unwrap(row.organization, &row.wrapped) {
            Ok(data_key) => {
                tenant.data_key = Some(Arc::new(data_key));
                tenant.unopened = None;
            }
            Err(error) => {
                let version = row.wrapped.master_version;
                tracing::error!(organization = %row.organization, version, %error, "a tenant's data key does not open");
                tenant.unopened = Some(row.wrapped);
            }
        }
    }

    /// Tries those again that did not open.
    pub(super) fn open_again(&mut self, masters: &Masters) {
        for (organization, tenant) in &mut self.tenants {
            let opened = tenant.unopened.as_ref().and_then(|wrapped| masters.unwrap(*organization, wrapped).ok());
            if let Some(data_key) = opened {
                tenant.data_key = Some(Arc::new(data_key));
                tenant.unopened = None;
            }
        }
    }

    /// How many keys there are, and how many tenants' data keys do not open.
    pub(super) fn counts(&self) -> (usize, usize) {
        let keys = self.tenants.values().flat_map(|tenant| tenant.keys.values()).map(|keys| keys.len()).sum();
        (keys, self.tenants.values().filter(|tenant| tenant.unopened.is_some()).count())
    }
}
