//! Reads a tenant.

use weir_types::{OrganizationId, names};

use super::Auth;
use crate::domain::Organization;
use crate::error::{Error, Result};
use crate::storage::organizations;

impl Auth {
    /// Reads a tenant.
    ///
    /// # Errors
    /// When there is none of that id.
    pub(crate) async fn get_organization(&self, id: OrganizationId) -> Result<Organization> {
        let mut tx = self.database.begin_tenant(id).await?;
        organizations::find(&mut tx, id).await?.ok_or_else(|| Error::NotFound(names::organization(&id)))
    }
}
