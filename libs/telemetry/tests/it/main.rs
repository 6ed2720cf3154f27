//! Telemetry as a process sees it: one logger and one recorder, and a collector on the network.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the test's answer")]

mod collector;
mod process;
