//! Configuration and the master key through their public interface.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the test's answer")]

mod loading;
mod master_key;
