//! What each service says, asked over its public RPCs as an operator.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use prost_types::Timestamp;
use tonic::Request;
use weir_proto::billing::v1::{self as billing, GetStatementRequest};
use weir_proto::broker::v1 as broker;
use weir_proto::quota::v1::{self as quota, ListSettlementsRequest};
use weir_proto::usage::v1::{Bucket, QueryUsageRequest, ScanEventsRequest};
use weir_rpc::Failure;

use crate::prices::Prices;
use crate::provider::Provider;
use crate::siblings::Siblings;
use crate::totals::Totals;

/// A scan over everything may take its time.
const SCAN: Duration = Duration::from_secs(300);
/// For what is busy.
const PATIENCE: Duration = Duration::from_secs(60);
const HOUR: i64 = 3_600;

/// A book's sums, and how many of its requests are estimated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Book {
    /// All of it.
    pub totals: Totals,
    /// Of `totals.requests`.
    pub estimated: i64,
}

/// The books of all services for some organisations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Books {
    /// What was committed.
    pub quota: Book,
    /// What was recorded.
    pub usage: Book,
    /// What is owed.
    pub billing: Book,
}

/// From an hour before now to an hour after it.
fn around_now() -> (Timestamp, Timestamp) {
    let now = chrono::Utc::now().timestamp();
    (Timestamp { seconds: now - 3 * HOUR, nanos: 0 }, Timestamp { seconds: now + HOUR, nanos: 0 })
}

impl Books {
    /// Asks every service about these organisations.
    ///
    /// # Errors
    /// A service does not answer.
    pub async fn of(siblings: &Siblings, organizations: &[String]) -> anyhow::Result<Self> {
        let mut books = Self::default();
        for organization in organizations {
            add(&mut books.quota, patiently(async || quota_book(siblings, organization).await).await.context("quota")?);
            add(&mut books.usage, patiently(async || usage_book(siblings, organization).await).await.context("usage")?);
            let billing = patiently(async || billing_book(siblings, organization).await).await;
            add(&mut books.billing, billing.context("billing")?);
        }
        Ok(books)
    }
}

/// Asks again while a service, or what it stands on, is busy.
async fn patiently(ask: impl AsyncFn() -> anyhow::Result<Book>) -> anyhow::Result<Book> {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Err(error) if is_transient(&error) && tokio::time::Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            answer => return answer,
        }
    }
}

fn is_transient(error: &anyhow::Error) -> bool {
    error.downcast_ref::<tonic::Status>().is_some_and(|status| Failure::from(status).is_transient())
}

fn add(to: &mut Book, book: Book) {
    to.totals += book.totals;
    to.estimated += book.estimated;
}

async fn quota_book(siblings: &Siblings, organization: &str) -> anyhow::Result<Book> {
    let mut request = Request::new(ListSettlementsRequest {
        organization: organization.to_owned(),
        ..ListSettlementsRequest::default()
    });
    request.set_timeout(SCAN);
    let mut stream = siblings.quota().list_settlements(request).await?.into_inner();
    let mut book = Book::default();
    while let Some(page) = stream.message().await? {
        for settlement in page.settlements.iter().filter(|settlement| !settlement.released) {
            let of = |unit: &str| {
                settlement.amounts.iter().find(|amount| amount.unit == unit).map_or(0, |amount| amount.value)
            };
            let totals = Totals {
                requests: of("request"),
                input_tokens: of("input_token"),
                output_tokens: of("output_token"),
                cost_nano_usd: of("nano_usd"),
            };
            add(&mut book, Book { totals, estimated: i64::from(settlement.estimated) });
        }
    }
    Ok(book)
}

async fn usage_book(siblings: &Siblings, organization: &str) -> anyhow::Result<Book> {
    let (start, end) = around_now();
    let request = QueryUsageRequest {
        organization: organization.to_owned(),
        start_time: Some(start),
        end_time: Some(end),
        bucket: Bucket::Total.into(),
        ..QueryUsageRequest::default()
    };
    let rows = siblings.usage().query_usage(request).await?.into_inner().rows;
    let mut book = Book::default();
    for row in rows {
        let totals = Totals {
            requests: row.requests,
            input_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
            cost_nano_usd: row.cost_nano_usd,
        };
        add(&mut book, Book { totals, estimated: row.estimated_requests });
    }
    Ok(book)
}

async fn billing_book(siblings: &Siblings, organization: &str) -> anyhow::Result<Book> {
    let (start, end) = around_now();
    let request =
        GetStatementRequest { organization: organization.to_owned(), start_time: Some(start), end_time: Some(end) };
    let statement = siblings.billing().get_statement(request).await?.into_inner();
    let mut book = Book::default();
    for line in &statement.lines {
        let totals = Totals {
            requests: line.requests,
            input_tokens: line.input_tokens,
            output_tokens: line.output_tokens,
            cost_nano_usd: line.amount_nano_usd,
        };
        add(&mut book, Book { totals, estimated: line.estimated_requests });
    }
    if book.totals.cost_nano_usd != statement.total_nano_usd {
        bail!(
            "the statement of {organization} says {} and its lines add up to {}",
            statement.total_nano_usd,
            book.totals.cost_nano_usd
        );
    }
    if statement.unrated_events != 0 {
        bail!("the statement of {organization} lacks {} events", statement.unrated_events);
    }
    Ok(book)
}

/// What the provider served, with the cost by the price book.
///
/// # Errors
/// The provider does not answer, its log is too short, or a model has no price.
pub async fn provider_book(provider: &Provider, prices: &Prices) -> anyhow::Result<Totals> {
    let (stats, served) = (provider.stats().await?, provider.served().await?);
    if stats.requests != served.len() as u64 {
        bail!(
            "the provider's log has {} of {} requests: give it a larger --log-capacity",
            served.len(),
            stats.requests
        );
    }
    let mut totals = Totals::default();
    for one in served.iter().filter(|one| one.charged) {
        totals += prices.request(&one.model, i64::try_from(one.input_tokens)?, i64::try_from(one.output_tokens)?)?;
    }
    Ok(totals)
}

/// A recorded event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// `organizations/{organization}`.
    pub organization: String,
    /// Its tokens and cost.
    pub totals: Totals,
    /// Whether they are assumed.
    pub estimated: bool,
}

/// Every recorded event by its id.
///
/// # Errors
/// Usage does not answer.
pub async fn events(siblings: &Siblings) -> anyhow::Result<BTreeMap<String, Recorded>> {
    let mut request = Request::new(ScanEventsRequest::default());
    request.set_timeout(SCAN);
    let mut stream = siblings.usage().scan_events(request).await?.into_inner();
    let mut events = BTreeMap::new();
    while let Some(page) = stream.message().await? {
        for event in page.events {
            let totals = Totals::request(event.input_tokens, event.output_tokens, event.cost_nano_usd);
            let (organization, estimated) = (event.organization, event.estimated);
            events.insert(event.event_id, Recorded { organization, totals, estimated });
        }
    }
    Ok(events)
}

/// Waits until nothing is under way, nothing is held, and everything is rated.
///
/// # Errors
/// It is not so in time; the error says what is left.
pub async fn settle(siblings: &Siblings, within: Duration) -> anyhow::Result<Duration> {
    let start = tokio::time::Instant::now();
    loop {
        let left = match unsettled(siblings).await {
            Ok(None) => return Ok(start.elapsed()),
            Ok(Some(left)) => left,
            Err(error) => format!("{error:#}"),
        };
        if start.elapsed() > within {
            bail!("not settled after {within:?}: {left}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn unsettled(siblings: &Siblings) -> anyhow::Result<Option<String>> {
    let broker = siblings.broker().get_status(broker::GetStatusRequest {}).await.context("ai-broker")?.into_inner();
    if broker.in_flight + broker.unsettled > 0 {
        return Ok(Some(format!(
            "{} calls in flight and {} unsettled in the broker",
            broker.in_flight, broker.unsettled
        )));
    }
    let quota = siblings.quota().get_status(quota::GetStatusRequest {}).await.context("quota")?.into_inner();
    if quota.held > 0 {
        return Ok(Some(format!("{} reservations held in quota, {} of them expired", quota.held, quota.expired)));
    }
    let billing = siblings.billing().get_status(billing::GetStatusRequest {}).await.context("billing")?.into_inner();
    if billing.rated_position < billing.feed_head {
        return Ok(Some(format!("billing has rated {} of {} changes", billing.rated_position, billing.feed_head)));
    }
    Ok(None)
}
