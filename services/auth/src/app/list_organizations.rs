//! Lists tenants.

use chrono::{DateTime, Utc};
use weir_types::{InvalidPageToken, OrganizationId};

use super::{Auth, Page, PageRequest};
use crate::domain::Organization;
use crate::error::Result;
use crate::storage::organizations;

const LIST: &str = "organizations";

impl Auth {
    /// All tenants, oldest first. Ids may be chosen by callers, so their order says nothing; the time of creation does.
    ///
    /// # Errors
    /// When the page token is not from this list.
    pub(crate) async fn list_organizations(&self, request: &PageRequest) -> Result<Page<Organization>> {
        let after = request.after(LIST)?.map(|cursor| place(&cursor).ok_or(InvalidPageToken)).transpose()?;
        let mut tx = self.database.begin().await?;
        let items = organizations::list(&mut tx, after, request.limit()).await?;
        Ok(request.page(LIST, items, |last| format!("{}:{}", last.created.timestamp_micros(), last.id)))
    }
}

fn place(cursor: &str) -> Option<(DateTime<Utc>, OrganizationId)> {
    let (created, id) = cursor.split_once(':')?;
    Some((DateTime::from_timestamp_micros(created.parse().ok()?)?, id.parse().ok()?))
}
