//! The fast path: a tenant's counters, its held reservations and their leases, changed by scripts only.
//!
//! Keys of a tenant carry its id as the hash tag, so all of them are in one slot of a Redis Cluster:
//! `wq3:{tenant}s` is a hash of the subjects' counters (`o`, `u…`, `k…`, `i…`, `v…`, `l…`; see `domain/state.rs`), those of the
//! concurrency limits (`c…`; see `lua/concurrency.lua`), the reservations (`r…`: a held one `R`, or the mark `S` that it was settled),
//! the records that were made together (`b…` and `h…`; see `lua/sheets.lua`) and the fence (`!`); `wq3:{tenant}l` is a sorted set of
//! what to look at when a lease may have ended. `wq3:{tenants}leases` and `wq3:{tenants}states` list the tenants that may have
//! leases, and anything; `wq3:epoch` holds the generation.
//! On a cluster there are canaries beside it; see `cluster`.

mod admission;
mod answers;
mod batch;
mod cluster;
mod combiner;
mod epoch;
mod extend;
mod grow;
mod holders;
mod install;
mod leases;
mod program;
mod record;
mod request;
mod scripts;
mod sending;
mod settle;
mod settle_held;
mod shared;
mod sheets;
mod tenants;

use std::sync::Arc;

use uuid::Uuid;
use weir_redis::redis::{Cmd, FromRedisValue, Value as Reply, from_redis_value};
use weir_redis::{Error as RedisError, Redis};
use weir_types::{OrganizationId, ReservationId};

use super::store::{Failure, Result};
use crate::domain::{LimitId, Value};
use admission::Reserving;
#[cfg(feature = "measure")]
pub use admission::reserve_packed;
use combiner::Combiner;
use extend::Extending;
use scripts::Script;
pub use scripts::Scripts;
use settle_held::Settling;
#[cfg(feature = "measure")]
pub use {
    extend::{Leased, extend_command},
    settle_held::settle_command,
};

/// The store; clones share its connections.
#[derive(Debug, Clone)]
pub struct Store {
    redis: Redis,
    reserving: Arc<Combiner<Reserving>>,
    extending: Arc<Combiner<Extending>>,
    settling: Arc<Combiner<Settling>>,
}

impl Failure {
    /// An answer that the scripts don't give.
    fn answer(what: &str) -> Self {
        Self::Redis(RedisError::Internal(format!("unexpected answer of {what}")))
    }
}

impl Store {
    /// On these connections.
    #[must_use]
    pub fn new(redis: Redis) -> Self {
        let deadline = redis.deadline();
        Self {
            reserving: Arc::new(Combiner::new(Reserving { redis: redis.clone() }, deadline)),
            extending: Arc::new(Combiner::new(Extending { redis: redis.clone() }, deadline)),
            settling: Arc::new(Combiner::new(Settling { redis: redis.clone() }, deadline)),
            redis,
        }
    }

    /// With whom calls for a tenant can go together: on a cluster each tenant is in a slot of its own.
    fn lane(&self, organization: &OrganizationId) -> Option<OrganizationId> {
        self.redis.is_cluster().then_some(*organization)
    }

    /// Whether it answers.
    ///
    /// # Errors
    /// When it doesn't.
    pub async fn ping(&self) -> Result<()> {
        Ok(self.redis.ping().await?)
    }

    async fn eval<T: FromRedisValue>(&self, script: &Script, keys: &[Vec<u8>], args: &[&[u8]]) -> Result<T> {
        self.send(&command(script, keys, args)).await
    }

    async fn send<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        let reply = send(&self.redis, command).await?;
        from_redis_value(reply).map_err(|error| Failure::Redis(error.into()))
    }
}

async fn send(redis: &Redis, command: &Cmd) -> Result<Reply> {
    redis.command::<Reply>(command).await.map_err(failure)
}

fn failure(error: RedisError) -> Failure {
    match error {
        // The server's own words; a test would tell if they changed.
        RedisError::Script(text) if text.contains("No matching script") => Failure::OtherGeneration,
        error => error.into(),
    }
}

fn command(script: &Script, keys: &[Vec<u8>], args: &[&[u8]]) -> Cmd {
    let size = keys.iter().map(Vec::len).sum::<usize>() + args.iter().map(|arg| arg.len()).sum::<usize>();
    let mut command = Cmd::with_capacity(3 + keys.len() + args.len(), 64 + size);
    command.arg("EVALSHA").arg(script.hash()).arg(keys.len());
    for key in keys {
        command.arg(key);
    }
    for arg in args {
        command.arg(*arg);
    }
    command
}

/// The keys of one tenant.
struct Keys {
    tag: [u8; 32],
}

impl Keys {
    fn new(organization: &OrganizationId) -> Self {
        let mut tag = [0; 32];
        organization.as_uuid().simple().encode_lower(&mut tag);
        Self { tag }
    }

    fn key(&self, suffix: u8) -> Vec<u8> {
        let mut key = Vec::with_capacity(40);
        // The digit is the layout's version: another layout is another store, which begins empty and is rebuilt.
        key.extend_from_slice(b"wq3:{");
        key.extend_from_slice(&self.tag);
        key.push(b'}');
        key.push(suffix);
        key
    }

    fn state(&self) -> Vec<u8> {
        self.key(b's')
    }

    fn leases(&self) -> Vec<u8> {
        self.key(b'l')
    }
}

/// The field of a concurrency limit's counter in the state.
fn concurrency_field(limit: LimitId, value: &Value) -> Vec<u8> {
    [b"c".as_slice(), &limit.to_le_bytes(), &value.field()].concat()
}

/// A reservation's field in the state, and its member of the leases if its record is there, too.
fn reservation_field(id: &ReservationId) -> [u8; 17] {
    let mut field = [b'r'; 17];
    field[1..].copy_from_slice(id.as_uuid().as_bytes());
    field
}

fn reservation_of(field: &[u8]) -> Option<ReservationId> {
    let bytes = field.strip_prefix(b"r")?;
    Some(Uuid::from_slice(bytes).ok()?.into())
}
