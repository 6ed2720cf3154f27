//! Against a real Postgres and a real Redis, through the RPCs with all their layers.
// A test that can't go on says where by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod accounts;
mod alerts;
mod audits;
mod batches;
mod billing;
mod clocks;
mod configuration;
mod entitlements;
mod fuzzing;
mod handles;
mod histories;
mod house;
mod kept;
mod leases;
mod local;
mod losses;
mod measuring;
mod model;
mod operating;
mod oracle;
mod overload;
mod periods;
mod periods_oracle;
mod protocol;
mod reserving;
mod rolling;
mod settling;
mod shared;
mod shared_losses;
mod standstill;
mod tenants;
mod together;
