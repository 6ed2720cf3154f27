//! Prices.

use super::Billing;
use crate::domain::price_book::PriceBook;
use crate::error::{Error, Result};

impl Billing {
    /// The price book of a version; the one in force if `version` is empty.
    ///
    /// # Errors
    /// When there is no such version.
    pub(crate) fn price_book(&self, version: &str) -> Result<PriceBook> {
        if version.is_empty() {
            let book = self.shelf.in_force(self.clock.now());
            return book.ok_or_else(|| Error::Bug("no price book is in effect".to_owned()));
        }
        self.shelf.version(version).ok_or_else(|| Error::NotFound(format!("price book `{version}`")))
    }
}
