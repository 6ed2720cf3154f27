//! Quota, usage and billing as the broker sees them: they keep what they are told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::stream::BoxStream;
use parking_lot::Mutex;
use prost::Message as _;
use prost::bytes::Bytes;
use tonic::{Request, Response, Status};
use weir_proto::billing::v1::{self as billing, billing_service_server::BillingService};
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::{self as quota, quota_service_server::QuotaService, settle, settle_outcome};
use weir_proto::usage::v1::{self as usage, usage_service_server::UsageService};
use weir_rpc::Error;

type Streamed<T> = BoxStream<'static, Result<T, Status>>;
type Answer<T> = Result<Response<T>, Status>;

fn not_asked<T>() -> Answer<T> {
    Err(Status::unimplemented("the broker does not ask this"))
}

/// What the siblings were told.
#[derive(Default)]
pub(crate) struct Siblings {
    pub(crate) reserved: Mutex<HashMap<String, quota::ReserveRequest>>,
    pub(crate) committed: Mutex<HashMap<String, quota::CommitRequest>>,
    pub(crate) released: Mutex<HashMap<String, quota::ReleaseRequest>>,
    pub(crate) extended: Mutex<Vec<quota::LeaseExtension>>,
    pub(crate) expired: Mutex<Vec<quota::ExpiredReservation>>,
    pub(crate) recorded: Mutex<HashMap<String, usage::UsageEvent>>,
    /// Refuse the next so many reservations.
    pub(crate) refuse: AtomicU64,
    /// By what the limit counts that refuses them; by user if empty.
    pub(crate) refusing_scope: Mutex<String>,
    /// What the limit counts that refuses them; requests if empty.
    pub(crate) refusing_unit: Mutex<String>,
    /// Refuse reservations for this key of the provider.
    pub(crate) full_key: Mutex<String>,
    /// Refuse reservations for `{model} of {provider}`, by a budget.
    pub(crate) too_dear: Mutex<String>,
    /// Carry out the next so many reservations, but never answer them.
    pub(crate) unanswered: AtomicU64,
    pub(crate) usage_is_down: AtomicBool,
    pub(crate) quota_is_down: AtomicBool,
    /// Answer the next so many settlements that not all stores know of them.
    pub(crate) half_settled: AtomicU64,
    pub(crate) epoch: AtomicU64,
    pub(crate) models: Mutex<Vec<String>>,
    /// Tells of new plans.
    pub(crate) plans_changed: tokio::sync::watch::Sender<()>,
    pub(crate) own_keys_only: AtomicBool,
    pub(crate) features: Mutex<Vec<String>>,
}

#[derive(Clone)]
pub(crate) struct FakeQuota(pub(crate) Arc<Siblings>);
#[derive(Clone)]
pub(crate) struct FakeUsage(pub(crate) Arc<Siblings>);
#[derive(Clone)]
pub(crate) struct FakeBilling(pub(crate) Arc<Siblings>);

#[tonic::async_trait]
impl QuotaService for FakeQuota {
    async fn reserve(&self, request: Request<quota::ReserveRequest>) -> Answer<quota::ReserveResponse> {
        let state = &self.0;
        if state.quota_is_down.load(Ordering::Relaxed) {
            return Err(Error::unavailable("redis", "down").into());
        }
        let counted_down = |left: &AtomicU64| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
        };
        if counted_down(&state.unanswered) {
            let request = request.into_inner();
            state.reserved.lock().insert(request.reservation_id.clone(), request);
            return std::future::pending().await;
        }
        if counted_down(&state.refuse) {
            let unit = state.refusing_unit.lock().clone();
            let (name, unit) = if unit.is_empty() { ("requests", "request") } else { ("budget", &*unit) };
            let scope = state.refusing_scope.lock().clone();
            let scope = if scope.is_empty() { "user" } else { &*scope };
            return Err(Error::new(ErrorReason::QuotaExceeded, format!("refused by {name}: 10 of 10 used"))
                .violation(name, "10 of 10")
                .metadata(format!("limit.{name}"), format!("scope={scope};unit={unit};cap=10;used=10"))
                .retry_after(std::time::Duration::from_millis(50))
                .into());
        }
        let request = request.into_inner();
        let key = request.subject.as_ref().unwrap().labels.get("provider_key");
        if key == Some(&*state.full_key.lock()) {
            return Err(Error::new(ErrorReason::QuotaExceeded, "refused by keys: 10 of 10 used")
                .violation("keys", "10 of 10")
                .metadata("limit.keys", "scope=provider_key;unit=request;cap=10;used=10")
                .into());
        }
        let draft = usage::UsageEvent::decode(request.context.clone()).unwrap();
        if *state.too_dear.lock() == format!("{} of {}", draft.model, draft.provider) {
            return Err(Error::new(ErrorReason::BudgetExhausted, "refused by budget")
                .violation("budget", "used up")
                .into());
        }
        let limit = |unit: &str, used| quota::LimitState {
            unit: unit.into(),
            cap: 100,
            used,
            reset_after: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            ..Default::default()
        };
        let handle = Bytes::from(format!("handle of {}", request.reservation_id));
        state.reserved.lock().insert(request.reservation_id.clone(), request);
        let mut limits = vec![limit("request", 1), limit("token", 40)];
        // The provider's own limit, which refuses others, lets this one through.
        let scope = state.refusing_scope.lock().clone();
        limits.extend((scope == "provider").then(|| quota::LimitState { scope, ..limit("request", 1) }));
        Ok(Response::new(quota::ReserveResponse { handle, limits, epoch: state.epoch.load(Ordering::Relaxed) }))
    }

    async fn extend(&self, request: Request<quota::ExtendRequest>) -> Answer<quota::ExtendResponse> {
        let leases = request.into_inner().leases;
        let outcomes = vec![quota::LeaseOutcome::Extended.into(); leases.len()];
        self.0.extended.lock().extend(leases);
        Ok(Response::new(quota::ExtendResponse { outcomes, epoch: self.0.epoch.load(Ordering::Relaxed), grown: None }))
    }

    async fn batch_settle(&self, request: Request<quota::BatchSettleRequest>) -> Answer<quota::BatchSettleResponse> {
        let half_settled = || {
            let left = &self.0.half_settled;
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
        };
        let outcomes = request.into_inner().settles.into_iter().map(|settle| {
            if half_settled() {
                let error = Error::unavailable("redis", "no answer in time");
                return quota::SettleOutcome { outcome: Some(settle_outcome::Outcome::Error(error.into())) };
            }
            let outcome = match settle.action.unwrap() {
                settle::Action::Commit(commit) => {
                    let recorded = self.0.recorded.lock().contains_key(&commit.reservation_id);
                    assert!(recorded, "a reservation is committed only after usage has the event");
                    self.0.committed.lock().insert(commit.reservation_id.clone(), commit);
                    settle_outcome::Outcome::Commit(quota::CommitResponse::default())
                }
                settle::Action::Release(release) => {
                    self.0.released.lock().insert(release.reservation_id.clone(), release);
                    settle_outcome::Outcome::Release(quota::ReleaseResponse::default())
                }
            };
            quota::SettleOutcome { outcome: Some(outcome) }
        });
        Ok(Response::new(quota::BatchSettleResponse { outcomes: outcomes.collect() }))
    }

    async fn take_over(&self, _: Request<quota::TakeOverRequest>) -> Answer<quota::TakeOverResponse> {
        Ok(Response::new(quota::TakeOverResponse { reservations: std::mem::take(&mut *self.0.expired.lock()) }))
    }

    async fn batch_reserve(&self, _: Request<quota::BatchReserveRequest>) -> Answer<quota::BatchReserveResponse> {
        not_asked()
    }
    type OperateStream = Streamed<quota::OperateResponse>;
    async fn operate(&self, _: Request<tonic::Streaming<quota::OperateRequest>>) -> Answer<Self::OperateStream> {
        not_asked()
    }
    async fn commit(&self, _: Request<quota::CommitRequest>) -> Answer<quota::CommitResponse> {
        not_asked()
    }
    async fn release(&self, _: Request<quota::ReleaseRequest>) -> Answer<quota::ReleaseResponse> {
        not_asked()
    }
    async fn check(&self, _: Request<quota::CheckRequest>) -> Answer<quota::CheckResponse> {
        not_asked()
    }
    async fn get_balance(&self, _: Request<quota::GetBalanceRequest>) -> Answer<quota::GetBalanceResponse> {
        not_asked()
    }
    async fn explain(&self, _: Request<quota::ExplainRequest>) -> Answer<quota::ExplainResponse> {
        not_asked()
    }
    async fn list_alerts(&self, _: Request<quota::ListAlertsRequest>) -> Answer<quota::ListAlertsResponse> {
        not_asked()
    }
    type WatchAlertsStream = Streamed<quota::WatchAlertsResponse>;
    async fn watch_alerts(&self, _: Request<quota::WatchAlertsRequest>) -> Answer<Self::WatchAlertsStream> {
        not_asked()
    }

    type ListSettlementsStream = Streamed<quota::ListSettlementsResponse>;
    async fn list_settlements(&self, _: Request<quota::ListSettlementsRequest>) -> Answer<Self::ListSettlementsStream> {
        not_asked()
    }
    async fn get_status(&self, _: Request<quota::GetStatusRequest>) -> Answer<quota::GetStatusResponse> {
        not_asked()
    }
}

#[tonic::async_trait]
impl UsageService for FakeUsage {
    async fn record_events(&self, request: Request<usage::RecordEventsRequest>) -> Answer<usage::RecordEventsResponse> {
        if self.0.usage_is_down.load(Ordering::Relaxed) {
            return Err(Error::unavailable("postgres", "down").into());
        }
        let outcomes = request.into_inner().events.into_iter().map(|event| {
            let mut recorded = self.0.recorded.lock();
            if let Some(known) = recorded.get(&event.event_id) {
                let disposition = usage::Disposition::DuplicateEstimate.into();
                return usage::RecordOutcome { disposition, recorded: Some(known.clone()), ..Default::default() };
            }
            recorded.insert(event.event_id.clone(), event);
            usage::RecordOutcome { disposition: usage::Disposition::Recorded.into(), ..Default::default() }
        });
        Ok(Response::new(usage::RecordEventsResponse { outcomes: outcomes.collect() }))
    }

    async fn query_usage(&self, _: Request<usage::QueryUsageRequest>) -> Answer<usage::QueryUsageResponse> {
        not_asked()
    }
    async fn list_events(&self, _: Request<usage::ListEventsRequest>) -> Answer<usage::ListEventsResponse> {
        not_asked()
    }
    type WatchChangesStream = Streamed<usage::WatchChangesResponse>;
    async fn watch_changes(&self, _: Request<usage::WatchChangesRequest>) -> Answer<Self::WatchChangesStream> {
        not_asked()
    }
    type ScanEventsStream = Streamed<usage::ScanEventsResponse>;
    async fn scan_events(&self, _: Request<usage::ScanEventsRequest>) -> Answer<Self::ScanEventsStream> {
        not_asked()
    }
}

#[tonic::async_trait]
impl BillingService for FakeBilling {
    async fn get_entitlements(
        &self,
        request: Request<billing::GetEntitlementsRequest>,
    ) -> Answer<billing::Entitlements> {
        let models = self.0.models.lock().clone();
        let organization = request.into_inner().organization;
        Ok(Response::new(billing::Entitlements {
            organization,
            plan: "plans/pro".into(),
            models,
            own_keys_only: self.0.own_keys_only.load(Ordering::Relaxed),
            features: self.0.features.lock().clone(),
            ..Default::default()
        }))
    }

    async fn get_price_book(&self, _: Request<billing::GetPriceBookRequest>) -> Answer<billing::PriceBook> {
        let price = |model: &str, times: i64| billing::ModelPrice {
            provider: "simulated".into(),
            model: model.into(),
            input_per_million: times * 150_000_000,
            cached_input_per_million: times * 75_000_000,
            output_per_million: times * 600_000_000,
            max_output_tokens: 16_384,
            context_tokens: 128_000,
            ..Default::default()
        };
        let in_tier = |times: i64| billing::TokenPrices {
            input_per_million: times * 75_000_000,
            cached_input_per_million: times * 37_500_000,
            cache_write_per_million: times * 75_000_000,
            cache_write_1h_per_million: times * 75_000_000,
            audio_input_per_million: times * 75_000_000,
            image_input_per_million: times * 75_000_000,
            output_per_million: times * 300_000_000,
            audio_output_per_million: times * 300_000_000,
        };
        let tiered = |model: billing::ModelPrice| billing::ModelPrice {
            tiers: [("flex".to_owned(), in_tier(1)), ("priority".to_owned(), in_tier(4))].into(),
            ..model
        };
        let claude = billing::ModelPrice { provider: "claude".into(), ..tiered(price("sim-claude", 1)) };
        // A picture that is given costs twice what text costs.
        let tokens = billing::TokenPrices { image_input_per_million: 300_000_000, ..in_tier(2) };
        let drawing = billing::ModelPrice { tokens: Some(tokens), ..price("gpt-image-1", 1) };
        let by_unit = |provider: &str, model: &str, units: &[(&str, i64)]| billing::ModelPrice {
            provider: provider.into(),
            model: model.into(),
            units: units.iter().map(|(unit, price)| ((*unit).to_owned(), *price)).collect(),
            ..Default::default()
        };
        let prices = vec![
            tiered(price("sim-small", 1)),
            price("sim-large", 10),
            claude,
            drawing,
            price("gpt-4o-transcribe", 1),
            by_unit("simulated", "whisper-1", &[("second", 100_000_000_000)]),
            by_unit("simulated", "tts-1", &[("character", 15_000_000_000)]),
            by_unit(
                "simulated",
                "dall-e-3",
                &[("image", 40_000_000_000_000), ("image_1024x1024_hd", 80_000_000_000_000)],
            ),
            by_unit("pictures", "fal-ai/flux/dev", &[("megapixel", 25_000_000_000_000)]),
            by_unit("voices", "eleven_flash_v2_5", &[("character", 50_000_000_000)]),
        ];
        Ok(Response::new(billing::PriceBook { version: "2026-11-01".into(), prices }))
    }

    type WatchEntitlementsStream = Streamed<billing::EntitlementsChange>;
    async fn watch_entitlements(
        &self,
        _: Request<billing::WatchEntitlementsRequest>,
    ) -> Answer<Self::WatchEntitlementsStream> {
        let changes = futures::stream::unfold(self.0.plans_changed.subscribe(), |mut changed| async {
            changed.changed().await.ok()?;
            Some((Ok(billing::EntitlementsChange { all: true, ..Default::default() }), changed))
        });
        Ok(Response::new(Box::pin(changes)))
    }
    async fn list_plans(&self, _: Request<billing::ListPlansRequest>) -> Answer<billing::ListPlansResponse> {
        not_asked()
    }
    async fn get_subscription(&self, _: Request<billing::GetSubscriptionRequest>) -> Answer<billing::Subscription> {
        not_asked()
    }
    async fn set_subscription(&self, _: Request<billing::SetSubscriptionRequest>) -> Answer<billing::Subscription> {
        not_asked()
    }
    async fn get_statement(&self, _: Request<billing::GetStatementRequest>) -> Answer<billing::Statement> {
        not_asked()
    }
    async fn list_ledger_entries(
        &self,
        _: Request<billing::ListLedgerEntriesRequest>,
    ) -> Answer<billing::ListLedgerEntriesResponse> {
        not_asked()
    }
    type ScanRatedEventsStream = Streamed<billing::ScanRatedEventsResponse>;
    async fn scan_rated_events(
        &self,
        _: Request<billing::ScanRatedEventsRequest>,
    ) -> Answer<Self::ScanRatedEventsStream> {
        not_asked()
    }
    async fn get_status(&self, _: Request<billing::GetStatusRequest>) -> Answer<billing::GetStatusResponse> {
        not_asked()
    }
}
