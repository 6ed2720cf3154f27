//! Against a real Postgres.
// A test that can't go on says where by panicking.
#![allow(clippy::unwrap_used)]

mod access;
mod configuration;
mod deciding;
mod failures;
mod fixture;
mod histories;
mod listing;
mod querying;
mod recording;
mod replicas;
mod rpcs;
mod scanning;
mod tenants;
mod validating;
mod watching;
