//! Through the layers, as siblings and principals see it.

use std::sync::Arc;
use std::time::Duration;

use prost_types::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_database::service_url;
use weir_proto::common::v1::ErrorReason;
use weir_proto::usage::v1::usage_service_client::UsageServiceClient;
use weir_proto::usage::v1::{
    Bucket, Dimension, DimensionFilter, Disposition, ListEventsRequest, Outcome, QueryUsageRequest,
    RecordEventsRequest, ScanEventsRequest, UsageEvent, WatchChangesRequest,
};
use weir_rpc::testing::Deployment;
use weir_rpc::{Channel, Failure, Stacked};
use weir_testing::TestDatabase;
use weir_types::{ManualClock, OrganizationId, ProviderKeyId, ReservationId, Scope, UserId, names};
use weir_usage::{ACCESS, NAME, Usage};

use crate::fixture::{config, database, master, now, pool_config};

struct House {
    deployment: Deployment,
    usage: Stacked,
    shutdown: CancellationToken,
    _database: TestDatabase,
}

impl House {
    async fn open() -> Self {
        let database = database().await;
        let clock = Arc::new(ManualClock::new(now()));
        let deployment = Deployment::at(clock.clone()).await;
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let pool = pool_config(service_url(&database.url.as_str().into(), &master(), NAME));
        let usage = Usage::open(config(), &pool, clock, &tasks, &shutdown, 32 << 20).unwrap();
        let usage = deployment.stack(NAME, usage.routes, ACCESS).await;
        Self { deployment, usage, shutdown, _database: database }
    }

    fn service(&self, name: &str) -> UsageServiceClient<Channel> {
        let channel = self.deployment.channel(name, &self.usage);
        let limit = channel.max_message_bytes();
        UsageServiceClient::new(channel).max_decoding_message_size(limit)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn event(organization: OrganizationId, user: Option<UserId>) -> UsageEvent {
    UsageEvent {
        event_id: ReservationId::new_v7().to_string(),
        source: "ai-broker".to_owned(),
        organization: names::organization(&organization),
        user: user.map(|user| names::user(&organization, &user)).unwrap_or_default(),
        api_key: String::new(),
        provider: "openai".to_owned(),
        model: "gpt-4.1".to_owned(),
        operation: "chat.completions".to_owned(),
        event_time: Some(at(0)),
        input_tokens: 100,
        cached_input_tokens: 10,
        output_tokens: 20,
        quantities: [("image".to_owned(), 2)].into(),
        cost_nano_usd: 12_345,
        price_version: "2026-11-01".to_owned(),
        estimated: false,
        outcome: Outcome::Complete.into(),
        latency_ms: 5,
        first_byte_ms: 2,
        request_id: "req".to_owned(),
        provider_key: String::new(),
        requests: 1,
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds: now().timestamp() + seconds, nanos: 123_456_000 }
}

fn query(organization: OrganizationId) -> QueryUsageRequest {
    QueryUsageRequest {
        organization: names::organization(&organization),
        start_time: Some(at(-3600)),
        end_time: Some(at(3600)),
        ..Default::default()
    }
}

async fn record(house: &House, events: Vec<UsageEvent>) -> Vec<weir_proto::usage::v1::RecordOutcome> {
    let answer = house.service("ai-broker").record_events(RecordEventsRequest { events }).await.unwrap();
    answer.into_inner().outcomes
}

#[tokio::test]
async fn what_the_broker_records_reads_back_the_same_through_every_rpc() {
    let house = House::open().await;
    let (organization, user) = (OrganizationId::new_v7(), UserId::new_v7());
    let sent = event(organization, Some(user));
    let outcomes = record(&house, vec![sent.clone()]).await;
    assert_eq!(outcomes[0].disposition(), Disposition::Recorded);
    let mut operator = house.service("operator");

    let list = ListEventsRequest { parent: names::organization(&organization), ..Default::default() };
    assert_eq!(operator.list_events(list).await.unwrap().into_inner().events, std::slice::from_ref(&sent));

    let watch = WatchChangesRequest { after: 0, until_now: true };
    let mut changes = operator.watch_changes(watch).await.unwrap().into_inner();
    let part = changes.message().await.unwrap().unwrap();
    assert_eq!((part.head, part.changes[0].position, part.changes[0].revision), (1, 1, 1));
    assert_eq!(part.changes[0].event, Some(sent.clone()));
    assert_eq!(changes.message().await.unwrap(), None);

    let mut scan = operator.scan_events(ScanEventsRequest::default()).await.unwrap().into_inner();
    assert_eq!(scan.message().await.unwrap().unwrap().events, std::slice::from_ref(&sent));
    assert_eq!(scan.message().await.unwrap(), None);

    let by_user = QueryUsageRequest {
        bucket: Bucket::Day.into(),
        group_by: vec![Dimension::User.into(), Dimension::ApiKey.into(), Dimension::Model.into()],
        filters: vec![DimensionFilter { dimension: Dimension::User.into(), value: sent.user.clone() }],
        ..query(organization)
    };
    let rows = operator.query_usage(by_user).await.unwrap().into_inner().rows;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].dimensions, [sent.user, String::new(), sent.model]);
    assert_eq!((rows[0].requests, rows[0].cost_nano_usd, rows[0].cached_input_tokens), (1, 12_345, 10));
}

#[tokio::test]
async fn each_event_of_a_batch_is_answered_on_its_own() {
    let house = House::open().await;
    let organization = OrganizationId::new_v7();
    let good = event(organization, None);
    let estimate = UsageEvent { estimated: true, output_tokens: 9, ..good.clone() };
    let changed = UsageEvent { output_tokens: 21, ..good.clone() };
    let foreign = event(organization, Some(UserId::new_v7()));
    let foreign = UsageEvent { organization: names::organization(&OrganizationId::new_v7()), ..foreign };
    let nameless = UsageEvent { organization: "acme".to_owned(), ..good.clone() };
    let own = names::provider_key(&OrganizationId::new_v7(), &ProviderKeyId::new_v7());
    let foreign_key = UsageEvent { provider_key: own, cost_nano_usd: 0, ..good.clone() };
    let own = names::provider_key(&organization, &ProviderKeyId::new_v7());
    let paid_twice = UsageEvent { provider_key: own, ..good.clone() };
    let timeless = UsageEvent { event_time: None, ..good.clone() };
    let endless = UsageEvent { outcome: 99, ..good.clone() };
    let sent = vec![
        good.clone(),
        good.clone(),
        estimate,
        changed,
        foreign,
        nameless,
        timeless,
        endless,
        foreign_key,
        paid_twice,
    ];
    let outcomes = record(&house, sent).await;
    let expected = [
        Disposition::Recorded,
        Disposition::Duplicate,
        Disposition::DuplicateEstimate,
        Disposition::Rejected,
        Disposition::Rejected,
        Disposition::Rejected,
        Disposition::Rejected,
        Disposition::Rejected,
        Disposition::Rejected,
        Disposition::Rejected,
    ];
    assert_eq!(outcomes.iter().map(|outcome| outcome.disposition()).collect::<Vec<_>>(), expected);
    assert_eq!(outcomes[2].recorded, Some(good));
    let errors: Vec<_> = outcomes[3..].iter().map(|outcome| outcome.error.clone().unwrap()).collect();
    assert_eq!((errors[0].reason(), errors[0].code), (ErrorReason::IdReused, tonic::Code::AlreadyExists.into()));
    for (error, field) in
        errors[1..].iter().zip(["user", "organization", "event_time", "outcome", "provider_key", "cost_nano_usd"])
    {
        assert_eq!((error.reason(), error.code), (ErrorReason::InvalidArgument, tonic::Code::InvalidArgument.into()));
        assert!(error.message.starts_with(field), "{}", error.message);
    }
}

#[tokio::test]
async fn a_principal_sees_its_own_organisation_and_no_feed() {
    let house = House::open().await;
    let (mine, theirs) = (OrganizationId::new_v7(), OrganizationId::new_v7());
    record(&house, vec![event(mine, None), event(theirs, None)]).await;
    let reader = house.deployment.principal(mine, None, None, [Scope::UsageRead]);
    let mut client = house.service("facade");

    let rows = client.query_usage(reader.request(query(mine))).await.unwrap().into_inner().rows;
    assert_eq!(rows[0].requests, 1);
    let list = |organization| ListEventsRequest { parent: names::organization(&organization), ..Default::default() };
    assert_eq!(client.list_events(reader.request(list(mine))).await.unwrap().into_inner().events.len(), 1);
    let reason = |status: tonic::Status| Failure::from(&status).reason();
    let refused = client.query_usage(reader.request(query(theirs))).await.map_err(reason);
    assert_eq!(refused.unwrap_err(), ErrorReason::NotFound);
    let refused = client.list_events(reader.request(list(theirs))).await.map_err(reason);
    assert_eq!(refused.unwrap_err(), ErrorReason::NotFound);

    let scopeless = house.deployment.principal(mine, None, None, [Scope::AiInvoke]);
    let refused = client.query_usage(scopeless.request(query(mine))).await.map_err(reason);
    assert_eq!(refused.unwrap_err(), ErrorReason::PermissionDenied);
    let watch = WatchChangesRequest { after: 0, until_now: true };
    let refused = client.watch_changes(reader.request(watch)).await.map_err(reason);
    assert_eq!(refused.unwrap_err(), ErrorReason::PermissionDenied);
    let refused = client.record_events(reader.request(RecordEventsRequest::default())).await.map_err(reason);
    assert_eq!(refused.unwrap_err(), ErrorReason::PermissionDenied);
}

#[tokio::test]
async fn bad_questions_name_the_field_that_is_wrong() {
    let house = House::open().await;
    let organization = OrganizationId::new_v7();
    let mut operator = house.service("operator");
    let ask = query(organization);
    let filter = |dimension: Dimension, value: &str| {
        vec![DimensionFilter { dimension: dimension.into(), value: value.to_owned() }]
    };
    let stranger = names::user(&OrganizationId::new_v7(), &UserId::new_v7());
    for (field, bad) in [
        ("organization", QueryUsageRequest { organization: "acme".to_owned(), ..ask.clone() }),
        ("start_time", QueryUsageRequest { start_time: None, ..ask.clone() }),
        ("end_time", QueryUsageRequest { end_time: Some(Timestamp { seconds: i64::MAX, nanos: 0 }), ..ask.clone() }),
        ("end_time", QueryUsageRequest { end_time: ask.start_time, ..ask.clone() }),
        ("end_time", QueryUsageRequest { end_time: Some(at(401 * 86_400)), ..ask.clone() }),
        ("bucket", QueryUsageRequest { bucket: 77, ..ask.clone() }),
        ("group_by[1]", QueryUsageRequest { group_by: vec![1, 0], ..ask.clone() }),
        ("group_by", QueryUsageRequest { group_by: vec![1, 1], ..ask.clone() }),
        ("filters[0].value", QueryUsageRequest { filters: filter(Dimension::User, &stranger), ..ask.clone() }),
        ("filters[0].value", QueryUsageRequest { filters: filter(Dimension::Model, "a\0b"), ..ask.clone() }),
        ("filters[0].dimension", QueryUsageRequest { filters: filter(Dimension::Unspecified, ""), ..ask.clone() }),
        ("page_size", QueryUsageRequest { page_size: -1, ..ask.clone() }),
        ("page_token", QueryUsageRequest { page_token: "bogus".to_owned(), ..ask.clone() }),
    ] {
        let failure = Failure::from(operator.query_usage(bad).await.unwrap_err());
        assert_eq!(failure.fields()[0].subject, field);
        assert_eq!(failure.code(), tonic::Code::InvalidArgument, "{field}");
    }
    let watch = WatchChangesRequest { after: -1, until_now: true };
    assert_eq!(Failure::from(operator.watch_changes(watch).await.unwrap_err()).fields()[0].subject, "after");
    let scan = ScanEventsRequest { after: "x".to_owned(), ..Default::default() };
    assert_eq!(Failure::from(operator.scan_events(scan).await.unwrap_err()).fields()[0].subject, "after");
}

#[tokio::test]
async fn the_largest_batch_of_the_contract_is_taken_and_one_more_is_not() {
    let house = House::open().await;
    let organization = OrganizationId::new_v7();
    let long = "x".repeat(256);
    let events = |count: usize| {
        let event = |_| UsageEvent {
            model: long.clone(),
            provider: long.clone(),
            operation: long.clone(),
            request_id: long.clone(),
            price_version: long.clone(),
            source: long.clone(),
            ..event(organization, Some(UserId::new_v7()))
        };
        (0..count).map(event).collect::<Vec<_>>()
    };
    let outcomes = tokio::time::timeout(Duration::from_secs(60), record(&house, events(5000))).await.unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.disposition() == Disposition::Recorded));
    let refused = house.service("ai-broker").record_events(RecordEventsRequest { events: events(5001) }).await;
    assert_eq!(Failure::from(refused.unwrap_err()).reason(), ErrorReason::InvalidArgument);
}
