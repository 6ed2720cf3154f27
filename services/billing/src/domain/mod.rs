//! What billing knows without asking anybody: plans, limits, prices, rating, the ledger. No I/O.

pub(crate) mod catalogue;
pub(crate) mod document;
pub(crate) mod entitlements;
pub(crate) mod ledger;
pub(crate) mod limit;
pub(crate) mod plan_file;
pub(crate) mod price_book;
pub(crate) mod price_file;
mod price_list;
pub(crate) mod price_shelf;
pub(crate) mod rating;
pub(crate) mod statement;
pub(crate) mod usage;
pub(crate) mod window;
