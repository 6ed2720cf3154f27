//! The launcher against the real servers.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the test's answer")]

mod postgres;
mod redis;
