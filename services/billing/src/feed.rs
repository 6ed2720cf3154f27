//! Usage's feed, as rating reads it.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::DateTime;
use tonic::Streaming;
use uuid::Uuid;
use weir_proto::common::v1::ErrorReason;
use weir_proto::usage::v1::usage_service_client::UsageServiceClient;
use weir_proto::usage::v1::{Change as ChangeMessage, UsageEvent, WatchChangesRequest, WatchChangesResponse};
use weir_rpc::{Channel, Failure};
use weir_types::{NanoUsd, OrganizationId, ReservationId, names};

use crate::domain::statement::Period;
use crate::domain::usage::{Change, Usage};
use crate::error::{Error, Result};

/// How long the feed may take to open, and a look at it to come to its present end.
const LOOK_DEADLINE: Duration = Duration::from_secs(10);
/// How many changes such a look reads at most.
const LOOK_LIMIT: usize = 20_000;

/// A client of usage's feed.
#[derive(Debug, Clone)]
pub(crate) struct UsageFeed {
    client: UsageServiceClient<Channel>,
}

/// Changes, in order, and how far the feed is.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The next changes.
    pub(crate) changes: Vec<Change>,
    /// The newest durable position.
    pub(crate) head: i64,
}

impl UsageFeed {
    /// Reads by `channel`.
    #[must_use]
    pub(crate) fn new(channel: Channel) -> Self {
        let limit = channel.max_message_bytes();
        Self { client: UsageServiceClient::new(channel).max_decoding_message_size(limit) }
    }

    /// Every change after the position `after`, without an end.
    ///
    /// # Errors
    /// When usage doesn't begin to answer in time.
    pub(crate) async fn follow(&self, after: i64) -> Result<Follow> {
        in_time(self.open(after, false)).await
    }

    /// The newest durable position.
    ///
    /// # Errors
    /// When usage doesn't answer in time.
    pub(crate) async fn head(&self, after: i64) -> Result<i64> {
        in_time(async {
            let opened = match self.open(after, true).await {
                // The feed is shorter than what was rated: usage has lost something, and an audit has to see by how much.
                Err(Error::Feed(failure)) if !failure.is_transient() && after > 0 => self.open(0, true).await,
                opened => opened,
            };
            Ok(opened?.next().await?.map_or(after, |batch| batch.head))
        })
        .await
    }

    /// How many changes after the position `after` are of this organisation and period. What lies beyond a bound of
    /// changes is not looked at, and all of it counts.
    ///
    /// # Errors
    /// When usage doesn't answer in time.
    pub(crate) async fn backlog(&self, after: i64, organization: OrganizationId, period: Period) -> Result<i64> {
        in_time(async {
            let mut feed = self.open(after, true).await?;
            let (mut count, mut looked_at, mut last, mut head) = (0, 0, after, after);
            while let Some(batch) = feed.next().await? {
                head = head.max(batch.head);
                looked_at += batch.changes.len();
                last = batch.changes.last().map_or(last, |change| change.position);
                for change in &batch.changes {
                    // What can't be read may be anybody's.
                    let counts =
                        |usage: &Usage| usage.organization == organization && period.contains(usage.event_time);
                    count += i64::from(change.usage.as_ref().map_or(true, counts));
                }
                if looked_at >= LOOK_LIMIT {
                    return Ok(count + (head - last).max(0));
                }
            }
            Ok(count)
        })
        .await
    }

    async fn open(&self, after: i64, until_now: bool) -> Result<Follow> {
        let request = WatchChangesRequest { after, until_now };
        let answer = self.client.clone().watch_changes(request).await.map_err(failed)?;
        Ok(Follow(answer.into_inner()))
    }
}

/// An open feed.
#[derive(Debug)]
pub(crate) struct Follow(Streaming<WatchChangesResponse>);

impl Follow {
    /// The next changes; nothing when the feed ends. What was read is not lost when this is dropped.
    ///
    /// # Errors
    /// When the feed breaks off.
    pub(crate) async fn next(&mut self) -> Result<Option<Batch>> {
        let Some(message) = self.0.message().await.map_err(failed)? else { return Ok(None) };
        Ok(Some(Batch { changes: message.changes.into_iter().map(change).collect(), head: message.head }))
    }
}

fn failed(status: tonic::Status) -> Error {
    Error::Feed(Box::new(Failure::from(&status)))
}

async fn in_time<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(LOOK_DEADLINE, work).await {
        Ok(result) => result,
        Err(_) => {
            let error = weir_rpc::Error::new(ErrorReason::DeadlineExceeded, "usage: the feed did not come in time");
            Err(failed(error.into()))
        }
    }
}

fn change(message: ChangeMessage) -> Change {
    let event = message.event.unwrap_or_default();
    let event_id = event.event_id.clone();
    Change { position: message.position, revision: message.revision, event_id, usage: usage(event) }
}

fn usage(event: UsageEvent) -> Result<Usage, String> {
    let event_id: ReservationId = event.event_id.parse().map_err(|error| format!("event_id: {error}"))?;
    let organization =
        names::parse_organization(&event.organization).map_err(|error| format!("organization: {error}"))?;
    let event_time = event
        .event_time
        .and_then(|time| DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?))
        .ok_or("event_time: is missing or not a time")?;
    Ok(Usage {
        event_id: Uuid::from(event_id),
        organization,
        provider: event.provider,
        model: event.model,
        price_version: event.price_version,
        event_time,
        input_tokens: event.input_tokens,
        cached_input_tokens: event.cached_input_tokens,
        output_tokens: event.output_tokens,
        quantities: event.quantities.into_iter().collect::<BTreeMap<_, _>>(),
        claimed: NanoUsd(event.cost_nano_usd),
        estimated: event.estimated,
        own_key: !event.provider_key.is_empty(),
        requests: event.requests.max(1),
    })
}
