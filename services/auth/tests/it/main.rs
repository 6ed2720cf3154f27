//! Against a real Postgres, through the layers that every call goes through.

#![allow(clippy::unwrap_used, reason = "a test may end at what it did not expect")]
#![allow(clippy::result_large_err, reason = "a failure is moved a few times, no more")]

mod access;
mod api_keys;
mod audit_log;
mod configuration;
mod house;
mod organizations;
mod outages;
mod revocations;
mod row_level_security;
mod sign_in;
mod signing_keys;
mod users;
