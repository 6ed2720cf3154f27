//! Adds up what each service says on its own and holds it side by side: quota's settlements, usage's events and rollups, billing's
//! rated events, statements and ledger.
//!
//! A provider call that is just ending has its records in some services and not yet in others. What differs is therefore looked at
//! again until it agrees or the time to settle is over; only what differs in every round is drift.

mod books;
mod check;
mod merge;
mod record;
mod report;
mod rows;
mod run;
mod summaries;
#[cfg(test)]
mod tests;

pub use check::{Check, Finding};
pub use report::{Brokers, Report, Statuses, Totals};
pub use run::{AuditError, Instance, Options, Services, audit};
