//! Against a real Postgres and a real Redis, through the RPCs with all their layers.
// A test that can't go on says where by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod accounts;
mod alerts;
mod audits;
mod batches;
mod billing;
mod bringing;
mod bringing_across;
mod clocks;
mod cluster;
mod configuration;
mod doubts;
mod entitlements;
mod explaining;
mod fuzzing;
mod growing;
mod handles;
mod histories;
mod house;
mod kept;
mod leases;
mod local;
mod losses;
mod model;
mod operating;
mod oracle;
mod overload;
mod periods;
mod periods_oracle;
mod policies;
mod protocol;
mod racing;
mod redis;
mod relay;
mod reserving;
mod rolling;
mod settling;
mod shared;
mod shared_alerts;
mod shared_losses;
mod sheets;
mod standstill;
mod tenants;
mod together;

/// The suites that run over a store in memory, too.
#[path = "."]
mod memory {
    #![expect(
        clippy::duplicate_mod,
        reason = "one suite runs over every store; the house asks which one by the test's name"
    )]

    mod alerts;
    mod audits;
    mod batches;
    mod bringing;
    mod entitlements;
    mod explaining;
    mod growing;
    mod histories;
    mod leases;
    mod losses;
    mod ownership;
    mod policies;
    mod racing;
    mod reserving;
    mod rolling;
    mod settling;
    mod tenants;
}
