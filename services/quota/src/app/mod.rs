//! The use cases: one file each, beside what they share.

mod alert_writer;
mod alerts;
mod check;
mod dictionary;
mod entitlements;
mod epochs;
mod explain;
mod extend;
mod flights;
mod gate;
mod grow;
mod housekeeping;
mod list;
mod list_alerts;
mod local;
mod metrics;
mod operate;
mod own_limits;
mod recount;
mod refusals;
mod refused_growth;
mod reserve;
mod restore;
mod settle;
mod settle_grown;
mod settler;
mod shared;
mod status;
mod take_over;
mod warm;
mod watch_alerts;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_database::Database;
use weir_proto::billing::v1::billing_service_client::BillingServiceClient;
use weir_rpc::Channel;
use weir_types::{Clock, OrganizationId};

use crate::config::{Config, Operations};
use crate::domain::Millis;
use crate::storage::Store;

use alerts::Alerts;
pub use check::Balance;
use dictionary::Dictionary;
use entitlements::Entitlements;
use epochs::Epochs;
pub use explain::{DecidedLimit, Decision, Explanation, Question, State};
pub use extend::{Extension, LeaseOutcome};
use flights::Flights;
use gate::Gate;
pub use grow::Grown;
pub use list_alerts::AlertPage;
use local::Local;
use metrics::Metrics;
pub use operate::{Done, Operation};
use refusals::Refusals;
pub use reserve::{Request, Reserved};
pub use settle::{Outcome, Settle};
use settler::Settler;
use shared::Shared;
pub use status::{Drift, Status};
pub use take_over::TakenOver;
pub use watch_alerts::Watched;

/// Everything that the use cases need; shared.
pub struct Quota {
    config: Config,
    clock: Arc<dyn Clock>,
    database: Database,
    store: Store,
    epochs: Arc<Epochs>,
    entitlements: Entitlements,
    dictionary: Arc<Dictionary>,
    warming: Flights<(OrganizationId, Vec<u8>)>,
    settler: Settler,
    shared: Arc<Shared>,
    gate: Gate,
    /// Where the next take-over begins among the tenants.
    take_over_from: AtomicUsize,
    metrics: Metrics,
    refusals: Refusals,
    alerts: Arc<Alerts>,
    /// Room for streams of alerts.
    watchers: Arc<Semaphore>,
    /// What is admitted while the store does not answer.
    local: Local,
    shutdown: CancellationToken,
}

impl Quota {
    /// Sets up the use cases and begins their background work, which goes on until `shutdown`.
    pub fn start(
        config: Config,
        database: Database,
        store: Store,
        clock: Arc<dyn Clock>,
        billing: BillingServiceClient<Channel>,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Arc<Self> {
        let epochs = Arc::new(Epochs::new(store.clone(), database.clone(), config.rebuild.window));
        let dictionary = Arc::new(Dictionary::new(database.clone()));
        let entitlements = Entitlements::new(&config, database.clone(), billing, Arc::clone(&dictionary));
        let (due, to_write) = mpsc::channel(config.alerts.queue);
        let (looks, to_look_at) = mpsc::channel(config.alerts.queue);
        let alerts = Arc::new(Alerts::new(config.alerts.remember, due, looks));
        let (shared, pilot) = Shared::new(
            &config,
            store.clone(),
            database.clone(),
            Arc::clone(&epochs),
            Arc::clone(&dictionary),
            Arc::clone(&clock),
            Arc::clone(&alerts),
        );
        let books = settler::Books::new(database.clone(), store.clone(), Arc::clone(&epochs), Arc::clone(&shared));
        let (settler, writer) = settler::new(&config.settlements, books);
        let gate = Gate::new(config.operations.in_flight);
        let alert_writer = alert_writer::Writer { due: to_write, database: database.clone() };
        let (refusals, refusal_writer) = refusals::new(&config.refusals, database.clone());
        let quota = Arc::new(Self {
            refusals,
            alerts,
            watchers: Arc::new(Semaphore::new(config.alerts.watchers)),
            local: Local::new(&config.failure),
            shutdown: shutdown.clone(),
            config,
            clock,
            database,
            store,
            epochs,
            entitlements,
            dictionary,
            warming: Flights::new(),
            settler,
            shared,
            gate,
            take_over_from: AtomicUsize::new(0),
            metrics: Metrics::new(),
        });
        // Slices go back when nobody has anything to say to their accounts any more.
        let (written, until) = (CancellationToken::new(), shutdown.clone());
        tasks.spawn(pilot.run(written.clone()));
        tasks.spawn(async move {
            writer.run(until).await;
            written.cancel();
        });
        tasks.spawn(alert_writer.run(shutdown.clone()));
        tasks.spawn(refusal_writer.run(shutdown.clone()));
        tasks.spawn(Arc::clone(&quota).look_for_alerts(to_look_at, shutdown.clone()));
        let (following, until) = (Arc::clone(&quota), shutdown.clone());
        tasks.spawn(async move { following.entitlements.follow(until).await });
        let (watching, until) = (Arc::clone(&quota), shutdown.clone());
        tasks.spawn(async move { watching.watch_store(until).await });
        let (restoring, until) = (Arc::clone(&quota), shutdown.clone());
        tasks.spawn(async move { restoring.restore_after_losses(until).await });
        let (cleaning, until) = (Arc::clone(&quota), shutdown.clone());
        tasks.spawn(async move { cleaning.keep_house(until).await });
        quota
    }

    /// What time it is.
    fn now(&self) -> Millis {
        self.clock.now().timestamp_millis()
    }

    /// Bounds of batches and streams.
    #[must_use]
    pub const fn bounds(&self) -> &Operations {
        &self.config.operations
    }

    /// Whether both stores answer.
    ///
    /// # Errors
    /// The first one that doesn't.
    pub async fn ping(&self) -> crate::error::Result<()> {
        self.store.ping().await?;
        Ok(self.database.ping().await?)
    }
}

impl fmt::Debug for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quota").field("epochs", &self.epochs).finish_non_exhaustive()
    }
}
