//! What billing knows without asking anybody: plans, limits, prices, rating, the ledger. No I/O.

pub mod catalogue;
pub mod document;
pub mod entitlements;
pub mod ledger;
pub mod limit;
pub mod plan_file;
pub mod price_book;
pub mod price_file;
pub mod price_shelf;
pub mod rating;
pub mod statement;
pub mod usage;
pub mod window;
