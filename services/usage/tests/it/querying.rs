use chrono::{DateTime, Utc};
use weir_types::{OrganizationId, ReservationId, UserId};
use weir_usage::Error;
use weir_usage::app::{QueryUsage, query_usage};
use weir_usage::domain::{Bucket, Dimension, Event, Filter, FilterValue, InvalidQuery, Query};
use weir_usage::storage::report::{Line, Value};

use crate::fixture::{Usage, database, event};

fn at(time: &str) -> DateTime<Utc> {
    time.parse().unwrap()
}

async fn ask(usage: &Usage, query: Query, page_size: i32) -> Vec<Line> {
    let mut request = QueryUsage { query, page_size, page_token: String::new() };
    let mut all = Vec::new();
    loop {
        let (lines, next) = query_usage(&usage.store, &request).await.unwrap();
        all.extend(lines);
        if next.is_empty() {
            return all;
        }
        request.page_token = next;
    }
}

fn names(line: &Line) -> Vec<String> {
    let name = |value: &Value| match value {
        Value::Name(name) => name.clone(),
        Value::Id(id) => id.to_string(),
    };
    line.values.iter().map(name).collect()
}

/// Two models and two users on the days around the end of a month.
async fn recorded(usage: &Usage, organization: OrganizationId, user: UserId) {
    let template = event(organization);
    let mut events = Vec::new();
    for (time, model, of, output) in [
        ("2026-10-30T23:59:59.999999Z", "small", Some(user), 1),
        ("2026-10-31T00:00:00Z", "small", Some(user), 10),
        ("2026-10-31T00:59:59Z", "large", None, 100),
        ("2026-11-01T05:00:00Z", "large", Some(user), 1000),
        ("2026-11-01T05:30:00Z", "large", None, 10_000),
    ] {
        events.push(Event {
            id: ReservationId::new_v7(),
            event_time: at(time),
            model: model.to_owned(),
            user: of,
            output_tokens: output,
            ..template.clone()
        });
    }
    usage.record(&events).await;
    // Another tenant's.
    usage.record(&[Event { event_time: at("2026-10-31T00:00:00Z"), ..event(OrganizationId::new_v7()) }]).await;
}

#[tokio::test]
async fn sums_come_by_hour_day_month_and_in_total() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let (organization, user) = (OrganizationId::new_v7(), UserId::new_v7());
    recorded(&usage, organization, user).await;
    let range = (at("2026-10-01T00:00:00Z"), at("2026-12-01T00:00:00Z"));
    for (bucket, expected) in [
        (
            Bucket::Hour,
            vec![("2026-10-30T23:00:00Z", 1), ("2026-10-31T00:00:00Z", 110), ("2026-11-01T05:00:00Z", 11_000)],
        ),
        (
            Bucket::Day,
            vec![("2026-10-30T00:00:00Z", 1), ("2026-10-31T00:00:00Z", 110), ("2026-11-01T00:00:00Z", 11_000)],
        ),
        (Bucket::Month, vec![("2026-10-01T00:00:00Z", 111), ("2026-11-01T00:00:00Z", 11_000)]),
        (Bucket::Total, vec![("2026-10-01T00:00:00Z", 11_111)]),
    ] {
        let query = Query::new(organization, range, bucket, vec![], vec![]).unwrap();
        for page_size in [1, 100] {
            let lines = ask(&usage, query.clone(), page_size).await;
            let found: Vec<_> = lines.iter().map(|line| (line.bucket, line.sums.output_tokens)).collect();
            let expected: Vec<_> = expected.iter().map(|(time, output)| (at(time), *output)).collect();
            assert_eq!(found, expected, "{bucket:?}");
        }
    }
}

#[tokio::test]
async fn sums_are_grouped_and_filtered_by_dimensions_and_paged_through() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let (organization, user) = (OrganizationId::new_v7(), UserId::new_v7());
    recorded(&usage, organization, user).await;
    let range = (at("2026-10-30T00:00:00Z"), at("2026-11-02T00:00:00Z"));
    let all = [Dimension::Model, Dimension::User, Dimension::Provider, Dimension::Operation];
    let grouped = Query::new(organization, range, Bucket::Day, all.to_vec(), vec![]).unwrap();
    let whole = ask(&usage, grouped.clone(), 0).await;
    assert_eq!(whole.len(), 5);
    assert_eq!(names(&whole[1])[..1], ["large"]);
    assert_eq!(whole.iter().map(|line| line.sums.requests).sum::<i64>(), 5);
    for page_size in 1..5 {
        assert_eq!(ask(&usage, grouped.clone(), page_size).await, whole, "pages of {page_size}");
    }
    let large = Filter { dimension: Dimension::Model, value: FilterValue::Name("large".to_owned()) };
    let mine = Filter { dimension: Dimension::User, value: FilterValue::User(Some(user)) };
    let nobodys = Filter { dimension: Dimension::User, value: FilterValue::User(None) };
    for (filters, expected) in
        [(vec![large.clone()], 11_100), (vec![large.clone(), mine], 1000), (vec![large, nobodys], 10_100)]
    {
        let query = Query::new(organization, range, Bucket::Total, vec![], filters).unwrap();
        assert_eq!(ask(&usage, query, 0).await[0].sums.output_tokens, expected);
    }
}

#[tokio::test]
async fn a_range_is_widened_to_whole_hours_and_ends_before_its_end() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let (organization, user) = (OrganizationId::new_v7(), UserId::new_v7());
    recorded(&usage, organization, user).await;
    for (start, end, expected) in [
        ("2026-10-31T00:30:00Z", "2026-10-31T00:31:00Z", Some(110)),
        ("2026-10-30T23:00:00Z", "2026-10-31T00:00:00Z", Some(1)),
        ("2026-10-31T01:00:00Z", "2026-11-01T05:00:00Z", None),
        ("2026-10-31T01:00:00Z", "2026-11-01T05:00:00.000001Z", Some(11_000)),
    ] {
        let query = Query::new(organization, (at(start), at(end)), Bucket::Total, vec![], vec![]).unwrap();
        let lines = ask(&usage, query, 0).await;
        assert_eq!(lines.first().map(|line| line.sums.output_tokens), expected, "{start} to {end}");
    }
}

#[test]
fn a_question_that_makes_no_sense_is_refused() {
    let organization = OrganizationId::new_v7();
    let ask = |start: &str, end: &str, group_by: Vec<Dimension>| {
        Query::new(organization, (at(start), at(end)), Bucket::Day, group_by, vec![]).unwrap_err()
    };
    let day = "2026-10-31T00:00:00Z";
    assert_eq!(ask(day, day, vec![]), InvalidQuery::EmptyRange);
    assert_eq!(ask(day, "2025-10-31T00:00:00Z", vec![]), InvalidQuery::EmptyRange);
    assert_eq!(ask("2025-01-01T00:00:00Z", "2026-02-06T00:00:00Z", vec![]), InvalidQuery::TooWide);
    let twice = vec![Dimension::User, Dimension::Model, Dimension::User];
    assert_eq!(ask(day, "2026-11-01T00:00:00Z", twice), InvalidQuery::RepeatedDimension);
}

#[tokio::test]
async fn a_page_token_belongs_to_its_question() {
    let database = database().await;
    let usage = Usage::start(&database.url);
    let (organization, user) = (OrganizationId::new_v7(), UserId::new_v7());
    recorded(&usage, organization, user).await;
    let range = (at("2026-10-01T00:00:00Z"), at("2026-12-01T00:00:00Z"));
    let query = Query::new(organization, range, Bucket::Day, vec![Dimension::Model], vec![]).unwrap();
    let mut request = QueryUsage { query, page_size: 1, page_token: String::new() };
    (_, request.page_token) = query_usage(&usage.store, &request).await.unwrap();
    assert!(query_usage(&usage.store, &request).await.is_ok());
    request.query.bucket = Bucket::Hour;
    assert!(matches!(query_usage(&usage.store, &request).await, Err(Error::InvalidPageToken(_))));
}
