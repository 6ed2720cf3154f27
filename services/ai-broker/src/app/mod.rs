//! The use cases: a plain call, a stream, the models on offer; and what runs beside them: leases,
//! settlement, take-over and prices.

mod attempts;
mod background;
mod cache;
mod call;
pub(crate) mod deferred;
mod entitlements;
mod fleet;
mod health;
mod idempotency;
mod invoke;
pub(crate) mod jobs;
mod keep_leases;
mod key_use;
mod load;
mod metrics;
mod models;
mod once;
mod open;
pub(crate) mod own_keys;
mod preflight;
mod prices;
mod queue;
mod reload;
mod reservations;
pub(crate) mod results;
mod settle;
mod spans;
mod status;
mod stream;
mod take_over;
mod tape;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use weir_host::Context;
use weir_proto::billing::v1::billing_service_client::BillingServiceClient;
use weir_rpc::Channel;
use weir_types::Clock;

pub(crate) use cache::{Cache, CacheOptions};
pub(crate) use call::{Caller, Incoming, Patience, Reuse};
pub(crate) use entitlements::Entitlements;
pub(crate) use fleet::{Fleet, Offering};
pub(crate) use health::Health;
pub(crate) use idempotency::{Once, OnceOptions};
pub(crate) use load::Load;
pub(crate) use metrics::Metrics;
pub(crate) use own_keys::OwnKeys;
pub(crate) use queue::{Line, QueueOptions};
pub(crate) use reload::{Dispatch, Reload};
pub(crate) use reservations::{Reservations, ReserveOptions};
pub(crate) use settle::{SettleOptions, Settler, SettlerTask};
pub(crate) use stream::StreamAnswer;
pub(crate) use tape::Parts;

use crate::config::Config;

/// Everything that a call needs.
pub(crate) struct Broker {
    /// Empty until the price book has been read.
    pub(crate) offering: ArcSwapOption<Offering>,
    pub(crate) entitlements: Entitlements,
    pub(crate) health: Health,
    pub(crate) own_keys: Arc<OwnKeys>,
    pub(crate) load: Arc<Load>,
    pub(crate) reservations: Arc<Reservations>,
    pub(crate) settler: Settler,
    pub(crate) once: Arc<Once>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: TaskTracker,
    pub(crate) max_attempts: u32,
    pub(crate) drain: Duration,
}

/// Starts everything that runs beside the calls. Calls that are under way at the shutdown are brought
/// to their end first; the settler goes last, when nothing can end any more.
pub(crate) fn run_tasks(
    broker: &Arc<Broker>,
    config: &Config,
    billing: BillingServiceClient<Channel>,
    fleets: watch::Receiver<Arc<Fleet>>,
    settler: SettlerTask,
    context: &Context,
) {
    let stop = || context.shutdown.clone();
    let reservations = || Arc::clone(&broker.reservations);
    let tasks = &context.tasks;
    tasks.spawn(broker.health.clone().run(fleets.clone(), config.rests.look, stop()));
    tasks.spawn(prices::run(Arc::clone(broker), billing, fleets, config.price_check, stop()));
    tasks.spawn(broker.entitlements.clone().watch(stop()));
    tasks.spawn(load::run(Arc::clone(&broker.load), config.load.clone(), stop()));
    tasks.spawn(keep_leases::run(reservations(), config.lease_check, stop()));
    let metrics = Arc::clone(&broker.metrics);
    tasks.spawn(take_over::run(reservations(), broker.settler.clone(), metrics, config.take_over_check, stop()));
    tasks.spawn(settler.run(stop()));
}
