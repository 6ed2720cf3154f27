//! The signing keys of this replica: read from the database, rotated there, agreed upon by all replicas.
//!
//! A key is published as `next` for as long as its predecessor signs, so verifiers know it before its first token (and fetch
//! the set again when they meet a `kid` they don't know). A retired key stays published until no token of it can be alive.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_database::Database;
use weir_types::Clock;

use crate::config;
use crate::domain::{Actor, Defect, PublicKey, SealingKey, SigningKey, stored};
use crate::error::{Error, Result};
use crate::storage::signing_keys::{self, State, StoredKey};
use crate::storage::{
    self,
    audit_log::{self, Action, Entry},
};

/// Room for a token that is being signed while its key retires, and for clocks that differ.
const MARGIN: Duration = Duration::from_secs(60);

/// The signing keys.
pub(crate) struct SigningRing {
    database: Database,
    clock: Arc<dyn Clock>,
    sealing: SealingKey,
    config: config::Signing,
    token_lifetime: Duration,
    loaded: ArcSwapOption<Loaded>,
    /// One reload at a time; the others wait and take its result.
    reloading: Mutex<()>,
}

struct Loaded {
    signer: Arc<SigningKey>,
    public: Vec<PublicKey>,
    /// Since when it signs.
    since: Option<DateTime<Utc>>,
    read: Instant,
}

impl SigningRing {
    /// A ring that has not been read yet. `sealing` is the key under which signing keys rest in the database.
    #[must_use]
    pub(crate) fn new(
        database: Database,
        clock: Arc<dyn Clock>,
        sealing: SealingKey,
        config: config::Signing,
        token_lifetime: Duration,
    ) -> Self {
        Self {
            database,
            clock,
            sealing,
            config,
            token_lifetime,
            loaded: ArcSwapOption::empty(),
            reloading: Mutex::new(()),
        }
    }

    /// The key that signs now. One that the database has not confirmed for too long is not used: another replica may have
    /// retired it, and the verifiers may have forgotten it.
    ///
    /// # Errors
    /// When the database doesn't answer and what was read before is too old.
    pub(crate) async fn signer(&self) -> Result<Arc<SigningKey>> {
        if let Some(loaded) = self.fresh() {
            return Ok(Arc::clone(&loaded.signer));
        }
        let _one = self.reloading.lock().await;
        match self.fresh() {
            Some(loaded) => Ok(Arc::clone(&loaded.signer)),
            None => Ok(Arc::clone(&self.reload().await?.signer)),
        }
    }

    /// What verifiers need to know: from the database, so that a key that another replica made a moment ago is there; from
    /// memory while the database is away, so that an outage doesn't stop the verifiers.
    ///
    /// # Errors
    /// When the database doesn't answer and never did.
    pub(crate) async fn public(&self) -> Result<Vec<PublicKey>> {
        let one = self.reloading.lock().await;
        let reloaded = self.reload().await;
        drop(one);
        match (reloaded, self.loaded.load_full()) {
            (Ok(loaded), _) => Ok(loaded.public.clone()),
            (Err(Error::Database(_)), Some(loaded)) => Ok(loaded.public.clone()),
            (Err(error), _) => Err(error),
        }
    }

    /// The next key becomes current, the current one retires, and a new one is published as next.
    ///
    /// # Errors
    /// When the database doesn't answer.
    pub(crate) async fn rotate(&self, actor: &Actor) -> Result<()> {
        let mut tx = self.database.begin().await?;
        signing_keys::lock(&mut tx).await?;
        self.advance(&mut tx, actor).await?;
        Ok(storage::commit(tx).await?)
    }

    /// Whether a key is there to sign with.
    #[must_use]
    pub(crate) fn is_ready(&self) -> bool {
        self.fresh().is_some()
    }

    /// Follows other replicas' rotations and rotates when it is time, until shutdown.
    pub(crate) async fn run(&self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(self.config.reload_every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            let one = self.reloading.lock().await;
            let reloaded = self.reload().await;
            drop(one);
            match reloaded {
                Ok(loaded) if self.is_due(loaded.since) => {
                    if let Err(error) = self.rotate_if_due().await {
                        tracing::warn!(%error, "could not rotate the signing key");
                    }
                }
                Ok(_) => {}
                // The database's own errors have been logged.
                Err(Error::Database(_)) => {}
                Err(error) => tracing::error!(%error, "could not load the signing keys"),
            }
        }
    }

    fn fresh(&self) -> Option<Arc<Loaded>> {
        self.loaded.load_full().filter(|loaded| loaded.read.elapsed() < self.config.good_for())
    }

    async fn reload(&self) -> Result<Arc<Loaded>> {
        let read = Instant::now();
        let mut tx = self.database.begin().await?;
        let mut keys = signing_keys::published(&mut tx, self.clock.now()).await?;
        if !keys.iter().any(|key| key.is(State::Current)) {
            keys = self.found(&mut tx).await?;
            storage::commit(tx).await?;
        }
        let loaded = Arc::new(self.open(&keys, read)?);
        self.loaded.store(Some(Arc::clone(&loaded)));
        Ok(loaded)
    }

    fn open(&self, keys: &[StoredKey], read: Instant) -> Result<Loaded> {
        let current = keys.iter().find(|key| key.is(State::Current)).ok_or(Error::NotReady("signing keys"))?;
        let held = self.loaded.load_full().map(|loaded| Arc::clone(&loaded.signer));
        let signer = match held.filter(|held| held.id() == current.id) {
            Some(held) => held,
            None => Arc::new(self.sealing.open(&current.id, &current.sealed_seed)?),
        };
        if signer.public().as_slice() != current.public_key {
            return Err(Defect::Mismatch(current.id.clone()).into());
        }
        let public = keys.iter().map(public_key).collect::<Result<_>>()?;
        Ok(Loaded { signer, public, since: current.activated_at, read })
    }

    /// The first keys of a new deployment: whichever replica comes first makes them.
    async fn found(&self, tx: &mut PgConnection) -> Result<Vec<StoredKey>> {
        signing_keys::lock(tx).await?;
        let now = stored(self.clock.now());
        let keys = signing_keys::published(tx, now).await?;
        if keys.iter().any(|key| key.is(State::Current)) {
            return Ok(keys);
        }
        if keys.iter().any(|key| key.is(State::Next)) {
            signing_keys::activate_next(tx, now).await?;
        } else {
            self.make(tx, now, Some(now)).await?;
        }
        self.make(tx, now, None).await?;
        Ok(signing_keys::published(tx, now).await?)
    }

    async fn rotate_if_due(&self) -> Result<()> {
        let mut tx = self.database.begin().await?;
        signing_keys::lock(&mut tx).await?;
        // Another replica may have seen the same and been faster.
        let keys = signing_keys::published(&mut tx, self.clock.now()).await?;
        let current = keys.iter().find(|key| key.is(State::Current));
        if self.is_due(current.and_then(|key| key.activated_at)) {
            self.advance(&mut tx, &Actor::Service("auth".to_owned())).await?;
        }
        Ok(storage::commit(tx).await?)
    }

    fn is_due(&self, since: Option<DateTime<Utc>>) -> bool {
        since.is_some_and(|since| self.clock.now() >= since + self.config.rotate_every)
    }

    async fn advance(&self, tx: &mut PgConnection, actor: &Actor) -> Result<()> {
        let now = stored(self.clock.now());
        // A replica that didn't hear of it signs with the old key for a while yet.
        let verify_until = now + self.config.good_for() + self.token_lifetime + MARGIN;
        signing_keys::retire_current(tx, verify_until).await?;
        signing_keys::activate_next(tx, now).await?;
        let next = self.make(tx, now, None).await?;
        let entry = Entry {
            organization: None,
            at: now,
            actor: &actor.describe(),
            action: Action::RotateSigningKey,
            target: "",
            detail: &format!("next {next}"),
        };
        audit_log::append(tx, entry).await?;
        Ok(())
    }

    async fn make(
        &self,
        tx: &mut PgConnection,
        now: DateTime<Utc>,
        activated: Option<DateTime<Utc>>,
    ) -> Result<String> {
        let (key, seed) = SigningKey::generate()?;
        let sealed = self.sealing.seal(key.id(), &seed)?;
        signing_keys::insert(tx, (key.id(), key.public()), &sealed, now, activated).await?;
        Ok(key.id().to_owned())
    }
}

fn public_key(key: &StoredKey) -> Result<PublicKey> {
    let bytes = key.public_key.as_slice().try_into().map_err(|_| Defect::Mismatch(key.id.clone()))?;
    Ok(PublicKey { id: key.id.clone(), bytes, current: key.is(State::Current) })
}

impl std::fmt::Debug for SigningRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let signer = self.loaded.load_full().map(|loaded| loaded.signer.id().to_owned());
        f.debug_struct("SigningRing").field("signer", &signer).finish_non_exhaustive()
    }
}
