//! Billing against a real Postgres and a usage service in memory.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![allow(clippy::result_large_err, reason = "a test keeps one failure at a time")]
#![allow(missing_docs, reason = "a test's name says it")]

mod configuration;
mod crashes;
mod house;
mod ledger;
mod plans;
mod prices;
mod principals;
mod rating;
mod statements;
mod tenants;
mod usage;
mod watching;
