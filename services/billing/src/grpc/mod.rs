//! The gRPC service: reads a request, calls one use case, writes the answer.

mod from_proto;
mod to_proto;

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};
use weir_proto::billing::v1::billing_service_server::BillingService;
use weir_proto::billing::v1::{
    Entitlements, EntitlementsChange, GetEntitlementsRequest, GetPriceBookRequest, GetStatementRequest,
    GetStatusRequest, GetStatusResponse, GetSubscriptionRequest, ListLedgerEntriesRequest, ListLedgerEntriesResponse,
    ListPlansRequest, ListPlansResponse, PriceBook, ScanRatedEventsRequest, ScanRatedEventsResponse,
    SetSubscriptionRequest, Statement, Subscription, WatchEntitlementsRequest,
};
use weir_rpc::caller;

use crate::app::{Billing, EntitlementsWatch};

/// A stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service.
#[derive(Clone)]
pub(crate) struct Grpc {
    billing: Arc<Billing>,
    watch: Arc<EntitlementsWatch>,
}

impl Grpc {
    pub(crate) fn new(billing: Arc<Billing>, watch: Arc<EntitlementsWatch>) -> Self {
        Self { billing, watch }
    }
}

#[tonic::async_trait]
impl BillingService for Grpc {
    async fn list_plans(&self, _: Request<ListPlansRequest>) -> Result<Response<ListPlansResponse>, Status> {
        Ok(Response::new(ListPlansResponse { plans: self.billing.plans().map(to_proto::plan).collect() }))
    }

    async fn get_subscription(
        &self,
        request: Request<GetSubscriptionRequest>,
    ) -> Result<Response<Subscription>, Status> {
        let organization = from_proto::subscription(caller(&request), &request.get_ref().name)?;
        Ok(Response::new(to_proto::subscription(&self.billing.subscription(organization).await?)))
    }

    async fn set_subscription(
        &self,
        request: Request<SetSubscriptionRequest>,
    ) -> Result<Response<Subscription>, Status> {
        let organization = caller(&request).organization(&request.get_ref().organization)?;
        let request = request.into_inner();
        let plan = from_proto::plan(&request.plan)?;
        let overrides = from_proto::limits(request.overrides)?;
        Ok(Response::new(to_proto::subscription(&self.billing.set_subscription(organization, plan, overrides).await?)))
    }

    async fn get_entitlements(
        &self,
        request: Request<GetEntitlementsRequest>,
    ) -> Result<Response<Entitlements>, Status> {
        let organization = caller(&request).organization(&request.get_ref().organization)?;
        Ok(Response::new(to_proto::entitlements(&self.billing.entitlements(organization).await?)))
    }

    type WatchEntitlementsStream = Answers<EntitlementsChange>;

    async fn watch_entitlements(
        &self,
        _: Request<WatchEntitlementsRequest>,
    ) -> Result<Response<Self::WatchEntitlementsStream>, Status> {
        Ok(Response::new(Box::pin(self.watch.watch().map(|signal| Ok(to_proto::change(signal))))))
    }

    async fn get_price_book(&self, request: Request<GetPriceBookRequest>) -> Result<Response<PriceBook>, Status> {
        // Prices that are not published yet must not be used: they may be refused.
        self.billing.publish().await?;
        Ok(Response::new(to_proto::price_book(&self.billing.price_book(&request.get_ref().version)?)))
    }

    async fn get_statement(&self, request: Request<GetStatementRequest>) -> Result<Response<Statement>, Status> {
        let organization = caller(&request).organization(&request.get_ref().organization)?;
        let period = from_proto::period(request.get_ref())?;
        Ok(Response::new(to_proto::statement(&self.billing.statement(organization, period).await?)))
    }

    async fn list_ledger_entries(
        &self,
        request: Request<ListLedgerEntriesRequest>,
    ) -> Result<Response<ListLedgerEntriesResponse>, Status> {
        let organization = from_proto::parent(caller(&request), &request.get_ref().parent)?;
        let size = from_proto::page_size(request.get_ref().page_size)?;
        let page = self.billing.ledger_entries(organization, size, &request.get_ref().page_token).await?;
        Ok(Response::new(ListLedgerEntriesResponse {
            entries: page.items.into_iter().map(to_proto::entry).collect(),
            next_page_token: page.next.unwrap_or_default(),
        }))
    }

    type ScanRatedEventsStream = Answers<ScanRatedEventsResponse>;

    async fn scan_rated_events(
        &self,
        request: Request<ScanRatedEventsRequest>,
    ) -> Result<Response<Self::ScanRatedEventsStream>, Status> {
        let (organization, after) = from_proto::scan(caller(&request), request.get_ref())?;
        let events = self
            .billing
            .scan(organization, after)
            .map(|events| Ok(ScanRatedEventsResponse { events: events?.iter().map(to_proto::rated_event).collect() }));
        Ok(Response::new(Box::pin(events)))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(to_proto::status(&self.billing.status().await?)))
    }
}
