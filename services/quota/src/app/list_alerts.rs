//! Listing soft alerts.

use weir_types::{InvalidPageToken, OrganizationId, PageToken, names};

use super::Quota;
use crate::error::Result;
use crate::storage::alerts::{self, Fired};

/// A page of alerts.
#[derive(Debug)]
pub struct AlertPage {
    /// Newest first.
    pub alerts: Vec<Fired>,
    /// The token of the next page, if there is one.
    pub next: Option<String>,
}

impl Quota {
    /// The alerts of an organisation, newest first.
    ///
    /// # Errors
    /// When the token is not of this list, or the database does not answer.
    pub async fn list_alerts(&self, organization: OrganizationId, size: u32, token: &str) -> Result<AlertPage> {
        let list = format!("ListAlerts {}", names::organization(&organization));
        let before = match token {
            "" => None,
            token => Some(PageToken::decode(&list, token)?.parse::<i64>().map_err(|_| InvalidPageToken)?),
        };
        let read = async {
            let mut transaction = self.database.begin_tenant(organization).await?;
            let alerts = alerts::page(&mut transaction, &organization, before, i64::from(size) + 1).await?;
            transaction.rollback().await?;
            Ok::<_, weir_database::Error>(alerts)
        };
        let mut alerts = self.database.bounded(read).await?;
        let wanted = usize::try_from(size).unwrap_or(usize::MAX);
        let more = alerts.len() > wanted;
        alerts.truncate(wanted);
        let next = alerts.last().filter(|_| more).map(|last| PageToken::encode(&list, &last.id.to_string()));
        Ok(AlertPage { alerts, next })
    }
}
