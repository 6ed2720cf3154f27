//! Calls with an idempotency key: made once, however often they are asked for.
//!
//! A call is claimed in Postgres before anything is done for it, and the claim is marked before a provider is asked. What holds,
//! whatever is killed: of all who ask with one key at one time one makes the call; a call whose end nobody saw, and for which a
//! provider may have been asked, is never made again under its key; a call for which nothing was charged leaves its key free.

mod claim;
mod kept;
mod metrics;
mod upkeep;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use weir_config::MasterKey;
use weir_database::Database;
use weir_host::Context;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;
use weir_types::OrganizationId;

use super::call::Incoming;
use crate::domain::idempotency::{Keyed, PURPOSE, Request};
use crate::domain::sealing::TenantKeys;
use crate::storage::idempotency::{self as storage, Known};

use metrics::OnceMetrics;

pub(crate) use claim::Claim;
pub(crate) use kept::Kept;

/// How calls with an idempotency key are kept; `config.defaults.toml` says what each means.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnceOptions {
    pub(crate) retention: Duration,
    pub(crate) lease: Duration,
    pub(crate) wait: Duration,
    pub(crate) max_answer_bytes: usize,
}

/// How often is looked whether a call has ended that another request makes: soon at first, then less often.
const LOOKS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// When a client that was told to ask again should.
const AGAIN: Duration = Duration::from_secs(1);
/// One statement for a call that waits for it.
const DEADLINE: Duration = Duration::from_secs(2);

/// Calls with an idempotency key.
pub(crate) struct Once {
    database: Database,
    master: MasterKey,
    options: OnceOptions,
    metrics: OnceMetrics,
    /// Claims of this broker whose calls have not ended.
    live: Mutex<HashSet<Uuid>>,
    tasks: TaskTracker,
}

/// What is to be done for a call with a key.
pub(crate) enum Turn {
    /// Nobody has made it.
    Ours(Arc<Claim>),
    /// It has been made; this came of it.
    Made(Box<Kept>),
}

impl Once {
    /// Begins to keep claims alive.
    pub(crate) fn start(database: Database, options: OnceOptions, context: &Context) -> Arc<Self> {
        let once = Arc::new(Self {
            database,
            master: context.master.clone(),
            options,
            metrics: OnceMetrics::new(),
            live: Mutex::default(),
            tasks: context.tasks.clone(),
        });
        context.tasks.spawn(Arc::clone(&once).keep_up(context.shutdown.clone()));
        once
    }

    /// Finds out whether the call is to be made. While another request makes it, waits for what comes of that.
    ///
    /// # Errors
    /// The key stands for another request; the call can't be waited for any longer; or nothing of it can be repeated.
    pub(crate) async fn turn(self: &Arc<Self>, incoming: &Incoming, key: &str) -> Result<Turn, Error> {
        let organization = incoming.caller.organization;
        let keys = TenantKeys::of_tenant(&self.master, PURPOSE, organization);
        let request = Request {
            api: incoming.api,
            body: &incoming.body,
            headers: &incoming.headers,
            suffix: &incoming.suffix,
            spare: incoming.spare,
        };
        let keyed = Keyed::new(&keys, principal(incoming), key, &request);
        let until = Instant::now() + self.options.wait;
        let until = incoming.deadline.map_or(until, |deadline| until.min(deadline.into()));
        let claim = Uuid::now_v7();
        let mut pause = LOOKS.0;
        loop {
            let known = match self.claim(organization, &keyed, claim).await? {
                None => {
                    self.metrics.claimed.increment(1);
                    return Ok(Turn::Ours(Arc::new(Claim::new(Arc::clone(self), organization, claim, keyed))));
                }
                Some(known) => known,
            };
            if let Some(kept) = self.judge(&keyed, known)? {
                self.metrics.replayed.increment(1);
                return Ok(Turn::Made(Box::new(kept)));
            }
            if Instant::now() + pause >= until {
                self.metrics.in_progress.increment(1);
                return Err(in_progress());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOKS.1);
        }
    }

    /// Claims the call; else answers how it stands.
    async fn claim(&self, organization: OrganizationId, keyed: &Keyed, claim: Uuid) -> Result<Option<Known>, Error> {
        let Keyed { name, request, .. } = keyed;
        let OnceOptions { lease, retention, .. } = self.options;
        // It may be expired when it is claimed and forgotten when it is looked up.
        for _ in 0..3 {
            let work = async {
                let mut tx = self.database.begin_tenant(organization).await?;
                if storage::claim(&mut tx, organization, name, request, claim, lease, retention).await? {
                    tx.commit().await?;
                    return Ok(Ok(()));
                }
                let known = storage::known(&mut tx, organization, name).await?;
                tx.commit().await?;
                Ok(Err(known))
            };
            match self.in_time(work).await {
                Ok(Ok(())) => {
                    self.live.lock().insert(claim);
                    return Ok(None);
                }
                Ok(Err(Some(known))) => return Ok(Some(known)),
                Ok(Err(None)) => {}
                Err(error) => return Err(unavailable(&error)),
            }
        }
        Err(in_progress())
    }

    /// What came of a call that another request has claimed; none while it is under way.
    fn judge(&self, keyed: &Keyed, known: Known) -> Result<Option<Kept>, Error> {
        if known.request != keyed.request {
            self.metrics.conflicts.increment(1);
            return Err(Error::new(
                ErrorReason::IdReused,
                "This idempotency key was used for another request. Use a new key for a new request.",
            ));
        }
        if known.lost {
            self.metrics.lost.increment(1);
            return Err(Error::new(
                ErrorReason::NotRepeatable,
                "The call of this idempotency key was interrupted when a provider may have been asked, so it may have been charged. \
                 It is not made again; use a new key to make another call.",
            ));
        }
        if !known.ended {
            return Ok(None);
        }
        let kept = known.answer.and_then(|sealed| Kept::open(keyed, sealed)).ok_or_else(|| {
            self.metrics.lost.increment(1);
            Error::new(
                ErrorReason::NotRepeatable,
                "The call of this idempotency key has been made and charged, and its answer is not kept: it was too large, or cut \
                 off. It is not made again; use a new key to make another call.",
            )
        })?;
        Ok(Some(kept))
    }

    /// The longest answer that is kept.
    pub(crate) fn max_answer_bytes(&self) -> usize {
        self.options.max_answer_bytes
    }

    /// Work that a call waits for.
    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, weir_database::Error>>,
    ) -> Result<T, weir_database::Error> {
        match tokio::time::timeout(DEADLINE, Box::pin(work)).await {
            Ok(result) => result,
            Err(_) => Err(weir_database::Error::Unavailable("no answer in time".to_owned())),
        }
    }
}

/// Whose key it is: a user's; of an API key without one, that key's.
fn principal(incoming: &Incoming) -> &str {
    let subject = &incoming.caller.subject;
    if subject.user.is_empty() { &subject.api_key } else { &subject.user }
}

fn in_progress() -> Error {
    Error::new(ErrorReason::CallInProgress, "The call of this idempotency key is still under way.").retry_after(AGAIN)
}

/// Without the store nobody knows whether the call has been made.
fn unavailable(error: &weir_database::Error) -> Error {
    Error::unavailable("postgres", error).retry_after(AGAIN)
}
