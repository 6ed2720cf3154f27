use std::time::Duration;

use tokio_stream::StreamExt as _;
use tonic::Streaming;
use weir_proto::billing::v1::{
    EntitlementsChange, GetEntitlementsRequest, SetSubscriptionRequest, WatchEntitlementsRequest,
};
use weir_types::OrganizationId;

use crate::house::{House, Replica, name, settings};

async fn watch(replica: &Replica) -> Streaming<EntitlementsChange> {
    replica.service("quota").watch_entitlements(WatchEntitlementsRequest {}).await.unwrap().into_inner()
}

async fn next(stream: &mut Streaming<EntitlementsChange>) -> EntitlementsChange {
    tokio::time::timeout(Duration::from_secs(60), stream.next()).await.unwrap().unwrap().unwrap()
}

async fn subscribe(replica: &Replica, organization: OrganizationId, plan: &str) {
    let request = SetSubscriptionRequest {
        organization: name(organization),
        plan: format!("plans/{plan}"),
        ..SetSubscriptionRequest::default()
    };
    replica.operator().set_subscription(request).await.unwrap();
}

/// The next change that is no heartbeat.
async fn change(stream: &mut Streaming<EntitlementsChange>) -> EntitlementsChange {
    loop {
        let change = next(stream).await;
        if change.all || !change.organization.is_empty() {
            return change;
        }
    }
}

#[tokio::test]
async fn a_watcher_starts_with_nothing_known_and_hears_that_it_is_up_to_date() {
    let (_house, replica) = House::with_replica().await;
    let mut changes = watch(&replica).await;
    assert!(next(&mut changes).await.all);
    loop {
        let heartbeat = next(&mut changes).await;
        if !heartbeat.all {
            assert_eq!(heartbeat.organization, "");
            assert!(heartbeat.version > 0);
            break;
        }
    }
}

#[tokio::test]
async fn changes_of_another_replica_arrive_in_order_with_and_without_notifications() {
    for listen in [true, false] {
        let house = House::new().await;
        let mut quiet = settings();
        quiet.billing.entitlements.listen = listen;
        if listen {
            // Far apart, so that only the notification can be it.
            quiet.billing.entitlements.heartbeat = Duration::from_secs(20);
        }
        let one = house.replica(settings()).await.unwrap();
        let two = house.replica(quiet).await.unwrap();
        let mut changes = watch(&two).await;
        assert!(change(&mut changes).await.all);
        // The first look may come after the watcher.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let organizations: Vec<_> = (0..20).map(|_| OrganizationId::new_v7()).collect();
        for organization in &organizations {
            subscribe(&one, *organization, "pro").await;
        }
        let mut seen = Vec::new();
        let mut last = 0;
        while seen.len() < organizations.len() {
            let next = change(&mut changes).await;
            if next.all {
                continue;
            }
            assert!(next.version > last);
            last = next.version;
            seen.push(next.organization);
        }
        assert_eq!(seen, organizations.iter().map(|organization| name(*organization)).collect::<Vec<_>>());
        let request = GetEntitlementsRequest { organization: name(organizations[0]) };
        let entitlements = two.service("quota").get_entitlements(request).await.unwrap().into_inner();
        assert_eq!(entitlements.plan, "plans/pro", "what was pushed can be read at once");
    }
}

#[tokio::test]
async fn a_replica_with_another_catalogue_makes_everybody_forget() {
    let house = House::new().await;
    let one = house.replica(settings()).await.unwrap();
    let mut changes = watch(&one).await;
    assert!(change(&mut changes).await.all);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let organization = OrganizationId::new_v7();
    let request = GetEntitlementsRequest { organization: name(organization) };
    let before = one.service("quota").get_entitlements(request.clone()).await.unwrap().into_inner();
    let same = house.replica(settings()).await.unwrap();
    let unchanged = same.service("quota").get_entitlements(request.clone()).await.unwrap().into_inner();
    assert_eq!(unchanged, before);
    let mut other = settings();
    other.billing.default_plan = "pro".to_owned();
    let two = house.replica(other).await.unwrap();
    let told = loop {
        let next = change(&mut changes).await;
        if next.all && next.version > before.version {
            break next;
        }
    };
    let after = two.service("quota").get_entitlements(request).await.unwrap().into_inner();
    assert_eq!((after.plan.as_str(), after.version), ("plans/pro", told.version));
}

#[tokio::test]
async fn a_stopped_replica_ends_its_watches() {
    let (_house, replica) = House::with_replica().await;
    let mut changes = watch(&replica).await;
    assert!(next(&mut changes).await.all);
    replica.stop().await;
    let end = tokio::time::timeout(Duration::from_secs(60), async { while let Some(Ok(_)) = changes.next().await {} });
    end.await.unwrap();
}
