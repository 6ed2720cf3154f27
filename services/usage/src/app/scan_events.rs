//! Every event in the order of its id, for audits.

use futures::Stream;
use futures::stream::try_unfold;
use uuid::Uuid;
use weir_types::{OrganizationId, ReservationId};

use crate::domain::Event;
use crate::error::Error;
use crate::storage::{Store, events};

/// About so many events are in memory at once.
const CHUNK: usize = 1000;

/// The events with ids after `after` (only of `organization`, if given), in chunks. Events that share an id are in one
/// chunk, so that a scan may be taken up after the last id of any chunk.
///
/// Each chunk is read when the stream is polled, in a transaction of its own.
pub fn scan_events(
    store: Store,
    organization: Option<OrganizationId>,
    after: ReservationId,
) -> impl Stream<Item = Result<Vec<Event>, Error>> + Send + use<> {
    try_unfold(Scan { store, organization, after, window: 1000 }, Scan::next)
}

struct Scan {
    store: Store,
    organization: Option<OrganizationId>,
    after: ReservationId,
    /// How many milliseconds of ids are looked at together, so that about a chunk is found.
    window: u64,
}

impl Scan {
    async fn next(mut self) -> Result<Option<(Vec<Event>, Self)>, Error> {
        let events = match self.organization {
            Some(organization) => self.of(organization).await?,
            None => self.of_all().await?,
        };
        let Some(last) = events.last() else { return Ok(None) };
        self.after = last.id;
        Ok(Some((events, self)))
    }

    async fn of(&self, organization: OrganizationId) -> Result<Vec<Event>, Error> {
        let unit = self.store.begin_tenant(organization).await?;
        let events = events::scan(&unit, organization, self.after, limit()).await?;
        unit.commit().await?;
        Ok(events)
    }

    async fn of_all(&mut self) -> Result<Vec<Event>, Error> {
        let unit = self.store.begin().await?;
        let events = match events::next_id(&unit, self.after).await? {
            Some(next) => events::scan_all(&unit, self.after, last_within(next, self.window), limit()).await?,
            None => Vec::new(),
        };
        unit.commit().await?;
        if events.len() >= CHUNK {
            self.window = (self.window / 2).max(1);
        } else if events.len() < CHUNK / 2 {
            self.window = self.window.saturating_mul(4);
        }
        Ok(events)
    }
}

fn limit() -> i64 {
    i64::try_from(CHUNK).unwrap_or(i64::MAX)
}

/// The largest id that was made up to `milliseconds` after `id`: a UUIDv7 begins with 48 bits of milliseconds.
fn last_within(id: ReservationId, milliseconds: u64) -> ReservationId {
    const REST: u32 = 80;
    let made = id.as_uuid().as_u128() >> REST;
    let end = (made + u128::from(milliseconds)).min(u128::MAX >> REST);
    Uuid::from_u128((end << REST) | ((1 << REST) - 1)).into()
}
