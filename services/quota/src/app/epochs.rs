//! Which generation of the fast store is in force, and what to do when it has lost its data.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::metrics::{counter, gauge};
use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;
use weir_database::Database;
use weir_types::OrganizationId;

use crate::domain::Millis;
use crate::error::Result;
use crate::storage::Store;
use crate::storage::epochs;
use crate::storage::store::{Generation, InForce};

/// The generation in force, as this process knows it.
#[derive(Debug)]
pub(super) struct Epoch {
    /// What the store must be told to act in it.
    pub(super) store: InForce,
    /// Until when money and long windows are closed.
    closed_until: Instant,
    /// When it began, by the store's clock and by this process's, if there was one before it.
    follows_since: Option<(Millis, Instant)>,
    /// Whether this process may read counters for it.
    read: AtomicBool,
}

/// How far the clocks of two stores, of which one follows the other, may be apart.
const SKEW: Millis = 30_000;

impl Epoch {
    /// Its number.
    pub(super) const fn number(&self) -> u64 {
        self.store.number()
    }

    /// For how long money and long windows stay closed.
    pub(super) fn closed_for(&self) -> Option<Duration> {
        let left = self.closed_until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// Whether there was a generation before it.
    pub(super) const fn follows(&self) -> bool {
        self.follows_since.is_some()
    }

    /// Whether there was a generation before it that has ended within `span`.
    pub(super) fn follows_lately(&self, span: Duration) -> bool {
        self.follows_since.is_some_and(|(_, began)| began.elapsed() < span)
    }

    /// Whether what was reserved then may be of a generation before it.
    pub(super) fn may_follow(&self, reserved_at: Millis) -> bool {
        self.follows_since.is_some_and(|(began, _)| reserved_at < began + SKEW)
    }
}

/// Keeps track of the generation.
#[derive(Debug)]
pub(super) struct Epochs {
    store: Store,
    database: Database,
    window: Duration,
    current: ArcSwapOption<Epoch>,
    /// When the last verification that succeeded began.
    verified: Mutex<Option<Instant>>,
}

impl Epochs {
    pub(super) fn new(store: Store, database: Database, window: Duration) -> Self {
        Self { store, database, window, current: ArcSwapOption::empty(), verified: Mutex::new(None) }
    }

    /// The generation that was in force when it was last looked at.
    pub(super) async fn current(&self) -> Result<Arc<Epoch>> {
        match self.current.load_full() {
            Some(epoch) => Ok(epoch),
            None => Box::pin(self.verify()).await,
        }
    }

    /// What is known without asking.
    pub(super) fn known(&self) -> Option<Arc<Epoch>> {
        self.current.load_full()
    }

    /// The generation that is in force now. If the store has lost its data, begins a new one: exactly one of all processes does.
    pub(super) async fn verify(&self) -> Result<Arc<Epoch>> {
        let asked = Instant::now();
        let mut verified = self.verified.lock().await;
        // Somebody else looked while this call waited.
        if verified.is_some_and(|at| at >= asked)
            && let Some(epoch) = self.current.load_full()
        {
            return Ok(epoch);
        }
        let began = Instant::now();
        let (server, found) = self.store.generation().await?;
        let generation = match found {
            Some(generation) => generation,
            None => {
                let (number, rebuilds) = self.database.bounded(epochs::next(self.database.pool(), &server)).await?;
                self.store.begin_generation(&server, number, rebuilds).await?
            }
        };
        let epoch = self.adopt(&generation).await?;
        *verified = Some(began);
        Ok(epoch)
    }

    async fn adopt(&self, generation: &Generation) -> Result<Arc<Epoch>> {
        if let Some(epoch) = self.current.load_full()
            && epoch.number() == generation.number
        {
            return Ok(epoch);
        }
        let age = Duration::from_millis(u64::try_from(generation.age).unwrap_or(0));
        let closed = if generation.rebuilds { self.window.saturating_sub(age) } else { Duration::ZERO };
        let store = self.store.adopt(generation.number).await?;
        for complaint in self.store.complaints().await.unwrap_or_default() {
            tracing::warn!(%complaint, "the fast store is not set up as it must be");
        }
        let follows_since = if generation.rebuilds {
            let now = self.store.now(&store, &OrganizationId::from(Uuid::nil())).await?;
            Some((now - generation.age, Instant::now().checked_sub(age).unwrap_or_else(Instant::now)))
        } else {
            None
        };
        self.database.bounded(epochs::enforce(self.database.pool(), generation.number)).await?;
        let epoch = Arc::new(Epoch {
            store,
            closed_until: Instant::now() + closed,
            follows_since,
            read: AtomicBool::new(false),
        });
        let before = self.current.swap(Some(Arc::clone(&epoch)));
        if before.is_some() {
            counter!("weir_quota_generations_total").increment(1);
            tracing::warn!(
                generation = generation.number,
                closed_ms = closed.as_millis(),
                "the fast store has lost data: counters are rebuilt"
            );
        }
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        gauge!("weir_quota_generation").set(generation.number as f64);
        Ok(epoch)
    }

    /// Must be done before Postgres is asked what has been settled, for all that follows from it in a generation: whatever was
    /// settled in an earlier one is on the books then, and nothing else will be.
    pub(super) async fn read_for(&self, epoch: &Epoch) -> Result<()> {
        if !epoch.read.load(Ordering::Acquire) {
            self.database.bounded(epochs::read_for(self.database.pool(), epoch.number())).await?;
            epoch.read.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// The store does not know the generation: finds out whether it is another one, then loads them.
    pub(super) async fn reload(&self) -> Result<Arc<Epoch>> {
        let before = self.known();
        let epoch = self.verify().await?;
        if before.is_some_and(|before| before.number() == epoch.number()) {
            self.store.reload(&epoch.store).await?;
        }
        Ok(epoch)
    }
}
