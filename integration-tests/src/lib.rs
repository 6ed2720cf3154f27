//! Weir as a whole, from outside: trace replay, benchmarks beside others, and killing its parts in the middle of work.
//!
//! Everything talks to the simulated provider, whatever keys are in the environment, and to private Postgres and Redis servers
//! that are thrown away afterwards.

pub mod bench;
pub mod books;
pub mod chaos;
pub mod chat;
pub mod client;
pub mod deployment;
pub mod floor;
pub mod latency;
pub mod load;
pub mod prices;
pub mod process;
pub mod provider;
pub mod quota;
pub mod replay;
pub mod report;
pub mod siblings;
pub mod streams;
pub mod tenants;
pub mod totals;
pub mod trace;
