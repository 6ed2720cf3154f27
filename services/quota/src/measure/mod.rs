//! What the scripts cost, beside a bare `SET` on the same server: for benches, with the feature `measure`.
//!
//! Commands are packed beforehand and sent over plain connections, so that the client costs little of what is measured. A number of
//! calls in flight is one script call for reservations and commits, as the store sends those that wait for each other, and as many
//! `SET`s in one write.

mod crowd;
mod plan;
mod scene;
mod wire;

use std::time::Instant;

use weir_redis::redis::cmd;
use weir_redis::{Error, Redis};

use crate::storage::store::Failure;
pub use crowd::{Crowd, Crowded, measure_crowd};
use scene::Scene;

/// What is done again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A `SET` of a new key of 16 bytes to 16 bytes.
    Set,
    /// A reservation against six limits: of the organisation requests, tokens and calls under way, and money of a month; of the
    /// user money of a month; of the API key requests. Requests and tokens roll by the minute.
    Reserve,
    /// A longer lease.
    Extend,
    /// A commit of what was reserved.
    Commit,
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Of how many tenants, by turns.
    pub tenants: usize,
    /// How many calls went together.
    pub depth: usize,
    /// What.
    pub operation: Operation,
    /// How many a second, by the clock on the wall.
    pub rate: f64,
    /// Microseconds of the server's CPU for each.
    pub cpu_micros: f64,
}

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// How many tenants there are.
    pub tenants: usize,
    /// How many calls go together.
    pub depth: usize,
    /// How many of each operation; rounded to whole flights.
    pub count: usize,
}

/// Measures all operations in turn. The server's data is lost: it must be the caller's own.
///
/// `address` is the server's `host:port`, `redis` a connection to it.
///
/// # Errors
/// When the server does not answer, or refuses a command.
pub async fn measure(address: &str, redis: &Redis, effort: Effort) -> Result<Vec<Measured>, Failure> {
    let scene = Scene::new(redis.clone(), effort).await?;
    let mut measured = Vec::new();
    for (operation, commands) in [
        (Operation::Set, scene.sets()),
        (Operation::Reserve, scene.reserves()),
        (Operation::Extend, scene.extends()),
        (Operation::Commit, scene.commits()),
    ] {
        let before = cpu(redis).await?;
        let started = Instant::now();
        wire::run(address, commands).await.map_err(|error| Failure::Redis(Error::Internal(error.to_string())))?;
        let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu(redis).await? - before);
        let count = f64::from(u32::try_from(scene.count()).unwrap_or(u32::MAX));
        measured.push(Measured {
            tenants: effort.tenants,
            depth: effort.depth,
            operation,
            rate: count / seconds,
            cpu_micros: 1e6 * cpu / count,
        });
    }
    scene.check().await?;
    Ok(measured)
}

/// CPU seconds that the server's main thread has used: what a busy machine spoils least.
async fn cpu(redis: &Redis) -> Result<f64, Failure> {
    let info: String = redis.command(cmd("INFO").arg("cpu")).await?;
    let seconds = |key: &str| -> f64 {
        let value = info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
    };
    Ok(seconds("used_cpu_user_main_thread") + seconds("used_cpu_sys_main_thread"))
}
