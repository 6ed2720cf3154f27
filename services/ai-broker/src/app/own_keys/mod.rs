//! Keys of providers that users and organisations bring themselves: known to every broker, used before the platform's and never
//! replaced by it.
//!
//! All of them are in memory, sealed, and followed as they change ([`follow`]). So a call needs no database; and before they have been
//! read there is no call, because whoever might have a key of his own must not go by the platform's.

mod attempt;
pub(crate) mod cost;
mod follow;
mod keyring;
mod manage;
mod table;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use parking_lot::{Mutex, RwLock};
use weir_config::MasterKey;
use weir_database::Database;
use weir_host::Context;
use weir_rpc::Error;
use weir_types::{Clock, OrganizationId, ProviderKeyId};
use zeroize::Zeroizing;

use super::call::Caller;
use crate::config::OwnKeysConfig;
use crate::domain::own_keys::{FIRST_MASTER, Masters, NotOpened};

pub(crate) use keyring::Keyring;
pub(crate) use manage::{Asked, Change, LimitChange, Page};
pub(crate) use table::OwnKey;

use follow::Followed;
use table::Table;

/// What a caller's own key is counted by, where the platform's are counted by `provider` and `provider_key`.
const LABEL: &str = "own_key";

/// All keys that callers have brought.
pub(crate) struct OwnKeys {
    enabled: bool,
    look: Duration,
    deployment: MasterKey,
    masters: ArcSwap<Masters>,
    table: RwLock<Table>,
    followed: tokio::sync::Mutex<Followed>,
    database: Database,
    clock: Arc<dyn Clock>,
    /// When keys were used last, as long as that is not written down.
    used: Mutex<HashMap<ProviderKeyId, (OrganizationId, DateTime<Utc>)>>,
    known: Gauge,
    unopened: Gauge,
    refused: Counter,
}

impl OwnKeys {
    /// Those of this database; nothing is known of them before they have been [followed](Self::run).
    ///
    /// # Errors
    /// No master key of the version that is to wrap.
    pub(crate) fn new(config: &OwnKeysConfig, database: Database, context: &Context) -> Result<Self, NotOpened> {
        describe_gauge!("weir_broker_own_keys", "Keys that users and organisations have brought.");
        describe_gauge!("weir_broker_own_keys_unopened", "Tenants whose data key no configured master key opens.");
        describe_counter!(
            "weir_broker_own_key_refusals_total",
            "Answers of providers that refused a caller's own key."
        );
        Ok(Self {
            enabled: config.enabled,
            look: config.look,
            masters: ArcSwap::from_pointee(masters(config, &context.master)?),
            deployment: context.master.clone(),
            table: RwLock::default(),
            followed: tokio::sync::Mutex::default(),
            database,
            clock: Arc::clone(&context.clock),
            used: Mutex::default(),
            known: gauge!("weir_broker_own_keys"),
            unopened: gauge!("weir_broker_own_keys_unopened"),
            refused: counter!("weir_broker_own_key_refusals_total"),
        })
    }

    /// Whether it is known who has brought which key.
    pub(crate) fn are_read(&self) -> bool {
        !self.enabled || self.table.read().is_read
    }

    /// What the caller has brought.
    ///
    /// # Errors
    /// That is not known yet. It never means that there is nothing.
    pub(crate) fn of(&self, caller: &Caller) -> Result<Keyring, Error> {
        if !self.enabled {
            return Ok(Keyring::default());
        }
        let table = self.table.read();
        if !table.is_read {
            let error = Error::unavailable("postgres", "the callers' own keys have not been read yet");
            return Err(error.retry_after(Duration::from_secs(1)));
        }
        Ok(table.keyring(caller.organization, &caller.subject.user))
    }

    /// Whether nobody of the organisation has brought any.
    pub(crate) fn has_none(&self, organization: OrganizationId) -> bool {
        !self.enabled || self.table.read().has_none(organization)
    }

    /// A key's secret, for one request; it is noted that it is used.
    ///
    /// # Errors
    /// It does not open: then nothing else is tried in its place.
    fn open(&self, key: &OwnKey) -> Result<Zeroizing<Vec<u8>>, Error> {
        let organization = key.view.holder.organization;
        let data_key = self.table.read().data_key(organization);
        let opened = match data_key {
            Some(data_key) => data_key.open(key.view.id, &key.view.holder, &key.sealed),
            None => Err(NotOpened::Cipher),
        };
        let secret = opened.map_err(|error| {
            tracing::error!(key = %key.view.id, %organization, %error, "a caller's own key does not open");
            Error::unavailable("own-keys", format!("the key {} does not open: {error}", key.view.id))
        })?;
        self.used.lock().insert(key.view.id, (organization, self.clock.now()));
        Ok(secret)
    }
}

/// The master keys that are configured. The first one is the deployment's own, unless another one is named.
fn masters(config: &OwnKeysConfig, deployment: &MasterKey) -> Result<Masters, NotOpened> {
    let mut keys = BTreeMap::from([(FIRST_MASTER, deployment.clone())]);
    for (version, key) in config.masters() {
        keys.insert(version, key.map_err(|_| NotOpened::NoMaster(version))?);
    }
    Masters::new(&keys, config.wrap_with)
}
