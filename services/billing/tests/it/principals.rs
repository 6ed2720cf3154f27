use weir_proto::billing::v1::{
    GetEntitlementsRequest, GetStatementRequest, GetStatusRequest, GetSubscriptionRequest, ListLedgerEntriesRequest,
    ListPlansRequest, ScanRatedEventsRequest, SetSubscriptionRequest, WatchEntitlementsRequest,
};
use weir_proto::common::v1::ErrorReason;
use weir_types::{OrganizationId, Scope};

use crate::house::{House, name, now, open};
use crate::usage::{event, timestamp};

#[tokio::test]
async fn a_principal_sees_its_own_organisation_and_of_others_not_even_that_they_exist() {
    let (house, replica) = House::with_replica().await;
    let (own, other) = (OrganizationId::new_v7(), OrganizationId::new_v7());
    house.usage.record(event(own, 1, 1));
    house.usage.record(event(other, 2, 2));
    replica.rated().await;
    let bearer = house.deployment.principal(own, None, None, [Scope::BillingRead]);
    let mut client = replica.service("facade");
    for (organization, seen) in [(own, true), (other, false)] {
        let check = |what: &str, failure: Option<ErrorReason>| {
            assert_eq!(failure, (!seen).then_some(ErrorReason::NotFound), "{what}");
        };
        let request = GetSubscriptionRequest { name: format!("{}/subscription", name(organization)) };
        let answer = open(client.get_subscription(bearer.request(request)).await);
        check("subscription", answer.err().map(|failure| failure.reason()));
        let request = GetEntitlementsRequest { organization: name(organization) };
        let answer = open(client.get_entitlements(bearer.request(request)).await);
        check("entitlements", answer.err().map(|failure| failure.reason()));
        let request = GetStatementRequest {
            organization: name(organization),
            start_time: Some(timestamp(now())),
            end_time: Some(timestamp(now() + chrono::TimeDelta::days(1))),
        };
        let answer = open(client.get_statement(bearer.request(request)).await);
        if let Ok(statement) = &answer {
            assert_eq!(statement.total_nano_usd, 750);
        }
        check("statement", answer.err().map(|failure| failure.reason()));
        let request = ListLedgerEntriesRequest { parent: name(organization), ..ListLedgerEntriesRequest::default() };
        let answer = open(client.list_ledger_entries(bearer.request(request)).await);
        check("ledger", answer.err().map(|failure| failure.reason()));
    }
    assert!(open(client.list_plans(bearer.request(ListPlansRequest {})).await).is_ok());
    let denied = [
        open(client.get_status(bearer.request(GetStatusRequest {})).await).err(),
        open(client.scan_rated_events(bearer.request(ScanRatedEventsRequest::default())).await).err(),
        open(client.watch_entitlements(bearer.request(WatchEntitlementsRequest {})).await).err(),
        open(client.set_subscription(bearer.request(SetSubscriptionRequest::default())).await).err(),
    ];
    for failure in denied {
        assert_eq!(failure.map(|failure| failure.reason()), Some(ErrorReason::PermissionDenied));
    }
}

#[tokio::test]
async fn a_principal_needs_the_scope() {
    let (house, replica) = House::with_replica().await;
    let own = OrganizationId::new_v7();
    let bearer = house.deployment.principal(own, None, None, [Scope::AiInvoke]);
    let request = GetEntitlementsRequest { organization: name(own) };
    let failure = open(replica.service("facade").get_entitlements(bearer.request(request)).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::PermissionDenied);
    assert_eq!(failure.metadata("scope"), Some("billing.read"));
}
