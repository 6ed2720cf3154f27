//! The RPCs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use prost_types::{Duration as ProtoDuration, Timestamp};
use tonic::{Request, Response, Status};
use weir_proto::common::v1::{Amount, ItemError};
use weir_proto::quota::v1::quota_service_server::QuotaService;
use weir_proto::quota::v1::{self as proto, settle, settle_outcome};
use weir_rpc::caller;

use super::parse;
use crate::app::{LeaseOutcome, Outcome, Quota, Settle};
use crate::domain::LimitState;
use crate::error::Error;
use crate::storage::settlements::{ByUnit, Listed};

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Grpc(pub(crate) Arc<Quota>);

/// The most settlements, leases or reservations in one call.
const MOST: usize = 1_000;

#[tonic::async_trait]
impl QuotaService for Grpc {
    async fn reserve(
        &self,
        request: Request<proto::ReserveRequest>,
    ) -> Result<Response<proto::ReserveResponse>, Status> {
        let reserve = parse::reserve(caller(&request), request.get_ref())?;
        let reserved = self.0.reserve(reserve).await?;
        let limits = reserved.limits.iter().map(limit_state).collect();
        Ok(Response::new(proto::ReserveResponse { handle: reserved.handle, limits, epoch: reserved.epoch }))
    }

    async fn extend(&self, request: Request<proto::ExtendRequest>) -> Result<Response<proto::ExtendResponse>, Status> {
        let leases = &request.get_ref().leases;
        at_most("leases", leases.len())?;
        let extensions = leases.iter().map(parse::extension).collect::<Result<Vec<_>, _>>()?;
        let (outcomes, epoch) = self.0.extend(extensions).await?;
        let outcome = |outcome| match outcome {
            LeaseOutcome::Extended => proto::LeaseOutcome::Extended,
            LeaseOutcome::Announced => proto::LeaseOutcome::Announced,
            LeaseOutcome::Settled => proto::LeaseOutcome::Settled,
        };
        let outcomes = outcomes.into_iter().map(|one| outcome(one).into()).collect();
        Ok(Response::new(proto::ExtendResponse { outcomes, epoch }))
    }

    async fn commit(&self, request: Request<proto::CommitRequest>) -> Result<Response<proto::CommitResponse>, Status> {
        let outcome = self.settle_one(parse::commit(caller(&request), request.get_ref())?).await?;
        Ok(Response::new(committed(&outcome)))
    }

    async fn release(
        &self,
        request: Request<proto::ReleaseRequest>,
    ) -> Result<Response<proto::ReleaseResponse>, Status> {
        let message = request.get_ref();
        if !message.reason.is_empty() {
            tracing::debug!(reservation = message.reservation_id, reason = message.reason, "released");
        }
        let outcome = self.settle_one(parse::release(caller(&request), message)?).await?;
        Ok(Response::new(proto::ReleaseResponse { duplicate: outcome.duplicate }))
    }

    async fn batch_settle(
        &self,
        request: Request<proto::BatchSettleRequest>,
    ) -> Result<Response<proto::BatchSettleResponse>, Status> {
        let caller = weir_rpc::shared_caller(&request);
        let settles = request.into_inner().settles;
        at_most("settles", settles.len())?;
        let parsed = settles.iter().map(|settle| match &settle.action {
            Some(settle::Action::Commit(commit)) => parse::commit(&caller, commit),
            Some(settle::Action::Release(release)) => parse::release(&caller, release),
            None => Err(weir_rpc::Error::invalid("settles.action", "is missing")),
        });
        // What is malformed is refused for itself; the others are settled.
        let parsed: Vec<Result<Settle, weir_rpc::Error>> = parsed.collect();
        let wanted: Vec<Settle> = parsed.iter().filter_map(|settle| settle.as_ref().ok().cloned()).collect();
        let mut settled = self.0.settle(wanted).await.into_iter();
        let outcomes = parsed.into_iter().map(|settle| {
            let result = settle.and_then(|settle| {
                let outcome = settled.next().unwrap_or(Err(Error::Stopping))?;
                Ok((settle.actuals.is_some(), outcome))
            });
            let outcome = match result {
                Ok((true, outcome)) => settle_outcome::Outcome::Commit(committed(&outcome)),
                Ok((false, outcome)) => {
                    settle_outcome::Outcome::Release(proto::ReleaseResponse { duplicate: outcome.duplicate })
                }
                Err(error) => settle_outcome::Outcome::Error(item_error(error)),
            };
            proto::SettleOutcome { outcome: Some(outcome) }
        });
        Ok(Response::new(proto::BatchSettleResponse { outcomes: outcomes.collect() }))
    }

    async fn check(&self, request: Request<proto::CheckRequest>) -> Result<Response<proto::CheckResponse>, Status> {
        let message = request.get_ref();
        let subject = parse::subject(caller(&request), message.subject.as_ref())?;
        let amounts = parse::amounts("amounts", &message.amounts)?;
        let checked = self.0.check(&subject, &amounts).await?;
        let refusing = checked.limits.iter().filter(|limit| limit.refuses);
        let refused_by: Vec<String> = refusing.map(|limit| limit.limit.to_string()).collect();
        Ok(Response::new(proto::CheckResponse {
            allowed: refused_by.is_empty(),
            limits: checked.limits.iter().map(limit_state).collect(),
            refused_by,
        }))
    }

    async fn get_balance(
        &self,
        request: Request<proto::GetBalanceRequest>,
    ) -> Result<Response<proto::GetBalanceResponse>, Status> {
        let subject = parse::subject(caller(&request), request.get_ref().subject.as_ref())?;
        let balance = self.0.balance(&subject).await?;
        let limits = balance.limits.iter().map(limit_state).collect();
        Ok(Response::new(proto::GetBalanceResponse { limits }))
    }

    async fn take_over(
        &self,
        request: Request<proto::TakeOverRequest>,
    ) -> Result<Response<proto::TakeOverResponse>, Status> {
        let message = request.get_ref();
        let max = usize::try_from(message.max).ok().filter(|max| (1..=MOST).contains(max));
        let max = max.ok_or_else(|| weir_rpc::Error::invalid("max", "must be from 1 to 1000"))?;
        let taken = self.0.take_over(max, parse::lease(message.lease.as_ref())?).await?;
        let reservation = |one: crate::app::TakenOver| proto::ExpiredReservation {
            reservation_id: one.id.to_string(),
            organization: weir_types::names::organization(&one.organization),
            handle: one.handle,
            context: one.context,
            amounts: one.amounts.iter().map(|(unit, value)| Amount { unit: unit.to_string(), value }).collect(),
        };
        Ok(Response::new(proto::TakeOverResponse { reservations: taken.into_iter().map(reservation).collect() }))
    }

    type ListSettlementsStream = BoxStream<'static, Result<proto::ListSettlementsResponse, Status>>;

    async fn list_settlements(
        &self,
        request: Request<proto::ListSettlementsRequest>,
    ) -> Result<Response<Self::ListSettlementsStream>, Status> {
        let message = request.get_ref();
        let organization = match message.organization.as_str() {
            "" => None,
            name => Some(caller(&request).organization(name)?),
        };
        let after = match message.after.as_str() {
            "" => None,
            id => Some(parse::reservation("after", id)?),
        };
        Ok(Response::new(pages(Arc::clone(&self.0), organization, after).map_err(Status::from).boxed()))
    }

    async fn get_status(
        &self,
        _: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::GetStatusResponse>, Status> {
        let status = self.0.status().await?;
        let drift = |drift: crate::app::Drift| proto::CounterDrift {
            organization: weir_types::names::organization(&drift.organization),
            limit: drift.limit,
            subject: drift.subject,
            counter: drift.counter,
            expected: drift.expected,
        };
        Ok(Response::new(proto::GetStatusResponse {
            held: status.held,
            expired: status.expired,
            epoch: status.epoch,
            drifts: status.drifts.into_iter().map(drift).collect(),
            counters: status.counters,
            settlements_kept_since: Some(timestamp(status.settlements_kept_since)),
        }))
    }
}

impl Grpc {
    async fn settle_one(&self, settle: Settle) -> Result<Outcome, Error> {
        self.0.settle(vec![settle]).await.pop().unwrap_or(Err(Error::Stopping))
    }
}

/// One page after the other, as the receiver takes them; never two in memory.
fn pages(
    quota: Arc<Quota>,
    organization: Option<weir_types::OrganizationId>,
    after: Option<weir_types::ReservationId>,
) -> impl Stream<Item = Result<proto::ListSettlementsResponse, Error>> {
    futures::stream::try_unfold(Some(after), move |after| {
        let quota = Arc::clone(&quota);
        async move {
            let Some(after) = after else { return Ok(None) };
            let page = quota.settlements(organization.as_ref(), after.as_ref()).await?;
            let Some(last) = page.last().map(|one| one.id) else { return Ok(None) };
            let settlements = page.into_iter().map(settlement).collect();
            Ok(Some((proto::ListSettlementsResponse { settlements }, Some(Some(last)))))
        }
    })
}

fn settlement(one: Listed) -> proto::Settlement {
    proto::Settlement {
        reservation_id: one.id.to_string(),
        organization: weir_types::names::organization(&one.organization),
        released: one.released,
        estimated: one.estimated,
        amounts: amounts(&one.amounts),
        settle_time: Some(Timestamp {
            seconds: one.settled_at.timestamp(),
            nanos: i32::try_from(one.settled_at.timestamp_subsec_nanos()).unwrap_or(0),
        }),
    }
}

fn timestamp(millis: crate::domain::Millis) -> Timestamp {
    let nanos = i32::try_from(millis.rem_euclid(1_000) * 1_000_000).unwrap_or(0);
    Timestamp { seconds: millis.div_euclid(1_000), nanos }
}

fn at_most(field: &'static str, length: usize) -> Result<(), weir_rpc::Error> {
    if length > MOST { Err(weir_rpc::Error::invalid(field, "at most 1000")) } else { Ok(()) }
}

fn amounts(amounts: &ByUnit) -> Vec<Amount> {
    let amount = |(unit, value): (&String, &i64)| Amount { unit: unit.clone(), value: *value };
    BTreeMap::iter(amounts).map(amount).collect()
}

fn committed(outcome: &Outcome) -> proto::CommitResponse {
    proto::CommitResponse { amounts: amounts(&outcome.amounts), duplicate: outcome.duplicate, late: outcome.late }
}

fn item_error(error: weir_rpc::Error) -> ItemError {
    ItemError { code: error.code().into(), reason: error.reason().into(), message: error.message().to_owned() }
}

fn limit_state(limit: &LimitState) -> proto::LimitState {
    let span = |span: Option<Duration>| span.and_then(|span| ProtoDuration::try_from(span).ok());
    proto::LimitState {
        limit: limit.limit.to_string(),
        unit: limit.unit.to_string(),
        scope: limit.scope.to_string(),
        cap: limit.cap,
        used: limit.used,
        held: limit.held,
        reset_after: span(limit.reset_after),
        requested: limit.requested,
        retry_after: span(limit.retry_after),
    }
}
