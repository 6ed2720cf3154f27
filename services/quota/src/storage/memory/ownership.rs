//! Whose the books are: exactly one process keeps them in memory.
//!
//! A transaction that stays open holds an advisory lock, which works behind a pooler, too. Postgres ends it with the process, and
//! by itself when it has not heard of it for a while, so a host that vanishes does not keep the books from the next one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::{Postgres, Transaction};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;
use weir_database::{Database, Error};

use crate::storage::epochs;
use crate::storage::store::{Failure, Result};

/// The claim of one process to the books in one database.
#[derive(Debug)]
pub struct Ownership {
    database: Database,
    identity: String,
    session: Mutex<Option<Session>>,
    /// For how long an answer of Postgres is good.
    good_for: Duration,
    is_held: AtomicBool,
}

#[derive(Debug)]
struct Session {
    transaction: Transaction<'static, Postgres>,
    /// Whether nobody else has begun a generation since this process did.
    continues: bool,
}

/// What a verification says.
pub(super) struct Held {
    /// Whether the generation that this process has begun is still the last one.
    pub(super) continues: bool,
    /// For how long the books are this process's for sure, from when it asked.
    pub(super) good_for: Duration,
}

/// "weirquot".
const LOCK: i64 = 0x7765_6972_7175_6f74;
/// Postgres ends the transaction of a process that it has not heard of for so long.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);
/// How long Postgres may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

impl Ownership {
    /// Of the books in this database, which are asked for every `check_every`.
    #[must_use]
    pub fn new(database: Database, check_every: Duration) -> Self {
        Self {
            database,
            identity: format!("memory {}", Uuid::now_v7().simple()),
            session: Mutex::new(None),
            good_for: Self::good_for(check_every),
            is_held: AtomicBool::new(false),
        }
    }

    /// For how long a process that has lost the books may take them for its own: the next one must keep limits of money closed for
    /// as long.
    #[must_use]
    pub fn good_for(check_every: Duration) -> Duration {
        (PATIENCE + 2 * check_every).min(FORGOTTEN_AFTER - Duration::from_secs(1))
    }

    /// This process's name in `quota.epochs`.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// Takes the books, or finds them taken; none if Postgres does not say. An owner that has just ended may be known for a moment
    /// longer. Answers when they were asked for, and for how long they are this process's from then on.
    pub(super) async fn claim(&self) -> Result<Option<(std::time::Instant, Duration)>> {
        let until = Instant::now() + FORGOTTEN_AFTER + Duration::from_secs(1);
        loop {
            let asked = std::time::Instant::now();
            match self.verify(0).await {
                Ok(held) => return Ok(Some((asked, held.good_for))),
                Err(Failure::Owned) if Instant::now() < until => sleep(Duration::from_millis(200)).await,
                Err(Failure::Owned) => return Err(Failure::Owned),
                // Postgres may come up later; until then the store is closed.
                Err(_) => return Ok(None),
            }
        }
    }

    /// Whether the books are this process's; takes them if they are nobody's. `number`: the generation that it has begun.
    pub(super) async fn verify(&self, number: u64) -> Result<Held> {
        let mut session = self.session.lock().await;
        let held = match session.take() {
            Some(known) => alive(known).await,
            None => self.acquire(number).await,
        };
        match held {
            Ok(held) => {
                let continues = held.continues;
                *session = Some(held);
                if !self.is_held.swap(true, Ordering::AcqRel) && number != 0 {
                    tracing::info!(continues, "the counters in memory are this process's again");
                }
                Ok(Held { continues, good_for: self.good_for })
            }
            Err(failure) => {
                if self.is_held.swap(false, Ordering::AcqRel) {
                    tracing::warn!(error = %failure, "the counters in memory are closed");
                }
                Err(failure)
            }
        }
    }

    /// Notes that this process begins a generation, if the books are still its own; answers whether it had not before, and for how
    /// long the books are its own.
    pub(super) async fn take(&self, number: u64) -> Result<(bool, Duration)> {
        let mut session = self.session.lock().await;
        let mut held = match session.take() {
            Some(known) => alive(known).await?,
            None => return Err(Failure::Closed),
        };
        tracing::debug!(generation = number, "the counters in memory begin");
        let is_first = !std::mem::replace(&mut held.continues, true);
        *session = Some(held);
        Ok((is_first, self.good_for))
    }

    async fn acquire(&self, number: u64) -> Result<Session> {
        let acquired = timeout(PATIENCE, async {
            let mut transaction = self.database.begin().await?;
            let idle = FORGOTTEN_AFTER.as_millis();
            let set = format!("set local idle_in_transaction_session_timeout = {idle}");
            sqlx::query(sqlx::AssertSqlSafe(set)).execute(&mut *transaction).await?;
            let ours: bool = sqlx::query_scalar("select pg_try_advisory_xact_lock($1)")
                .bind(LOCK)
                .fetch_one(&mut *transaction)
                .await?;
            let last = epochs::last(&mut transaction).await?;
            Ok::<_, Error>((transaction, ours, last))
        });
        match acquired.await {
            Ok(Ok((transaction, true, last))) => Ok(Session { transaction, continues: number != 0 && last == number }),
            Ok(Ok((_, false, _))) => Err(Failure::Owned),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the owner of the counters in memory is not known");
                Err(Failure::Closed)
            }
            Err(_) => Err(Failure::Closed),
        }
    }
}

/// The session, if Postgres still has it; the transaction has ended otherwise, and the lock with it.
async fn alive(mut session: Session) -> Result<Session> {
    match timeout(PATIENCE, sqlx::query("select").execute(&mut *session.transaction)).await {
        Ok(Ok(_)) => Ok(session),
        _ => Err(Failure::Closed),
    }
}
