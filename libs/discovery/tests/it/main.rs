//! One suite over every directory that others can register at, and what is special about each.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod agent;
mod config;
mod conformance;
mod consul;
mod double;
mod names;
