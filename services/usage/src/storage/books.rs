//! One transaction that brings a batch into the books.

use super::events::{self, Table};
use super::rows::CopyRows;
use super::{Error, Store, Unit, feed, rollups};
use crate::domain::{Disposition, Entry, Plan, SumOverflow, plan};

/// Why a batch could not be recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// One of the ids is known, though all were taken to be new. Nothing was written.
    #[error("an id is known")]
    Known,
    /// The sums would not fit. Nothing was written.
    #[error(transparent)]
    Overflow(#[from] SumOverflow),
    /// The database failed. When the commit's answer was lost, it is unknown whether it took place.
    #[error(transparent)]
    Database(#[from] Error),
}

/// What a committed batch did.
#[derive(Debug)]
pub struct Done {
    /// One for each entry, in order.
    pub dispositions: Vec<Disposition>,
    /// The feed's head after it, if it moved.
    pub head: Option<i64>,
}

/// Records `entries`, which all are taken to be new: nothing is looked up, the primary key decides.
///
/// # Errors
/// `Known` when one is not new.
pub async fn record_new(store: &Store, entries: &[&Entry]) -> Result<Done, Failure> {
    let plan = plan(entries, &[])?;
    let unit = store.begin().await?;
    match write(&unit, &plan).await {
        Ok(head) => {
            unit.commit().await?;
            Ok(Done { dispositions: plan.dispositions, head: Some(head) })
        }
        Err(error) if error.is_conflict(events::RECORDED_ONCE) => {
            unit.rollback().await?;
            Err(Failure::Known)
        }
        Err(error) => Err(error.into()),
    }
}

/// Records `entries` after looking up what the books hold for their ids.
///
/// # Errors
/// When the database fails or sums would not fit.
pub async fn record_any(store: &Store, entries: &[&Entry]) -> Result<Done, Failure> {
    let unit = store.begin().await?;
    // Nobody else records from here on, so what is looked up stays true.
    feed::lock(&unit).await?;
    let recorded = events::find(&unit, entries).await?;
    let plan = plan(entries, &recorded)?;
    if plan.changes() == 0 {
        unit.rollback().await?;
        return Ok(Done { dispositions: plan.dispositions, head: None });
    }
    let head = write(&unit, &plan).await?;
    unit.commit().await?;
    Ok(Done { dispositions: plan.dispositions, head: Some(head) })
}

/// Writes all of `plan`, and answers the feed's head after it.
async fn write(unit: &Unit, plan: &Plan<'_>) -> Result<i64, Error> {
    let changes = i64::try_from(plan.changes()).map_err(|error| Error::Internal(error.to_string()))?;
    let head = feed::advance(unit, changes).await?;
    events::retire(unit, &plan.superseded).await?;
    let mut rows = CopyRows::with_capacity(plan.changes());
    let mut originals = CopyRows::with_capacity(0);
    let fresh = plan.fresh.iter().map(|fresh| (fresh.entry, fresh.revision));
    let superseding = plan.superseded.iter().map(|superseded| (superseded.new, superseded.revision));
    for ((entry, revision), position) in fresh.chain(superseding).zip(head - changes + 1..) {
        rows.push(entry, position, revision);
    }
    for original in plan.fresh.iter().filter_map(|fresh| fresh.original) {
        originals.push(original, 0, 1);
    }
    events::insert(unit, Table::Events, rows).await?;
    events::insert(unit, Table::Originals, originals).await?;
    rollups::apply(unit, &plan.moves).await?;
    Ok(head)
}
