//! Listing settlements, for audits.

use weir_types::{OrganizationId, ReservationId};

use super::Quota;
use crate::error::Result;
use crate::storage::settlements::{self, Listed};

/// Settlements of one page.
pub(crate) const PAGE: i64 = 1_000;

impl Quota {
    /// A page of settlements after an id, in the order of ids.
    ///
    /// # Errors
    /// The database's.
    pub async fn settlements(
        &self,
        organization: Option<&OrganizationId>,
        after: Option<&ReservationId>,
    ) -> Result<Vec<Listed>> {
        self.database
            .bounded(async {
                let mut transaction = match organization {
                    Some(organization) => self.database.begin_tenant(*organization).await?,
                    None => self.database.begin().await?,
                };
                let page = settlements::page(&mut transaction, organization, after, PAGE).await?;
                transaction.commit().await.map_err(weir_database::Error::from)?;
                Ok(page)
            })
            .await
    }
}
