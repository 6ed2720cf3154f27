use std::fmt;

use serde::Serialize;

/// What was checked. Each is an invariant, named by how it is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// A service listed an id twice or out of order.
    Order,
    /// A reservation was committed, and usage has no event of its id.
    CommitWithoutEvent,
    /// The broker's event has no settled reservation.
    EventWithoutSettlement,
    /// A reservation was released, and there is an event of its id all the same.
    EventOfReleased,
    /// Quota committed other amounts than usage recorded.
    CommittedAmounts,
    /// Usage has the event, billing has not rated it.
    EventNotRated,
    /// Billing rated an event that usage does not have.
    RatedWithoutEvent,
    /// Billing rated other amounts than usage recorded.
    RatedAmounts,
    /// Two services name different organisations for one id.
    Organization,
    /// Usage's hourly sums differ from its events.
    Rollup,
    /// A statement differs from the rated events.
    Statement,
    /// The ledger's entries do not sum to zero.
    LedgerSum,
    /// What organisations owe differs from what was rated.
    Receivable,
    /// Billing's own total differs from the sum of its rated events.
    RatedTotal,
    /// Events whose price differs from the price book's.
    Price,
    /// Events that billing cannot price.
    Unrated,
    /// Events that billing has not read yet.
    RatingLag,
    /// A counter differs from what settlements and held reservations add up to.
    Counter,
    /// Reservations whose lease has ended and that nobody has taken over.
    Expired,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Order => "listed twice or out of order",
            Self::CommitWithoutEvent => "committed without a usage event",
            Self::EventWithoutSettlement => "usage event without a settled reservation",
            Self::EventOfReleased => "usage event of a released reservation",
            Self::CommittedAmounts => "quota and usage differ",
            Self::EventNotRated => "usage event not rated",
            Self::RatedWithoutEvent => "rated without a usage event",
            Self::RatedAmounts => "usage and billing differ",
            Self::Organization => "services name different organisations",
            Self::Rollup => "usage's rollups and events differ",
            Self::Statement => "billing's statement and rated events differ",
            Self::LedgerSum => "the ledger does not sum to zero",
            Self::Receivable => "receivables and rated amounts differ",
            Self::RatedTotal => "billing's total and rated events differ",
            Self::Price => "priced otherwise than in the price book",
            Self::Unrated => "cannot be priced",
            Self::RatingLag => "rating is behind",
            Self::Counter => "a quota counter is off",
            Self::Expired => "expired reservations not taken over",
        })
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which invariant.
    pub check: Check,
    /// What it is about: an id, an organisation, a counter.
    pub subject: String,
    /// The values that differ.
    pub detail: String,
}

impl Finding {
    pub(crate) fn new(check: Check, subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { check, subject: subject.into(), detail: detail.into() }
    }

    /// Whether this is the same difference as one seen before; its values may have moved.
    pub(crate) fn key(&self) -> (Check, &str) {
        (self.check, &self.subject)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.subject)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, " ({})", self.detail) }
    }
}
