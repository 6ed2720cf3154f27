//! The double-entry ledger: integers, and the sides of each transaction sum to zero.

use chrono::{DateTime, Utc};
use uuid::Uuid;
use weir_types::{NanoUsd, OrganizationId};

/// What organisations owe.
pub const RECEIVABLE: &str = "organization-receivable";
/// What was earned with usage.
pub const REVENUE: &str = "usage-revenue";

/// A transaction to be posted: what an organisation owes grows by `amount`, and so does the revenue from usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    /// UUIDv7.
    pub transaction_id: Uuid,
    /// Whose.
    pub organization: OrganizationId,
    /// The same operation has the same key; the database refuses it a second time.
    pub idempotency_key: String,
    /// For people.
    pub description: String,
    /// Never zero; below zero when estimates are corrected downwards.
    pub amount: NanoUsd,
}

impl Posting {
    /// The sides: debit above zero, credit below.
    #[must_use]
    pub fn sides(&self) -> [(&'static str, i64); 2] {
        [(RECEIVABLE, self.amount.0), (REVENUE, -self.amount.0)]
    }
}

/// One side of a transaction, as it was posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Grows with each entry.
    pub entry_id: i64,
    /// The transaction.
    pub transaction_id: Uuid,
    /// [`RECEIVABLE`] or [`REVENUE`].
    pub account: String,
    /// Debit above zero, credit below.
    pub amount: NanoUsd,
    /// Of the transaction.
    pub description: String,
    /// When it was posted.
    pub create_time: DateTime<Utc>,
}
