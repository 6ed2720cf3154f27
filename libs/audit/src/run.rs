//! Rounds over the services until everything agrees, or the time to settle is over.

use std::collections::HashMap;
use std::time::Duration;

use chrono::DateTime;
use futures::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use tokio::time::Instant;
use weir_proto::billing::v1::billing_service_client::BillingServiceClient;
use weir_proto::billing::v1::{self as billing, ScanRatedEventsRequest};
use weir_proto::broker::v1 as broker;
use weir_proto::broker::v1::broker_service_client::BrokerServiceClient;
use weir_proto::quota::v1::quota_service_client::QuotaServiceClient;
use weir_proto::quota::v1::{self as quota, ListSettlementsRequest};
use weir_proto::usage::v1::ScanEventsRequest;
use weir_proto::usage::v1::usage_service_client::UsageServiceClient;
use weir_rpc::{Channel, Failure};

use crate::books::Books;
use crate::check::{Check, Finding};
use crate::merge::merge;
use crate::record::{Event, Rated, Settlement};
use crate::report::{Brokers, Report, Statuses};
use crate::summaries;

/// Brokers that are asked at once.
const AT_ONCE: usize = 8;
/// How long one answer, or the next batch of a stream, may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// A contradiction must last this long to count, when there is that much time: less may be a call that is just ending.
const LASTING: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Clocks differ, and quota goes on deleting while records are read: what is about to be deleted, within so many
/// seconds, is not relied on.
const DELETION_MARGIN: i64 = 3_600;

/// The services, called as `operator`.
#[derive(Clone, Debug)]
pub struct Services {
    /// Settlements and counters.
    pub quota: Channel,
    /// Events and rollups.
    pub usage: Channel,
    /// Rated events, statements and the ledger.
    pub billing: Channel,
    /// What is under way; each knows its own calls alone.
    pub brokers: Vec<Instance>,
}

/// One instance of a service.
#[derive(Clone, Debug)]
pub struct Instance {
    /// What the report calls it.
    pub name: String,
    /// The way to it.
    pub channel: Channel,
}

/// How to audit.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How long what differs may take to agree.
    pub settle: Duration,
    /// Only this organisation (`organizations/{organization}`); totals that services keep over all of them are not compared then.
    pub organization: Option<String>,
}

/// Why an audit has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// A service refused or did not answer.
    #[error("{}", refusal(service, status))]
    Rpc {
        /// Which.
        service: &'static str,
        /// Its answer.
        status: Box<tonic::Status>,
    },
    /// A service did not answer in time.
    #[error("{service} did not answer within {} s", ANSWER_WITHIN.as_secs())]
    Late {
        /// Which.
        service: &'static str,
    },
    /// A service sent a record that breaks its contract.
    #[error("{service} sent a malformed record: {what}")]
    Malformed {
        /// Which.
        service: &'static str,
        /// What is wrong with it.
        what: String,
    },
}

impl AuditError {
    /// Whether the same question may be answered a little later.
    fn is_transient(&self) -> bool {
        match self {
            Self::Rpc { status, .. } => Failure::from(&**status).is_transient(),
            Self::Late { .. } => true,
            Self::Malformed { .. } => false,
        }
    }
}

/// The service's own words; a channel's errors name the service already.
fn refusal(service: &str, status: &tonic::Status) -> String {
    match status.message() {
        "" => format!("{service}: {}", status.code()),
        message if message.starts_with(service) => message.to_owned(),
        message => format!("{service}: {message}"),
    }
}

/// Reads everything, as often as it takes, and compares it.
///
/// # Errors
/// When a service does not answer: then nothing is proven either way.
pub async fn audit(services: &Services, options: &Options) -> Result<Report, AuditError> {
    let until = Instant::now() + options.settle;
    let lasting = LASTING.min(options.settle / 2);
    let mut first_seen: HashMap<(Check, String), Instant> = HashMap::new();
    let mut pause = FIRST_PAUSE;
    let mut rounds = 0;
    loop {
        let begun = Instant::now();
        let read = match round(services, options).await {
            // Whatever is busy, or comes back in a moment, may take as long as what differs.
            Err(error) if error.is_transient() && Instant::now() + pause <= until => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
            read => read?,
        };
        let Round { mut books, status, brokers, quiet } = read;
        rounds += 1;
        first_seen = books
            .findings
            .iter()
            .map(Finding::key)
            .map(|(check, subject)| (check, subject.to_owned()))
            .map(|key| {
                let seen = first_seen.get(&key).copied().unwrap_or(begun);
                (key, seen)
            })
            .collect();
        let settled = quiet && books.findings.is_empty();
        if settled || Instant::now() + pause > until {
            let now = Instant::now();
            books.findings.retain(|finding| {
                let (check, subject) = finding.key();
                first_seen.get(&(check, subject.to_owned())).is_none_or(|seen| now.duration_since(*seen) >= lasting)
            });
            return Ok(Report {
                balanced: books.findings.is_empty(),
                settled,
                quota: books.quota,
                usage: books.usage,
                billing: books.billing,
                organizations: books.organizations.len() as u64,
                status,
                settlements_since: books.settlements_since,
                not_compared: books.not_compared,
                brokers,
                rounds,
                drift: books.findings,
                more_drift: books.more_findings,
            });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One pass over everything.
async fn round(services: &Services, options: &Options) -> Result<Round, AuditError> {
    let before = statuses(services).await?;
    let kept = before.quota.settlements_kept_since;
    let settlements_since = kept.and_then(|since| DateTime::from_timestamp(since.seconds + DELETION_MARGIN, 0));
    let mut books = Books { settlements_since, ..Books::default() };
    let (settlements, events, rated) =
        tokio::try_join!(settlements(services, options), events(services, options), rated(services, options))?;
    merge(settlements, events, rated, &mut books).await?;
    summaries::compare(services, &mut books).await?;
    let after = statuses(services).await?;
    // What was under way before the records were read may be missing in them, whatever is said afterwards.
    let unmoved = before.billing.feed_head == after.billing.feed_head;
    let quiet = unmoved && before.statuses().is_quiet() && after.statuses().is_quiet();
    let whole = options.organization.is_none() && before.billing.rated_position == after.billing.rated_position;
    judge_billing(&after.billing, whole, &mut books);
    for drift in &after.quota.drifts {
        let subject = format!("{} {} {}", drift.organization, drift.limit, drift.subject);
        let detail = format!("counter {}, expected {}", drift.counter, drift.expected);
        books.find(Finding::new(Check::Counter, subject, detail));
    }
    if after.quota.expired > 0 {
        books.find(Finding::new(Check::Expired, "quota", after.quota.expired.to_string()));
    }
    let status = after.statuses();
    Ok(Round { books, status, brokers: after.brokers, quiet })
}

/// What one pass found.
struct Round {
    books: Books,
    status: Statuses,
    brokers: Brokers,
    /// Nothing was under way, from before the records were read until after.
    quiet: bool,
}

/// What the services say about themselves.
struct Answers {
    broker: broker::GetStatusResponse,
    brokers: Brokers,
    quota: quota::GetStatusResponse,
    billing: billing::GetStatusResponse,
}

/// In the direction in which a call travels through the services: what has left one has arrived at the next.
async fn statuses(services: &Services) -> Result<Answers, AuditError> {
    let (broker, brokers) = brokers(&services.brokers).await?;
    let mut quota = QuotaServiceClient::new(services.quota.clone());
    let quota = answered("quota", quota.get_status(quota::GetStatusRequest {})).await?;
    let mut billing = BillingServiceClient::new(services.billing.clone());
    let billing = answered("billing", billing.get_status(billing::GetStatusRequest {})).await?;
    Ok(Answers { broker, brokers, quota, billing })
}

/// The sum over all brokers. One that does not answer has nothing under way that quota does not hold; but one must answer.
async fn brokers(instances: &[Instance]) -> Result<(broker::GetStatusResponse, Brokers), AuditError> {
    let asked = stream::iter(instances).map(|Instance { name, channel }| async move {
        let mut client = BrokerServiceClient::new(channel.clone());
        (name, answered("ai-broker", client.get_status(broker::GetStatusRequest {})).await)
    });
    let mut asked = asked.buffered(AT_ONCE);
    let (mut sum, mut brokers) = (broker::GetStatusResponse::default(), Brokers::default());
    let mut refusal = None;
    while let Some((name, answer)) = asked.next().await {
        match answer {
            Ok(status) => {
                sum.in_flight += status.in_flight;
                sum.unsettled += status.unsettled;
                brokers.answered.push(name.clone());
            }
            Err(error) => {
                brokers.silent.push(name.clone());
                refusal = refusal.or(Some(error));
            }
        }
    }
    match refusal {
        Some(error) if brokers.answered.is_empty() => Err(error),
        _ => Ok((sum, brokers)),
    }
}

impl Answers {
    fn statuses(&self) -> Statuses {
        Statuses {
            held: self.quota.held,
            expired: self.quota.expired,
            counters: self.quota.counters,
            in_flight: self.broker.in_flight,
            unsettled: self.broker.unsettled,
            rating_lag: self.billing.feed_head - self.billing.rated_position,
            ledger_sum_nano_usd: self.billing.ledger_sum_nano_usd,
        }
    }
}

impl Statuses {
    fn is_quiet(&self) -> bool {
        self.held == 0 && self.in_flight == 0 && self.unsettled == 0 && self.rating_lag == 0
    }
}

/// What billing says about itself. `whole`: the records that were read are all that this status counts.
fn judge_billing(status: &billing::GetStatusResponse, whole: bool, books: &mut Books) {
    let mut find = |check, subject: String, detail: String| books.findings.push(Finding::new(check, subject, detail));
    let subject = || "billing".to_owned();
    if status.ledger_sum_nano_usd != 0 {
        find(Check::LedgerSum, subject(), status.ledger_sum_nano_usd.to_string());
    }
    if status.receivable_nano_usd != status.rated_nano_usd {
        let detail = format!("receivable {}, rated {}", status.receivable_nano_usd, status.rated_nano_usd);
        find(Check::Receivable, subject(), detail);
    }
    if status.price_mismatches != 0 {
        find(Check::Price, subject(), format!("{} events", status.price_mismatches));
    }
    if status.unrated_events != 0 {
        find(Check::Unrated, subject(), format!("{} events", status.unrated_events));
    }
    if status.feed_head > status.rated_position {
        // Named by the position: rating that moves on is never the same finding twice.
        let detail = format!("{} changes", status.feed_head - status.rated_position);
        find(Check::RatingLag, format!("position {}", status.rated_position), detail);
    }
    let sum = books.billing.cost_nano_usd;
    if whole && status.rated_nano_usd != sum {
        let detail = format!("total {}, events {sum}", status.rated_nano_usd);
        books.findings.push(Finding::new(Check::RatedTotal, subject(), detail));
    }
}

async fn settlements(
    services: &Services,
    options: &Options,
) -> Result<impl Stream<Item = Result<Settlement, AuditError>> + Unpin, AuditError> {
    let request =
        ListSettlementsRequest { organization: options.organization.clone().unwrap_or_default(), after: String::new() };
    let batches = answered("quota", QuotaServiceClient::new(services.quota.clone()).list_settlements(request)).await?;
    Ok(records("quota", batches, |batch| batch.settlements))
}

async fn events(
    services: &Services,
    options: &Options,
) -> Result<impl Stream<Item = Result<Event, AuditError>> + Unpin, AuditError> {
    let request =
        ScanEventsRequest { organization: options.organization.clone().unwrap_or_default(), after: String::new() };
    let batches = answered("usage", UsageServiceClient::new(services.usage.clone()).scan_events(request)).await?;
    Ok(records("usage", batches, |batch| batch.events))
}

async fn rated(
    services: &Services,
    options: &Options,
) -> Result<impl Stream<Item = Result<Rated, AuditError>> + Unpin, AuditError> {
    let request =
        ScanRatedEventsRequest { organization: options.organization.clone().unwrap_or_default(), after: String::new() };
    let batches =
        answered("billing", BillingServiceClient::new(services.billing.clone()).scan_rated_events(request)).await?;
    Ok(records("billing", batches, |batch| batch.events))
}

/// The records of a stream of batches, each batch awaited for a bounded time.
fn records<B, W, R>(
    service: &'static str,
    batches: tonic::Streaming<B>,
    content: impl Fn(B) -> Vec<W> + Send + 'static,
) -> impl Stream<Item = Result<R, AuditError>> + Unpin
where
    B: Send + 'static,
    R: TryFrom<W, Error = AuditError>,
{
    let batches = stream::try_unfold(batches, move |mut batches| async move {
        let next =
            tokio::time::timeout(ANSWER_WITHIN, batches.next()).await.map_err(|_| AuditError::Late { service })?;
        match next.transpose() {
            Ok(batch) => Ok(batch.map(|batch| (batch, batches))),
            Err(status) => Err(AuditError::Rpc { service, status: Box::new(status) }),
        }
    });
    Box::pin(batches.map_ok(move |batch| stream::iter(content(batch).into_iter().map(R::try_from))).try_flatten())
}

/// The answer to a call, within its time.
pub(crate) async fn answered<T>(
    service: &'static str,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, AuditError> {
    match tokio::time::timeout(ANSWER_WITHIN, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(AuditError::Rpc { service, status: Box::new(status) }),
        Err(_) => Err(AuditError::Late { service }),
    }
}
