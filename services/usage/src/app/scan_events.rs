//! Every event in the order of its id, for audits.

use futures::Stream;
use futures::stream::try_unfold;
use weir_types::{OrganizationId, ReservationId};

use crate::domain::Event;
use crate::error::Error;
use crate::storage::{Store, events};

/// So many events are in memory at once.
const CHUNK: i64 = 1000;

/// The events with ids after `after` (only of `organization`, if given), in chunks. Events that share an id are in one
/// chunk, so that a scan may be taken up after the last id of any chunk.
///
/// Each chunk is read when the stream is polled, in a transaction of its own.
pub fn scan_events(
    store: Store,
    organization: Option<OrganizationId>,
    after: ReservationId,
) -> impl Stream<Item = Result<Vec<Event>, Error>> + Send + use<> {
    try_unfold((store, after), move |(store, after)| async move {
        let unit = match organization {
            Some(organization) => store.begin_tenant(organization).await?,
            None => store.begin().await?,
        };
        let events = events::scan(&unit, organization, after, CHUNK).await?;
        unit.commit().await?;
        Ok(events.last().map(|last| last.id).map(|last| (events, (store, last))))
    })
}
