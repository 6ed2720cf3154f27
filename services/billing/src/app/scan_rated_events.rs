//! Every rated event, for audits.

use std::sync::Arc;

use futures::Stream;
use futures::stream::try_unfold;
use uuid::Uuid;
use weir_types::OrganizationId;

use super::Billing;
use crate::domain::rating::AuditedEvent;
use crate::error::{Error, Result};
use crate::storage::rated_events;

/// So many events are in memory at once for each scan.
const CHUNK: usize = 2_000;

impl Billing {
    /// Rated events in the order of their ids, after `after`, of one organisation if it is given. Reads when it is polled: a
    /// slow receiver costs a chunk of memory, and no connection.
    pub(crate) fn scan(
        self: &Arc<Self>,
        organization: Option<OrganizationId>,
        after: Option<Uuid>,
    ) -> impl Stream<Item = Result<Vec<AuditedEvent>>> + Send + use<> {
        let billing = Arc::clone(self);
        try_unfold((billing, after, false), move |(billing, after, done)| async move {
            if done {
                return Ok::<_, Error>(None);
            }
            let mut tx = billing.database.begin().await?;
            let limit = i64::try_from(CHUNK).unwrap_or(i64::MAX);
            let events = rated_events::scan(&mut tx, organization, after, limit).await?;
            tx.rollback().await?;
            let Some(last) = events.last().map(|event| event.event_id) else { return Ok(None) };
            let done = events.len() < CHUNK;
            Ok(Some((events, (billing, Some(last), done))))
        })
    }
}
