//! The use cases: a plain call, a stream, the models on offer; and what runs beside them: leases,
//! settlement, take-over and prices.

mod attempts;
mod background;
mod call;
mod entitlements;
mod invoke;
mod keep_leases;
mod metrics;
mod models;
mod prices;
mod queue;
mod reservations;
mod settle;
mod status;
mod stream;
mod take_over;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio_util::task::TaskTracker;
use weir_host::Context;
use weir_proto::billing::v1::billing_service_client::BillingServiceClient;
use weir_rpc::Channel;
use weir_types::Clock;

pub(crate) use call::{Caller, Incoming};
pub(crate) use entitlements::Entitlements;
pub(crate) use metrics::Metrics;
pub(crate) use queue::{Line, QueueOptions};
pub(crate) use reservations::{Reservations, ReserveOptions};
pub(crate) use settle::{SettleOptions, Settler, SettlerTask};
pub(crate) use stream::StreamAnswer;

use crate::config::Config;
use crate::domain::catalogue::Catalogue;
use crate::provider::Provider;
use crate::storage::lines::Lines;

/// Everything that a call needs.
pub(crate) struct Broker {
    pub(crate) providers: BTreeMap<String, Arc<Provider>>,
    /// Empty until the price book has been read.
    pub(crate) catalogue: ArcSwapOption<Catalogue>,
    pub(crate) entitlements: Entitlements,
    pub(crate) reservations: Arc<Reservations>,
    pub(crate) settler: Settler,
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
    settler: SettlerTask,
    context: &Context,
) {
    let stop = || context.shutdown.clone();
    let reservations = || Arc::clone(&broker.reservations);
    let tasks = &context.tasks;
    tasks.spawn(prices::run(Arc::clone(broker), billing, config.into(), config.price_check, stop()));
    tasks.spawn(broker.entitlements.clone().watch(stop()));
    tasks.spawn(keep_leases::run(reservations(), config.lease_check, stop()));
    let metrics = Arc::clone(&broker.metrics);
    tasks.spawn(take_over::run(reservations(), broker.settler.clone(), metrics, config.take_over_check, stop()));
    tasks.spawn(settler.run(stop()));
}

/// Keeps the providers' lines of waiting calls moving.
pub(crate) fn run_lines(broker: &Broker, lines: &Lines, options: QueueOptions, context: &Context) {
    for provider in broker.providers.values() {
        let line = Arc::clone(&provider.line);
        context.tasks.spawn(line.run(provider.name.clone(), lines.clone(), options, context.shutdown.clone()));
    }
}
