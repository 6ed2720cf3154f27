//! The ledger of an organisation.

use weir_types::{InvalidPageToken, OrganizationId, PageToken, names};

use super::Billing;
use crate::domain::ledger::Entry;
use crate::error::Result;
use crate::storage::ledger;

/// A page of a list.
#[derive(Debug)]
pub(crate) struct Page<T> {
    /// The items.
    pub(crate) items: Vec<T>,
    /// The token of the next page, if there is one.
    pub(crate) next: Option<String>,
}

impl Billing {
    /// The entries of an organisation, newest first.
    ///
    /// # Errors
    /// When the token is not of this list, or the database doesn't answer.
    pub(crate) async fn ledger_entries(
        &self,
        organization: OrganizationId,
        size: u32,
        token: &str,
    ) -> Result<Page<Entry>> {
        let list = format!("ListLedgerEntries {}", names::organization(&organization));
        let before = match token {
            "" => None,
            token => Some(PageToken::decode(&list, token)?.parse::<i64>().map_err(|_| InvalidPageToken)?),
        };
        let mut tx = self.database.begin_tenant(organization).await?;
        let mut items = ledger::entries(&mut tx, organization, before, i64::from(size) + 1).await?;
        tx.rollback().await?;
        let wanted = usize::try_from(size).unwrap_or(usize::MAX);
        let more = items.len() > wanted;
        items.truncate(wanted);
        let next = items.last().filter(|_| more).map(|last| PageToken::encode(&list, &last.entry_id.to_string()));
        Ok(Page { items, next })
    }
}
