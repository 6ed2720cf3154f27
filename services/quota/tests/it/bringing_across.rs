//! Limits of the platform's keys, which reservations bring: they count over tenants and processes, from the first reservation on.

use std::time::Duration;

use tokio::time::sleep;
use weir_proto::billing::v1::Limit;
use weir_proto::billing::v1::window::Kind;
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::*;
use weir_types::OrganizationId;

use crate::billing::{concurrent, limit, rolling};
use crate::house::{Client, Engine, House, amounts, commit, extension, open, release, reserve, storm};
use crate::shared::{all, labelled, one, shared};

/// What a key may do: so much in a minute, or so many at once.
fn may(unit: &str, amount: i64) -> Vec<Limit> {
    let window: Kind = if unit == "concurrent" { concurrent() } else { rolling(60_000) };
    vec![limit("key-limit", "provider_key", unit, amount, window)]
}

fn by_key(tenant: OrganizationId, key: &str, unit: &str, limits: Vec<Limit>) -> ReserveRequest {
    ReserveRequest { limits, ..labelled(reserve(tenant, &[(unit, 1)]), "provider_key", key) }
}

/// So many ask at once, for as many tenants; those who got it.
async fn rush(
    engines: &[&Engine],
    house: &House,
    (key, unit, most): (&str, &str, i64),
) -> Vec<(ReserveRequest, ReserveResponse)> {
    let tenants: Vec<_> = (0..5).map(|_| house.tenant(Vec::new())).collect();
    let answers = storm(engines, 40, async |mut client: Client, number| {
        let request = by_key(tenants[number % tenants.len()], key, unit, may(unit, most));
        (request.clone(), open(client.reserve(request).await))
    });
    let mut admitted = Vec::new();
    for (request, answer) in answers.await {
        match answer {
            Ok(handle) => admitted.push((request, handle)),
            Err(failure) => {
                assert_eq!(failure.reason(), ErrorReason::QuotaExceeded, "{failure}");
                assert_eq!(failure.figure("key-limit", "scope"), Some("provider_key"));
            }
        }
    }
    admitted
}

#[tokio::test]
async fn a_keys_limits_hold_over_tenants_and_processes_as_soon_as_they_are_said() {
    let house = House::new().await;
    let engines = [house.engine().await, house.engine().await];
    let engines = all(&engines);
    for unit in ["request", "concurrent"] {
        let first = rush(&engines, &house, ("p/one", unit, 7)).await;
        assert_eq!(first.len(), 7, "{unit}");
        assert_eq!(rush(&engines, &house, ("p/two", unit, 3)).await.len(), 3, "{unit}: another key counts by itself");
        assert_eq!(rush(&engines, &house, ("p/one", unit, 9)).await.len(), 2, "{unit}: the last amount holds");
        assert_eq!(rush(&engines, &house, ("p/one", unit, 4)).await.len(), 0, "{unit}: a smaller one, too");

        // Whoever settles it, also a process that has never heard of the limit.
        let other = house.engine().await;
        let mut client = other.client();
        for (request, handle) in &first {
            let leases = vec![extension(request, handle, 30)];
            open(client.extend(ExtendRequest { leases }).await).unwrap();
        }
        for (request, handle) in &first[..3] {
            open(client.release(release(request, handle)).await).unwrap();
        }
        for (request, handle) in &first[3..5] {
            open(client.commit(commit(request, handle, &[(unit, 1)])).await).unwrap();
        }
        let free = if unit == "concurrent" { 5 } else { 3 };
        assert_eq!(rush(&engines, &house, ("p/one", unit, 9)).await.len(), free, "{unit}");
        other.stop().await;
    }
    for engine in engines {
        assert_eq!(engine.status().await.drifts, []);
    }
}

#[tokio::test]
async fn what_a_key_holds_counts_again_after_a_loss_of_the_store() {
    let house = House::new().await;
    let engine = house.engine().await;
    let mut client = engine.client();
    let held = rush(&[&engine], &house, ("p/one", "concurrent", 4)).await;
    house.lose().await;
    // A process that has never heard of the limit announces them.
    let other = house.engine().await;
    for (request, handle) in &held {
        let leases = vec![extension(request, handle, 30)];
        while open(other.client().extend(ExtendRequest { leases: leases.clone() }).await).is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    }
    let tenant = house.tenant(Vec::new());
    let refused = loop {
        match open(client.reserve(by_key(tenant, "p/one", "concurrent", may("concurrent", 4))).await) {
            Err(failure) if failure.is_transient() && failure.reason() != ErrorReason::QuotaExceeded => {
                sleep(Duration::from_millis(20)).await;
            }
            answer => break answer.unwrap_err(),
        }
    };
    assert_eq!(refused.reason(), ErrorReason::QuotaExceeded);
}

#[tokio::test]
async fn a_keys_limit_needs_a_key_and_a_window_of_its_own() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(Vec::new());
    let without = ReserveRequest { limits: may("request", 1), ..reserve(tenant, &[("request", 1)]) };
    let lifetime = vec![limit("key-limit", "provider_key", "request", 1, crate::billing::lifetime())];
    for request in [without, by_key(tenant, "p/one", "request", lifetime)] {
        let failure = open(engine.client().reserve(request).await).unwrap_err();
        assert_eq!((failure.reason(), failure.fields()[0].subject.as_str()), (ErrorReason::InvalidArgument, "limits"));
    }
}

#[tokio::test]
async fn a_limit_that_is_configured_no_more_does_not_limit_what_grows() {
    let house = House::new().await;
    let before = house.engine_with(shared(&one("keys", "provider_key", "request", "10", "rolling = '60s'"))).await;
    let tenant = house.tenant(Vec::new());
    let request = labelled(reserve(tenant, &[("request", 8)]), "provider_key", "main");
    let handle = open(before.client().reserve(request.clone()).await).unwrap();
    before.stop().await;

    let after = house.engine().await;
    let mut client = after.client();
    let whole = amounts(&[("request", 20)]);
    let leases = vec![LeaseExtension { amounts: whole, ..extension(&request, &handle, 30) }];
    let grown = open(client.extend(ExtendRequest { leases }).await).unwrap().grown.unwrap();
    assert_eq!(grown.limits, []);
    open(client.commit(commit(&request, &grown, &[("request", 20)])).await).unwrap();
}
