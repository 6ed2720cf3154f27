//! The double-entry ledger: integers, and the sides of each transaction sum to zero.

use chrono::{DateTime, Utc};
use uuid::Uuid;
use weir_types::{NanoUsd, OrganizationId};

/// What organisations owe.
pub(crate) const RECEIVABLE: &str = "organization-receivable";
/// What was earned with usage.
pub(crate) const REVENUE: &str = "usage-revenue";

/// A transaction to be posted: what an organisation owes grows by `amount`, and so does the revenue from usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Posting {
    /// UUIDv7.
    pub(crate) transaction_id: Uuid,
    /// Whose.
    pub(crate) organization: OrganizationId,
    /// The same operation has the same key; the database refuses it a second time.
    pub(crate) idempotency_key: String,
    /// For people.
    pub(crate) description: String,
    /// Never zero; below zero when estimates are corrected downwards.
    pub(crate) amount: NanoUsd,
}

impl Posting {
    /// The sides: debit above zero, credit below.
    #[must_use]
    pub(crate) fn sides(&self) -> [(&'static str, i64); 2] {
        [(RECEIVABLE, self.amount.0), (REVENUE, -self.amount.0)]
    }
}

/// One side of a transaction, as it was posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Grows with each entry.
    pub(crate) entry_id: i64,
    /// The transaction.
    pub(crate) transaction_id: Uuid,
    /// [`RECEIVABLE`] or [`REVENUE`].
    pub(crate) account: String,
    /// Debit above zero, credit below.
    pub(crate) amount: NanoUsd,
    /// Of the transaction.
    pub(crate) description: String,
    /// When it was posted.
    pub(crate) create_time: DateTime<Utc>,
}
