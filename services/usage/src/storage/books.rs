//! One transaction that brings a batch into the books.

use super::events::{self, NewRow, Table};
use super::{Error, Store, Unit, feed, rollups};
use crate::domain::{Disposition, Entry, Plan, RollupKey, SumOverflow, Sums, plan};

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
    let plan = plan(entries, &[]);
    let (unit, head) = store.begin_recording(changes(&plan)).await?;
    match write(unit, &plan, head).await {
        Ok(()) => Ok(Done { dispositions: plan.dispositions, head: Some(head) }),
        Err(Failure::Database(error)) if error.is_conflict(events::RECORDED_ONCE) => Err(Failure::Known),
        Err(failure) => Err(failure),
    }
}

/// Records `entries` after looking up what the books hold for their ids.
///
/// # Errors
/// When the database fails or sums would not fit.
pub async fn record_any(store: &Store, entries: &[&Entry]) -> Result<Done, Failure> {
    // Nobody else records from here on, so what is looked up stays true.
    let (unit, _) = store.begin_recording(0).await?;
    let recorded = events::find(&unit, entries).await?;
    let plan = plan(entries, &recorded);
    if plan.changes() == 0 {
        unit.rollback().await?;
        return Ok(Done { dispositions: plan.dispositions, head: None });
    }
    let head = feed::advance(&unit, changes(&plan)).await?;
    write(unit, &plan, head).await?;
    Ok(Done { dispositions: plan.dispositions, head: Some(head) })
}

fn changes(plan: &Plan<'_>) -> i64 {
    i64::try_from(plan.changes()).unwrap_or(i64::MAX)
}

/// Writes all of `plan` at the positions up to `head`, and commits.
async fn write(unit: Unit, plan: &Plan<'_>, head: i64) -> Result<(), Failure> {
    match write_events(&unit, plan, head).await {
        Ok(moves) => Ok(rollups::apply_and_commit(unit, &moves?).await?),
        // The transaction has failed and the connection has not: it is worth keeping, for the look-up comes next.
        Err(error) if error.is_conflict(events::RECORDED_ONCE) => {
            unit.rollback().await?;
            Err(error.into())
        }
        Err(error) => Err(error.into()),
    }
}

async fn write_events<'a>(unit: &Unit, plan: &Plan<'a>, head: i64) -> Result<Moves<'a>, Error> {
    let fresh = plan.fresh.iter().map(|fresh| (fresh.entry, fresh.revision));
    let superseding = plan.superseded.iter().map(|superseded| (superseded.new, superseded.revision));
    let rows: Vec<NewRow<'_>> = fresh
        .chain(superseding)
        .zip(head - changes(plan) + 1..)
        .map(|((entry, revision), position)| NewRow { entry, position, revision })
        .collect();
    let original = |entry| NewRow { entry, position: 0, revision: 1 };
    let originals: Vec<NewRow<'_>> = plan.fresh.iter().filter_map(|fresh| fresh.original.map(original)).collect();
    events::retire(unit, &plan.superseded).await?;
    events::insert(unit, Table::Originals, &originals, || ()).await?;
    events::insert(unit, Table::Events, &rows, || plan.moves()).await
}

type Moves<'a> = Result<Vec<(RollupKey<'a>, Sums)>, SumOverflow>;
