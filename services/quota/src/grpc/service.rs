//! The RPCs.

use std::sync::Arc;

use futures::Stream;
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;
use weir_proto::quota::v1::quota_service_server::QuotaService;
use weir_proto::quota::v1::{self as proto, settle, settle_outcome};
use weir_rpc::{Call, caller};

use super::operate::{self, Operations};
use super::{alerts, explain, parse, render};
use crate::app::{Outcome, Quota, Settle};
use crate::error::Error;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct Grpc {
    pub(crate) quota: Arc<Quota>,
    /// Where streams run.
    pub(crate) tasks: TaskTracker,
    /// No call comes any more.
    pub(crate) shutdown: CancellationToken,
}

/// The most settlements, leases, reservations or operations in one message.
const MOST: usize = 1_000;

#[tonic::async_trait]
impl QuotaService for Grpc {
    async fn reserve(
        &self,
        request: Request<proto::ReserveRequest>,
    ) -> Result<Response<proto::ReserveResponse>, Status> {
        let reserve = parse::reserve(caller(&request), request.get_ref())?;
        let reserved = self.quota.reserve(reserve).await?;
        Ok(Response::new(render::reserved(reserved)))
    }

    async fn batch_reserve(
        &self,
        request: Request<proto::BatchReserveRequest>,
    ) -> Result<Response<proto::BatchReserveResponse>, Status> {
        use proto::reserve_outcome::Outcome;
        let caller = weir_rpc::shared_caller(&request);
        let reservations = request.into_inner().reservations;
        at_most("reservations", reservations.len())?;
        let (mut wanted, mut errors) = (Vec::with_capacity(reservations.len()), Vec::with_capacity(reservations.len()));
        for reservation in &reservations {
            match parse::reserve(&caller, reservation) {
                Ok(reserve) => {
                    wanted.push(reserve);
                    errors.push(None);
                }
                // What is malformed is refused for itself.
                Err(error) => errors.push(Some(error)),
            }
        }
        let mut reserved = self.quota.reserve_many(wanted).await.into_iter();
        let outcomes = reservations.into_iter().zip(errors).map(|(reservation, error)| {
            let outcome = match error {
                Some(error) => Outcome::Error(error.into()),
                None => match reserved.next().unwrap_or(Err(Error::Stopping)) {
                    Ok(reserved) => Outcome::Reserved(render::reserved(reserved)),
                    Err(error) => render::refusal(error).map_or_else(Outcome::Error, Outcome::Refused),
                },
            };
            proto::ReserveOutcome { reservation_id: reservation.reservation_id, outcome: Some(outcome) }
        });
        Ok(Response::new(proto::BatchReserveResponse { outcomes: outcomes.collect() }))
    }

    type OperateStream = BoxStream<'static, Result<proto::OperateResponse, Status>>;

    async fn operate(
        &self,
        request: Request<Streaming<proto::OperateRequest>>,
    ) -> Result<Response<Self::OperateStream>, Status> {
        let (answers, outcomes) = mpsc::channel(operate::ANSWERS);
        let operations =
            Operations { quota: Arc::clone(&self.quota), caller: weir_rpc::shared_caller(&request), answers };
        let (stopping, shutdown) = (weir_rpc::stopping(&request), self.shutdown.clone());
        let age = self.quota.bounds().stream_age;
        let stop = async move {
            tokio::select! {
                () = stopping.cancelled() => operate::reconnect("this instance is stopping: connect again"),
                () = shutdown.cancelled() => operate::reconnect("this instance is stopping: connect again"),
                () = tokio::time::sleep(age) => operate::reconnect("the stream is old: connect again"),
            }
        };
        let run = operations.run(request.into_inner(), stop).in_current_span();
        // Not in the answer's own body, which nobody polls while the client does not read.
        match Call::current() {
            Some(call) => self.tasks.spawn(call.scope(run)),
            None => self.tasks.spawn(run),
        };
        Ok(weir_rpc::ends_itself(Response::new(operate::answers(outcomes).boxed())))
    }

    async fn extend(&self, request: Request<proto::ExtendRequest>) -> Result<Response<proto::ExtendResponse>, Status> {
        let leases = &request.get_ref().leases;
        at_most("leases", leases.len())?;
        if let Some(growing) = leases.iter().find(|lease| !lease.amounts.is_empty()) {
            if leases.len() > 1 {
                return Err(weir_rpc::Error::invalid("leases.amounts", "only in a message with one lease").into());
            }
            let (extension, amounts) = parse::growth(growing)?;
            return Ok(Response::new(render::grown(self.quota.grow(extension, amounts).await?)));
        }
        let extensions = leases.iter().map(parse::extension).collect::<Result<Vec<_>, _>>()?;
        let (outcomes, epoch) = self.quota.extend(extensions).await?;
        let outcomes = outcomes.into_iter().map(|one| render::lease_outcome(one).into()).collect();
        Ok(Response::new(proto::ExtendResponse { outcomes, epoch, grown: None }))
    }

    async fn commit(&self, request: Request<proto::CommitRequest>) -> Result<Response<proto::CommitResponse>, Status> {
        let outcome = self.settle_one(parse::commit(caller(&request), request.get_ref())?).await?;
        Ok(Response::new(render::committed(&outcome)))
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
        Ok(Response::new(render::released(&outcome)))
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
        let mut settled = self.quota.settle(wanted).await.into_iter();
        let outcomes = parsed.into_iter().map(|settle| {
            let result = settle.and_then(|settle| {
                let outcome = settled.next().unwrap_or(Err(Error::Stopping))?;
                Ok((settle.actuals.is_some(), outcome))
            });
            let outcome = match result {
                Ok((true, outcome)) => settle_outcome::Outcome::Commit(render::committed(&outcome)),
                Ok((false, outcome)) => settle_outcome::Outcome::Release(render::released(&outcome)),
                Err(error) => settle_outcome::Outcome::Error(error.into()),
            };
            proto::SettleOutcome { outcome: Some(outcome) }
        });
        Ok(Response::new(proto::BatchSettleResponse { outcomes: outcomes.collect() }))
    }

    async fn check(&self, request: Request<proto::CheckRequest>) -> Result<Response<proto::CheckResponse>, Status> {
        let message = request.get_ref();
        let subject = parse::subject(caller(&request), message.subject.as_ref())?;
        let amounts = parse::amounts("amounts", &message.amounts)?;
        let checked = self.quota.check(&subject, &amounts).await?;
        let refused_by = render::refused_by(&checked.limits);
        let allowed = refused_by.is_empty();
        Ok(Response::new(proto::CheckResponse {
            allowed,
            limits: checked.limits.iter().map(render::limit_state).collect(),
            refused_by,
            refusal: (!allowed).then(|| render::refused(&checked.limits)),
        }))
    }

    async fn get_balance(
        &self,
        request: Request<proto::GetBalanceRequest>,
    ) -> Result<Response<proto::GetBalanceResponse>, Status> {
        let subject = parse::subject(caller(&request), request.get_ref().subject.as_ref())?;
        let balance = self.quota.balance(&subject).await?;
        let limits = balance.limits.iter().map(render::limit_state).collect();
        Ok(Response::new(proto::GetBalanceResponse { limits }))
    }

    async fn take_over(
        &self,
        request: Request<proto::TakeOverRequest>,
    ) -> Result<Response<proto::TakeOverResponse>, Status> {
        let message = request.get_ref();
        let max = usize::try_from(message.max).ok().filter(|max| (1..=MOST).contains(max));
        let max = max.ok_or_else(|| weir_rpc::Error::invalid("max", "must be from 1 to 1000"))?;
        let taken = self.quota.take_over(max, parse::lease(message.lease.as_ref())?).await?;
        Ok(Response::new(proto::TakeOverResponse { reservations: taken.into_iter().map(render::taken_over).collect() }))
    }

    async fn explain(
        &self,
        request: Request<proto::ExplainRequest>,
    ) -> Result<Response<proto::ExplainResponse>, Status> {
        let question = explain::question(caller(&request), request.get_ref())?;
        let explanation = explain::explanation(self.quota.explain(question).await?);
        let is_tenant = caller(&request).principal().is_ok();
        Ok(Response::new(if is_tenant { explain::for_tenants(explanation) } else { explanation }))
    }

    async fn list_alerts(
        &self,
        request: Request<proto::ListAlertsRequest>,
    ) -> Result<Response<proto::ListAlertsResponse>, Status> {
        let (organization, size) = alerts::page(caller(&request), request.get_ref())?;
        let page = self.quota.list_alerts(organization, size, &request.get_ref().page_token).await?;
        Ok(Response::new(proto::ListAlertsResponse {
            alerts: page.alerts.into_iter().map(alerts::alert).collect(),
            next_page_token: page.next.unwrap_or_default(),
        }))
    }

    type WatchAlertsStream = BoxStream<'static, Result<proto::WatchAlertsResponse, Status>>;

    async fn watch_alerts(
        &self,
        request: Request<proto::WatchAlertsRequest>,
    ) -> Result<Response<Self::WatchAlertsStream>, Status> {
        let (organization, position) = alerts::watch(caller(&request), request.get_ref())?;
        let watched = Arc::clone(&self.quota).watch_alerts(organization, position).await?;
        Ok(Response::new(watched.map_ok(alerts::watched).map_err(Status::from).boxed()))
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
        Ok(Response::new(pages(Arc::clone(&self.quota), organization, after).map_err(Status::from).boxed()))
    }

    async fn get_status(
        &self,
        _: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::GetStatusResponse>, Status> {
        let status = self.quota.status().await?;
        Ok(Response::new(proto::GetStatusResponse {
            held: status.held,
            expired: status.expired,
            epoch: status.epoch,
            drifts: status.drifts.into_iter().map(render::drift).collect(),
            counters: status.counters,
            settlements_kept_since: Some(render::timestamp(status.settlements_kept_since)),
        }))
    }
}

impl Grpc {
    async fn settle_one(&self, settle: Settle) -> Result<Outcome, Error> {
        self.quota.settle(vec![settle]).await.pop().unwrap_or(Err(Error::Stopping))
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
            let settlements = page.into_iter().map(render::settlement).collect();
            Ok(Some((proto::ListSettlementsResponse { settlements }, Some(Some(last)))))
        }
    })
}

pub(super) fn at_most(field: &'static str, length: usize) -> Result<(), weir_rpc::Error> {
    if length > MOST { Err(weir_rpc::Error::invalid(field, "at most 1000")) } else { Ok(()) }
}
