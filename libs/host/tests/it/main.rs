//! A whole process's life, in a test's process: sockets, readiness, calls, and the end.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod config;
mod harness;
mod life;
mod readiness;
mod siblings;
