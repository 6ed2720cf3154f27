//! Limits across tenants, drawn as slices into this process's memory.
//!
//! A request takes what it needs from the slices of all its accounts in one step, before the tenant's own limits are asked, and
//! gives it back if those refuse. Where a slice is short, one message to the account draws for everybody who waits. Seats of
//! concurrency limits are taken from the store itself, in messages that many requests share.

mod apply;
mod brought;
mod extend;
mod flight;
mod reconcile;
mod seats;
mod slice;
mod status;
mod take;
mod tell;
mod warn;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{OnceCell, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_database::Database;
use weir_types::{Clock, OrganizationId};

use super::alerts::Alerts;
use super::dictionary::Dictionary;
use super::epochs::Epochs;
use crate::config::{Config, SharedLimit, Slices};
use crate::domain::shared::{AccountKey, HolderId, SharedScope};
use crate::domain::{Amounts, CounterKey, Millis, Plan, PlanLimit, Subject, Tuning};
use crate::error::{Error, Result};
use crate::storage::Store;

pub(super) use apply::Ending;
pub(super) use flight::Pilot;
use seats::Seats;
use slice::Slice;
pub(super) use status::{Disagreements, HeldAcross};
pub(super) use take::{Taken, Taker, Took};
pub(super) use tell::SharedState;

/// The organisation that totals of limits across tenants stand under in Postgres.
pub(super) fn nobody() -> OrganizationId {
    uuid::Uuid::nil().into()
}

/// Limits across tenants.
pub(super) struct Shared {
    /// This process, from its start to its end.
    holder: HolderId,
    configured: Vec<SharedLimit>,
    tuning: Tuning,
    slices: Slices,
    /// For how long (ms) settlements are remembered.
    remember: Millis,
    store: Store,
    database: Database,
    epochs: Arc<Epochs>,
    dictionary: Arc<Dictionary>,
    clock: Arc<dyn Clock>,
    alerts: Arc<Alerts>,
    limits: OnceCell<Vec<Arc<Known>>>,
    /// Those that reservations have brought.
    brought: Mutex<HashMap<AccountKey, Arc<Known>>>,
    accounts: Mutex<HashMap<AccountKey, Arc<Account>>>,
    seats: Mutex<HashMap<AccountKey, Arc<Seats>>>,
    due: mpsc::UnboundedSender<Due>,
    doubts: Mutex<Vec<take::Doubt>>,
    /// Nobody sends messages any more.
    gone: CancellationToken,
}

/// A limit and which values it is for.
#[derive(Debug)]
pub(super) struct Known {
    limit: PlanLimit,
    scope: SharedScope,
    /// Empty: all, each for itself.
    value: String,
    /// Reservations bring it; it is not configured.
    brought: bool,
}

/// One account, as this process knows it.
#[derive(Debug)]
struct Account {
    key: AccountKey,
    known: ArcSwap<Known>,
    slice: Mutex<Slice>,
    /// Counts up whenever waiting requests should look again.
    news: watch::Sender<u64>,
    /// Whether it is in the queue of those that are due, or its message is on its way.
    queued: Mutex<Queued>,
    /// When it was last put on the list of accounts, in which generation.
    registered: Mutex<Option<(u64, Instant)>>,
    used: Mutex<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queued {
    No,
    Yes,
    /// Its message is on its way, and it is due again.
    Again,
}

/// What a message is due to.
#[derive(Debug)]
enum Due {
    Account(Arc<Account>),
    Seats(Arc<Seats>),
}

/// What a request asks of limits across tenants.
#[derive(Debug, Default)]
pub(super) struct Asks {
    windows: Vec<Ask>,
    seats: Vec<Arc<Seats>>,
}

#[derive(Debug)]
struct Ask {
    account: Arc<Account>,
    amount: i64,
}

impl Asks {
    pub(super) const fn is_empty(&self) -> bool {
        self.windows.is_empty() && self.seats.is_empty()
    }

    /// Whether one of them has its truth in Postgres.
    pub(super) fn is_durable(&self) -> bool {
        self.windows.iter().any(|ask| ask.account.known().limit.durable)
    }
}

impl Shared {
    pub(super) fn new(
        config: &Config,
        store: Store,
        database: Database,
        epochs: Arc<Epochs>,
        dictionary: Arc<Dictionary>,
        clock: Arc<dyn Clock>,
        alerts: Arc<Alerts>,
    ) -> (Arc<Self>, Pilot) {
        #[expect(clippy::disallowed_methods, reason = "each account is in it at most once, and accounts are few")]
        let (due, queue) = mpsc::unbounded_channel();
        let shared = Arc::new(Self {
            holder: *uuid::Uuid::new_v4().as_bytes(),
            configured: config.shared.clone(),
            tuning: config.windows.tuning(),
            slices: config.slices.clone(),
            remember: i64::try_from(config.settlements.remember.as_millis()).unwrap_or(i64::MAX),
            store,
            database,
            epochs,
            dictionary,
            clock,
            alerts,
            limits: OnceCell::new(),
            brought: Mutex::default(),
            accounts: Mutex::default(),
            seats: Mutex::default(),
            due,
            doubts: Mutex::default(),
            gone: CancellationToken::new(),
        });
        let pilot = Pilot::new(Arc::clone(&shared), queue);
        (shared, pilot)
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.configured.is_empty() && self.brought.lock().is_empty()
    }

    /// What a request asks of them, and of those that it has brought.
    pub(super) async fn asks(
        &self,
        plan: &Plan,
        subject: &Subject,
        amounts: &Amounts,
        brought: &[Arc<Known>],
    ) -> Result<Asks> {
        self.asks_with(plan, subject, brought, |limit| {
            let amount = amounts.get(&limit.limit.unit)?;
            (!limit.limit.unit.is_concurrent() || amount > 0).then_some(amount)
        })
        .await
    }

    /// All that apply to a subject, with nothing asked.
    pub(super) async fn asks_for_nothing(&self, plan: &Plan, subject: &Subject) -> Result<Asks> {
        self.asks_with(plan, subject, &[], |_| Some(0)).await
    }

    async fn asks_with(
        &self,
        plan: &Plan,
        subject: &Subject,
        brought: &[Arc<Known>],
        amount: impl Fn(&PlanLimit) -> Option<i64>,
    ) -> Result<Asks> {
        let mut asks = Asks::default();
        if self.configured.is_empty() && brought.is_empty() {
            return Ok(asks);
        }
        for known in Box::pin(self.limits()).await?.iter().chain(brought) {
            let value = match known.scope {
                SharedScope::Product => Some(""),
                SharedScope::Plan => Some(plan.name.as_str()).filter(|name| !name.is_empty()),
                SharedScope::Provider => subject.label("provider"),
                SharedScope::ProviderKey => subject.label("provider_key"),
            };
            let Some(value) = value.filter(|value| known.value.is_empty() || known.value == *value) else { continue };
            let Some(amount) = amount(&known.limit) else { continue };
            let key = AccountKey { limit: known.limit.id, value: value.into() };
            if known.limit.limit.unit.is_concurrent() {
                asks.seats.push(self.seats(key, known));
            } else {
                asks.windows.push(Ask { account: self.account(key, known), amount });
            }
        }
        // Accounts are locked in this order.
        asks.windows.sort_by(|a, b| a.account.key.cmp(&b.account.key));
        Ok(asks)
    }

    async fn limits(&self) -> Result<&[Arc<Known>]> {
        let limits = self.limits.get_or_try_init(|| async {
            let limits = self.configured.iter().map(SharedLimit::limit).collect::<Result<Vec<_>, _>>();
            let limits = limits.map_err(|wrong| Error::Bug(format!("a limit across tenants: {wrong:?}")))?;
            let keys: Vec<CounterKey> = limits.iter().map(CounterKey::from).collect();
            let ids = self.dictionary.numbers(&keys).await?;
            let known = ids.into_iter().zip(limits).zip(&self.configured).map(|((id, limit), configured)| {
                let (scope, value) = (configured.scope, configured.value.clone());
                Arc::new(Known { limit: PlanLimit::new(id, limit, self.tuning), scope, value, brought: false })
            });
            Ok::<_, Error>(known.collect())
        });
        Ok(limits.await?)
    }

    fn account(&self, key: AccountKey, known: &Arc<Known>) -> Arc<Account> {
        let mut accounts = self.accounts.lock();
        let account = accounts.entry(key).or_insert_with_key(|key| {
            Arc::new(Account {
                key: key.clone(),
                known: ArcSwap::new(Arc::clone(known)),
                slice: Mutex::new(Slice::new(self.now())),
                news: watch::Sender::new(0),
                queued: Mutex::new(Queued::No),
                registered: Mutex::new(None),
                used: Mutex::new(Instant::now()),
            })
        });
        *account.used.lock() = Instant::now();
        if !Arc::ptr_eq(&account.known.load(), known) {
            account.known.store(Arc::clone(known));
        }
        Arc::clone(account)
    }

    fn seats(&self, key: AccountKey, known: &Arc<Known>) -> Arc<Seats> {
        let mut seats = self.seats.lock();
        let seats = seats.entry(key).or_insert_with_key(|key| Arc::new(Seats::new(key.clone(), Arc::clone(known))));
        if !Arc::ptr_eq(&seats.known.load(), known) {
            seats.known.store(Arc::clone(known));
        }
        Arc::clone(seats)
    }

    /// Puts an account in line for a message, once.
    fn queue(&self, account: &Arc<Account>) {
        let mut queued = account.queued.lock();
        match *queued {
            Queued::No => {
                *queued = Queued::Yes;
                // The pilot outlives everybody who has something to say.
                let _ = self.due.send(Due::Account(Arc::clone(account)));
            }
            Queued::Yes => *queued = Queued::Again,
            Queued::Again => {}
        }
    }

    fn now(&self) -> Millis {
        self.clock.now().timestamp_millis()
    }

    /// Waits for what a message brings, as long as there are messages.
    async fn until_gone<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.gone.run_until_cancelled(work).await.unwrap_or(Err(Error::Stopping))
    }

    const fn wait(&self) -> Duration {
        self.slices.wait
    }
}

impl Account {
    fn known(&self) -> Arc<Known> {
        self.known.load_full()
    }

    fn news(&self) {
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("limits", &self.configured.len()).finish_non_exhaustive()
    }
}
