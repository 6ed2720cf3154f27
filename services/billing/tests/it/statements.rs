use std::time::Duration;

use chrono::TimeDelta;
use weir_proto::billing::v1::{GetStatementRequest, GetStatusRequest, Statement};
use weir_proto::common::v1::ErrorReason;
use weir_proto::usage::v1::UsageEvent;
use weir_rpc::Failure;
use weir_types::{OrganizationId, ProviderKeyId, names};

use crate::house::{House, Replica, name, now, open, settings};
use crate::usage::{event, timestamp};

async fn statement(replica: &Replica, organization: OrganizationId, from: i64, to: i64) -> Result<Statement, Failure> {
    let at = |hours| Some(timestamp(now() + TimeDelta::hours(hours)));
    let request = GetStatementRequest { organization: name(organization), start_time: at(from), end_time: at(to) };
    open(replica.operator().get_statement(request).await)
}

#[tokio::test]
async fn a_statement_sums_the_events_of_a_half_open_period_by_model() {
    let (house, replica) = House::with_replica().await;
    let organization = OrganizationId::new_v7();
    let at = |hours| Some(timestamp(now() + TimeDelta::hours(hours)));
    for hour in [0, 1, 2] {
        house.usage.record(UsageEvent { event_time: at(hour), ..event(organization, 10, 1) });
    }
    house.usage.record(UsageEvent {
        model: "gpt-4o".to_owned(),
        cached_input_tokens: 4,
        estimated: true,
        cost_nano_usd: 6 * 2_500 + 4 * 1_250 + 20 * 10_000,
        ..event(organization, 10, 20)
    });
    house.usage.record(UsageEvent { requests: 5, ..event(organization, 0, 0) });
    house.usage.record(event(OrganizationId::new_v7(), 1_000, 1_000));
    replica.rated().await;
    let statement = statement(&replica, organization, 0, 2).await.unwrap();
    assert_eq!((statement.unrated_events, statement.lines.len()), (0, 2));
    let [dear, mini] = &statement.lines[..] else { panic!("{statement:?}") };
    assert_eq!((dear.model.as_str(), dear.requests, dear.estimated_requests), ("gpt-4o", 1, 1));
    assert_eq!((dear.input_tokens, dear.cached_input_tokens, dear.output_tokens), (10, 4, 20));
    assert_eq!(dear.amount_nano_usd, 220_000);
    assert_eq!(
        (mini.model.as_str(), mini.requests, mini.input_tokens, mini.output_tokens),
        ("gpt-4o-mini", 2 + 5, 20, 2)
    );
    assert_eq!(mini.amount_nano_usd, 2 * (10 * 150 + 600));
    assert_eq!(statement.total_nano_usd, dear.amount_nano_usd + mini.amount_nano_usd);
}

#[tokio::test]
async fn what_went_by_callers_own_keys_stands_on_a_line_of_its_own_and_costs_nothing() {
    let (house, replica) = House::with_replica().await;
    let organization = OrganizationId::new_v7();
    house.usage.record(event(organization, 10, 1));
    let own = UsageEvent {
        provider_key: names::provider_key(&organization, &ProviderKeyId::new_v7()),
        cost_nano_usd: 0,
        quantities: [("own_nano_usd".to_owned(), 2_100)].into(),
        ..event(organization, 30, 2)
    };
    house.usage.record(own);
    replica.rated().await;
    let statement = statement(&replica, organization, 0, 2).await.unwrap();
    let [ours, theirs] = &statement.lines[..] else { panic!("{statement:?}") };
    assert_eq!((ours.own_key, ours.requests, ours.amount_nano_usd), (false, 1, 2_100));
    assert_eq!((theirs.own_key, theirs.requests, theirs.input_tokens, theirs.amount_nano_usd), (true, 1, 30, 0));
    assert_eq!(statement.total_nano_usd, 2_100);
    assert_eq!(replica.operator().get_status(GetStatusRequest {}).await.unwrap().into_inner().price_mismatches, 0);
}

#[tokio::test]
async fn a_statement_says_how_many_events_it_lacks() {
    let house = House::new().await;
    let mut idle = settings();
    idle.billing.rating.linger = Duration::from_secs(10);
    let replica = house.replica(idle).await.unwrap();
    let organization = OrganizationId::new_v7();
    for _ in 0..20 {
        house.usage.record(event(organization, 1, 1));
        house.usage.record(event(OrganizationId::new_v7(), 1, 1));
    }
    let lacking = statement(&replica, organization, 0, 1).await.unwrap();
    assert_eq!((lacking.unrated_events, lacking.total_nano_usd), (20, 0));
    let other = statement(&replica, organization, 1, 2).await.unwrap();
    assert_eq!(other.unrated_events, 0, "of another period");
    replica.kill();

    let replica = house.replica(settings()).await.unwrap();
    house.usage.record(UsageEvent { model: "unheard-of".to_owned(), ..event(organization, 1, 1) });
    replica.rated().await;
    let statement = statement(&replica, organization, 0, 1).await.unwrap();
    assert_eq!((statement.unrated_events, statement.total_nano_usd), (1, 20 * 750));
}

#[tokio::test]
async fn a_bad_period_is_refused() {
    let (_house, replica) = House::with_replica().await;
    let organization = OrganizationId::new_v7();
    for (from, to) in [(1, 1), (2, 1), (0, 24 * 400 + 1)] {
        let failure = statement(&replica, organization, from, to).await.unwrap_err();
        assert_eq!(failure.reason(), ErrorReason::InvalidArgument);
        assert_eq!(failure.fields()[0].subject, "end_time");
    }
    let request = GetStatementRequest { organization: name(organization), ..GetStatementRequest::default() };
    let failure = open(replica.operator().get_statement(request).await).unwrap_err();
    assert_eq!(failure.fields()[0].subject, "start_time");
}
