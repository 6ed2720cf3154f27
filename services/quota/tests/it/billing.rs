//! A billing that says what the test wants.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use futures::stream::{BoxStream, StreamExt as _};
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tonic::{Request, Response, Status};
use weir_proto::billing::v1::billing_service_server::BillingService;
use weir_proto::billing::v1::*;
use weir_rpc::Access;
use weir_types::{OrganizationId, names};

const NAMES: &[&str] = &["quota"];
pub(crate) const ACCESS: &[(&str, Access)] = &[
    ("/weir.billing.v1.BillingService/GetEntitlements", Access::Services(NAMES)),
    ("/weir.billing.v1.BillingService/WatchEntitlements", Access::Services(NAMES)),
];

/// Its state.
#[derive(Debug)]
pub(crate) struct Billing {
    limits: Mutex<HashMap<String, (i64, Vec<Limit>)>>,
    version: AtomicI64,
    pub(crate) down: AtomicBool,
    pub(crate) asked: AtomicUsize,
    changes: Mutex<broadcast::Sender<EntitlementsChange>>,
}

impl Billing {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            limits: Mutex::default(),
            version: AtomicI64::new(0),
            down: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
            changes: Mutex::new(broadcast::Sender::new(64)),
        })
    }

    /// Sets an organisation's limits and pushes the change.
    pub(crate) fn set(&self, organization: OrganizationId, limits: Vec<Limit>) {
        let version = self.set_silently(organization, limits);
        let organization = names::organization(&organization);
        let _ = self.changes.lock().send(EntitlementsChange { organization, version, all: false });
    }

    /// Sets an organisation's limits, and the push is lost.
    pub(crate) fn set_silently(&self, organization: OrganizationId, limits: Vec<Limit>) -> i64 {
        let version = self.version.fetch_add(1, Ordering::SeqCst) + 1;
        self.limits.lock().insert(names::organization(&organization), (version, limits));
        version
    }

    /// Ends all streams of changes, as a restart does.
    pub(crate) fn cut(&self) {
        *self.changes.lock() = broadcast::Sender::new(64);
    }

    pub(crate) fn watchers(&self) -> usize {
        self.changes.lock().receiver_count()
    }
}

/// The service.
#[derive(Clone)]
pub(crate) struct Fake(pub(crate) Arc<Billing>);

fn no<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not here"))
}

#[tonic::async_trait]
impl BillingService for Fake {
    async fn get_entitlements(
        &self,
        request: Request<GetEntitlementsRequest>,
    ) -> Result<Response<Entitlements>, Status> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        if self.0.down.load(Ordering::SeqCst) {
            return Err(Status::unavailable("billing is down"));
        }
        let organization = request.into_inner().organization;
        let limits = self.0.limits.lock();
        let (version, limits) = limits.get(&organization).cloned().ok_or_else(|| Status::not_found("no such"))?;
        Ok(Response::new(Entitlements {
            organization,
            plan: "plans/test".to_owned(),
            version,
            limits,
            ..Default::default()
        }))
    }

    type WatchEntitlementsStream = BoxStream<'static, Result<EntitlementsChange, Status>>;

    async fn watch_entitlements(
        &self,
        _: Request<WatchEntitlementsRequest>,
    ) -> Result<Response<Self::WatchEntitlementsStream>, Status> {
        if self.0.down.load(Ordering::SeqCst) {
            return Err(Status::unavailable("billing is down"));
        }
        let receiver = self.0.changes.lock().subscribe();
        let news = futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.ok().map(|change| (Ok(change), receiver))
        });
        Ok(Response::new(news.boxed()))
    }

    async fn list_plans(&self, _: Request<ListPlansRequest>) -> Result<Response<ListPlansResponse>, Status> {
        no()
    }
    async fn get_subscription(&self, _: Request<GetSubscriptionRequest>) -> Result<Response<Subscription>, Status> {
        no()
    }
    async fn set_subscription(&self, _: Request<SetSubscriptionRequest>) -> Result<Response<Subscription>, Status> {
        no()
    }
    async fn get_price_book(&self, _: Request<GetPriceBookRequest>) -> Result<Response<PriceBook>, Status> {
        no()
    }
    async fn get_statement(&self, _: Request<GetStatementRequest>) -> Result<Response<Statement>, Status> {
        no()
    }
    async fn list_ledger_entries(
        &self,
        _: Request<ListLedgerEntriesRequest>,
    ) -> Result<Response<ListLedgerEntriesResponse>, Status> {
        no()
    }
    type ScanRatedEventsStream = BoxStream<'static, Result<ScanRatedEventsResponse, Status>>;
    async fn scan_rated_events(
        &self,
        _: Request<ScanRatedEventsRequest>,
    ) -> Result<Response<Self::ScanRatedEventsStream>, Status> {
        no()
    }
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        no()
    }
}

pub(crate) fn limit(name: &str, scope: &str, unit: &str, amount: i64, kind: window::Kind) -> Limit {
    Limit {
        name: name.to_owned(),
        scope: scope.to_owned(),
        unit: unit.to_owned(),
        amount,
        window: Some(Window { kind: Some(kind) }),
        on_failure: OnFailure::Closed.into(),
        alert_percents: Vec::new(),
    }
}

pub(crate) fn open(limit: Limit) -> Limit {
    Limit { on_failure: OnFailure::Open.into(), ..limit }
}

pub(crate) fn local(limit: Limit) -> Limit {
    Limit { on_failure: OnFailure::Local.into(), ..limit }
}

pub(crate) fn alerting(limit: Limit, percents: &[i32]) -> Limit {
    Limit { alert_percents: percents.to_vec(), ..limit }
}

pub(crate) fn rolling(millis: i64) -> window::Kind {
    let nanos = i32::try_from(millis % 1_000 * 1_000_000).unwrap();
    window::Kind::Rolling(prost_types::Duration { seconds: millis / 1_000, nanos })
}

pub(crate) fn calendar(unit: CalendarUnit) -> window::Kind {
    window::Kind::Calendar(CalendarWindow { unit: unit.into(), time_zone: "Europe/Paris".to_owned() })
}

pub(crate) const fn lifetime() -> window::Kind {
    window::Kind::Lifetime(Lifetime {})
}

pub(crate) const fn concurrent() -> window::Kind {
    window::Kind::Concurrent(Concurrent {})
}
