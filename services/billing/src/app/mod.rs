//! What billing does, one use case per file.

mod get_entitlements;
mod get_price_book;
mod get_statement;
mod get_status;
mod list_ledger_entries;
mod list_plans;
mod publish;
mod rate_chunk;
mod rate_usage;
mod retry_unrated;
mod scan_rated_events;
mod set_subscription;
mod watch_entitlements;

use std::sync::Arc;

use tokio::sync::OnceCell;
use weir_database::Database;
use weir_types::Clock;

use crate::domain::catalogue::Catalogue;
use crate::domain::price_shelf::PriceShelf;
use crate::feed::UsageFeed;

pub(crate) use get_status::Status;
pub(crate) use rate_usage::Rater;
pub(crate) use watch_entitlements::{EntitlementsWatch, Signal};

/// Everything that the use cases need.
pub(crate) struct Billing {
    /// Billing's schema.
    pub(crate) database: Database,
    /// The time of day.
    pub(crate) clock: Arc<dyn Clock>,
    /// The plans on offer.
    pub(crate) catalogue: Catalogue,
    /// All price books.
    pub(crate) shelf: PriceShelf,
    /// Usage's feed.
    pub(crate) feed: UsageFeed,
    /// Since which change of entitlements the catalogue is in force; known once it is published.
    generation: OnceCell<i64>,
}

impl Billing {
    /// Billing with these plans and prices.
    #[must_use]
    pub(crate) fn new(
        database: Database,
        clock: Arc<dyn Clock>,
        catalogue: Catalogue,
        shelf: PriceShelf,
        feed: UsageFeed,
    ) -> Self {
        Self { database, clock, catalogue, shelf, feed, generation: OnceCell::new() }
    }
}

impl std::fmt::Debug for Billing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Billing").field("generation", &self.generation).finish_non_exhaustive()
    }
}
