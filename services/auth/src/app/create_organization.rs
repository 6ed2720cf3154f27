//! Creates a tenant.

use weir_types::{OrganizationId, names};

use super::Auth;
use crate::domain::{Actor, DisplayName, Organization};
use crate::error::{Error, Result};
use crate::storage::audit_log::{self, Action, Entry};
use crate::storage::{self, organizations};

/// What is asked for.
#[derive(Debug)]
pub(crate) struct NewOrganization {
    /// The id to use, if the caller has one: then the call may be repeated.
    pub(crate) id: Option<OrganizationId>,
    /// The name for people.
    pub(crate) display_name: DisplayName,
}

impl Auth {
    /// Creates a tenant. Again with the same id and name it answers the same.
    ///
    /// # Errors
    /// When the id stands for a tenant of another name.
    pub(crate) async fn create_organization(&self, actor: &Actor, new: NewOrganization) -> Result<Organization> {
        let organization = Organization {
            id: new.id.unwrap_or_else(OrganizationId::new_v7),
            display_name: new.display_name,
            created: self.now(),
        };
        let name = names::organization(&organization.id);
        let mut tx = self.database.begin().await?;
        if !organizations::insert(&mut tx, &organization).await? {
            let existing = organizations::find(&mut tx, organization.id).await?;
            return existing
                .filter(|existing| existing.display_name == organization.display_name)
                .ok_or(Error::OrganizationDiffers(name));
        }
        let entry = Entry {
            organization: Some(organization.id),
            at: organization.created,
            actor: &actor.describe(),
            action: Action::CreateOrganization,
            target: &name,
            detail: "",
        };
        audit_log::append(&mut tx, entry).await?;
        storage::commit(tx).await?;
        Ok(organization)
    }
}
