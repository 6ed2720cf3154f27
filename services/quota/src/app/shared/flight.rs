//! Messages to accounts: one at a time to each, for everybody who has something to say.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::slice::measure;
use super::{Account, Due, Queued, Shared, nobody};
use crate::app::epochs::Epoch;
use crate::domain::Kind;
use crate::domain::period::FOREVER;
use crate::domain::shared::{Reply, Terms};
use crate::error::{Error, Result};
use crate::storage::counters::{self, Wanted};
use crate::storage::store::{Failure, InstallAccount};

/// Sends the messages, until everybody has said good-bye.
pub(in crate::app) struct Pilot {
    shared: Arc<Shared>,
    queue: mpsc::UnboundedReceiver<Due>,
}

/// How often a message may turn out to be for another period or generation before those who wait are told so.
const ATTEMPTS: usize = 8;
/// How long saying good-bye may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// An account that nobody asks for is forgotten after so long.
const IDLE: Duration = Duration::from_secs(600);
/// An account is put on the list of accounts again after so long.
const REGISTER_EVERY: Duration = Duration::from_secs(600);

impl Pilot {
    pub(super) const fn new(shared: Arc<Shared>, queue: mpsc::UnboundedReceiver<Due>) -> Self {
        Self { shared, queue }
    }

    /// Works until `close`, then returns every slice.
    pub(in crate::app) async fn run(mut self, close: CancellationToken) {
        let shared = Arc::clone(&self.shared);
        let mut flying: FuturesUnordered<BoxFuture<'static, Due>> = FuturesUnordered::new();
        let mut doubts: Option<BoxFuture<'static, ()>> = None;
        let mut reconciling: Option<BoxFuture<'static, ()>> = None;
        let mut ticks = interval(shared.slices.report_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(due) = self.queue.recv() => flying.push(fly(Arc::clone(&shared), due).boxed()),
                Some(due) = flying.next() => shared.landed(due),
                () = done(&mut doubts) => doubts = None,
                () = done(&mut reconciling) => reconciling = None,
                _ = ticks.tick() => {
                    shared.report();
                    if doubts.is_none() && shared.has_doubts() {
                        let shared = Arc::clone(&shared);
                        doubts = Some(async move { shared.resolve_doubts().await }.boxed());
                    }
                    if reconciling.is_none() {
                        let bereaved = shared.bereaved();
                        if !bereaved.is_empty() {
                            let shared = Arc::clone(&shared);
                            reconciling = Some(async move { shared.reconcile(bereaved).await }.boxed());
                        }
                    }
                }
                () = close.cancelled() => break,
            }
        }
        let farewell = async {
            while flying.next().await.is_some() {}
            shared.gone.cancel();
            shared.leave().await;
        };
        if timeout(FAREWELL, farewell).await.is_err() {
            tracing::warn!(
                "slices of limits across tenants could not be returned: they come back when their leases end"
            );
        }
    }
}

/// When the work is done; never, if there is none.
async fn done(work: &mut Option<BoxFuture<'static, ()>>) {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

async fn fly(shared: Arc<Shared>, due: Due) -> Due {
    match &due {
        Due::Account(account) => {
            *account.queued.lock() = Queued::Yes;
            // Who waits is told by the slice.
            let _ = shared.fly(account).await;
        }
        Due::Seats(seats) => shared.fly_seats(seats).await,
    }
    due
}

impl Shared {
    /// A message has come back: whatever became due meanwhile is next.
    fn landed(&self, due: Due) {
        match &due {
            Due::Account(account) => {
                let urgent = account.slice.lock().is_urgent();
                let mut queued = account.queued.lock();
                let again = *queued == Queued::Again || urgent;
                *queued = if again { Queued::Yes } else { Queued::No };
                if !again {
                    return;
                }
            }
            Due::Seats(seats) if !seats.is_due_again() => return,
            Due::Seats(_) => {}
        }
        let _ = self.due.send(due);
    }

    /// Says what is to be said, and keeps alive what is held.
    fn report(&self) {
        let now = Instant::now();
        let mut accounts = self.accounts.lock();
        accounts.retain(|_, account| {
            let active = account.slice.lock().is_active();
            if active {
                self.queue(account);
            }
            active || Arc::strong_count(account) > 1 || now.saturating_duration_since(*account.used.lock()) < IDLE
        });
        drop(accounts);
        let mut seats = self.seats.lock();
        seats.retain(|_, seats| {
            let active = self.report_seats(seats);
            active || Arc::strong_count(seats) > 1
        });
    }

    /// Returns everything.
    async fn leave(&self) {
        let accounts: Vec<Arc<Account>> = self.accounts.lock().values().cloned().collect();
        for account in &accounts {
            account.slice.lock().close();
        }
        let farewells = accounts.iter().map(|account| async move {
            // More than one where much is unsaid. What nobody knows the outcome of stays in the slice: it is looked up when that
            // has ended, as after a crash.
            while account.slice.lock().is_unsaid() {
                if self.fly(account).await.is_err() {
                    return;
                }
            }
        });
        futures::future::join_all(farewells).await;
        let seats: Vec<_> = self.seats.lock().values().cloned().collect();
        futures::future::join_all(seats.iter().map(|seats| self.fly_seats(seats))).await;
    }

    async fn fly(&self, account: &Arc<Account>) -> Result<(), ()> {
        let result = self.exchange(account).await;
        if let Err(error) = &result {
            tracing::debug!(limit = account.known().limit.limit.name, %error, "an account of a limit across tenants");
        }
        account.news();
        result.map_err(|error| account.slice.lock().fail(&error))
    }

    /// One message and its answer. What fails is said again, but for what somebody waits for: they are told.
    async fn exchange(&self, account: &Arc<Account>) -> Result<()> {
        let known = account.known();
        let limit = &known.limit;
        for _ in 0..ATTEMPTS {
            let epoch = self.epochs.current().await?;
            self.register_account(account, &epoch).await?;
            let flight = {
                let (mut slice, now) = (account.slice.lock(), Instant::now());
                let time = if slice.knows_time() { slice.store_time(now) } else { self.now() };
                let period = if limit.rolling().is_some() { FOREVER } else { limit.period(time) };
                let terms = Terms {
                    cap: limit.limit.cap,
                    measure: measure(limit, period),
                    durable: limit.durable,
                    lease: i64::try_from(self.slices.lease.as_millis()).unwrap_or(i64::MAX),
                    // Half of it: clocks of two nodes are not the same.
                    remember: self.remember / 2,
                };
                slice.compose((epoch.number(), period), terms, self.holder, now)
            };
            let reply = self.store.shared_round(&epoch.store, &account.key, &flight.round).await;
            match reply {
                Ok(Reply::Done(answer)) => {
                    account.slice.lock().land(flight, answer, self.slices.lease);
                    self.warn(account, false);
                    return Ok(());
                }
                Ok(Reply::Cold) => {
                    account.slice.lock().return_to_sender(flight);
                    self.load_account(account, &epoch).await?;
                }
                Ok(Reply::Outside(time) | Reply::Later(time)) => {
                    let mut slice = account.slice.lock();
                    slice.return_to_sender(flight);
                    slice.set_time(time, Instant::now());
                }
                Ok(Reply::Overtaken) => {
                    let mut slice = account.slice.lock();
                    slice.return_to_sender(flight);
                    slice.skip_ahead();
                }
                Err(Failure::OtherGeneration) => {
                    account.slice.lock().return_to_sender(flight);
                    Box::pin(self.epochs.reload()).await?;
                }
                Err(failure) => {
                    let error = Error::from(failure);
                    account.slice.lock().crash(flight, &error);
                    return Err(error);
                }
            }
        }
        Err(Error::Unsettled("too many attempts"))
    }

    /// Loads an account's totals from Postgres, in the same order as a tenant's counters and for the same reasons.
    async fn load_account(&self, account: &Account, epoch: &Epoch) -> Result<()> {
        let fence = self.store.shared_fence(&account.key).await?;
        if self.epochs.verify().await?.number() != epoch.number() {
            return Ok(());
        }
        self.epochs.read_for(epoch).await?;
        let known = account.known();
        let limit = &known.limit;
        let slice_time = {
            let slice = account.slice.lock();
            if slice.knows_time() { slice.store_time(Instant::now()) } else { self.now() }
        };
        let (from, to, period) = match limit.limit.window.kind() {
            Kind::Rolling(length) => (slice_time - length + 1, i64::MAX, 0),
            _ => {
                let start = limit.period(slice_time).start;
                (start, start, start)
            }
        };
        let wanted = Wanted { limit: account.key.limit, subject: account.key.value.to_string(), from, to };
        let load = async {
            let mut transaction = self.database.begin_tenant(nobody()).await?;
            let totals = counters::load(&mut transaction, &nobody(), &[wanted]).await?;
            transaction.commit().await?;
            Ok::<_, weir_database::Error>(totals)
        };
        let totals = self.database.bounded(load).await?;
        let install = if limit.rolling().is_some() {
            let buckets = totals.iter().map(|total| (total.period, total.committed)).collect();
            InstallAccount { period, total: (0, 0), buckets }
        } else {
            let total = totals.first().map_or((0, 0), |total| (total.committed, total.version));
            InstallAccount { period, total, buckets: Vec::new() }
        };
        self.store.shared_install(&epoch.store, &account.key, &fence, &install).await?;
        Ok(())
    }

    async fn register_account(&self, account: &Account, epoch: &Epoch) -> Result<()> {
        let registered = *account.registered.lock();
        if registered.is_some_and(|(generation, at)| generation == epoch.number() && at.elapsed() < REGISTER_EVERY) {
            return Ok(());
        }
        self.store.shared_register(&account.key, self.now() / 1_000).await?;
        *account.registered.lock() = Some((epoch.number(), Instant::now()));
        Ok(())
    }
}
