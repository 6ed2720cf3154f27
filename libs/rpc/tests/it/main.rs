//! The layers, both sides, over the real thing: generated clients and servers.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod access;
mod deadlines;
mod errors;
mod handed_over;
mod harness;
mod load;
mod open;
mod remote;
mod revocations;
mod tokens;
