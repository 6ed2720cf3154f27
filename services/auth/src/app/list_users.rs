//! Lists users.

use weir_types::{InvalidPageToken, OrganizationId, names};

use super::{Auth, Page, PageRequest};
use crate::domain::User;
use crate::error::Result;
use crate::storage::users;

impl Auth {
    /// The users of a tenant, oldest first.
    ///
    /// # Errors
    /// When there is no such tenant, or the page token is not from this list.
    pub(crate) async fn list_users(&self, organization: OrganizationId, request: &PageRequest) -> Result<Page<User>> {
        let list = format!("{}/users", names::organization(&organization));
        let after = request.after(&list)?.map(|cursor| cursor.parse().map_err(|_| InvalidPageToken)).transpose()?;
        let mut tx = self.database.begin_tenant(organization).await?;
        Self::organization_must_exist(&mut tx, organization).await?;
        let items = users::list(&mut tx, organization, after, request.limit()).await?;
        Ok(request.page(&list, items, |last| last.id.to_string()))
    }
}
