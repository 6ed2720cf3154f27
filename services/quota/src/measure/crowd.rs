//! Many users, each with counters of its own: what they take in memory, and whether one of so many costs more than one of few.

use std::time::Duration;

use weir_redis::redis::cmd;
use weir_redis::{Error, Redis};
use weir_types::OrganizationId;

use super::plan::subject_of;
use super::scene::Scene;
use super::{cpu, wire};
use crate::storage::store::Failure;

/// How many there are, and what they do.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    /// Users, each with an API key: a month's budget of the one, a minute's requests of the other.
    pub users: usize,
    /// Organisations that they are spread over.
    pub organizations: usize,
    /// How many of them reserve and commit, 64 of an organisation at once; rounded to that.
    pub busy: usize,
    /// How many reserve one after the other.
    pub alone: usize,
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Crowded {
    /// Bytes of Redis for each counter of somebody who does nothing.
    pub idle_bytes: f64,
    /// Bytes for each counter of somebody who has called in three seconds of the last minute.
    pub active_bytes: f64,
    /// Microseconds of Redis' CPU for a reservation, 64 at once, each of another user.
    pub reserve_micros: f64,
    /// The same for a commit.
    pub commit_micros: f64,
    /// Microseconds of Redis' CPU for a reservation alone.
    pub alone_micros: f64,
    /// How long one takes alone, there and back, in microseconds: half of them, and 99 of 100, are faster.
    pub latency_micros: [f64; 2],
}

const AT_ONCE: usize = 64;
/// Counters of a user: the budget, and the API key's requests.
const COUNTERS: f64 = 2.0;
/// Reservations end so soon that nothing is left of them where memory is told.
const LEASE: Duration = Duration::from_secs(1);
/// In how many seconds a user calls before it counts as active.
const CALLS: usize = 3;

/// Fills a Redis with users and lets some of them reserve. The server's data is lost: it must be the caller's own.
///
/// `address` is the server's `host:port`, `redis` a connection to it.
///
/// # Errors
/// When the server does not answer, or refuses a command.
pub async fn measure_crowd(address: &str, redis: &Redis, crowd: Crowd) -> Result<Crowded, Failure> {
    let before = Scene::empty(redis.clone()).await?;
    let organizations = before.organizations(crowd.organizations, crowd.users / crowd.organizations).await?;
    let empty = memory(redis).await?;
    for (number, organization) in organizations.iter().enumerate() {
        fill(redis, organization, members(crowd, number)).await?;
    }
    let full = memory(redis).await?;

    let callers = turns(crowd, crowd.busy.min(crowd.users), AT_ONCE);
    let calling = before.clone().with(&organizations, &callers, AT_ONCE, LEASE);
    for _ in 0..CALLS {
        let scene = before.clone().with(&organizations, &callers, AT_ONCE, LEASE);
        spend(address, redis, scene.reserves()).await?;
        spend(address, redis, scene.commits()).await?;
        // The next call is in another second.
        tokio::time::sleep(2 * LEASE).await;
    }
    // What was kept for these leases, and the marks of what has ended, are no counters.
    calling.sweep().await?;
    let active = memory(redis).await?;

    let busy = turns(crowd, crowd.busy, AT_ONCE);
    let scene = before.clone().with(&organizations, &busy, AT_ONCE, LEASE);
    let reserving = spend(address, redis, scene.reserves()).await?;
    let committing = spend(address, redis, scene.commits()).await?;
    let alone = turns(crowd, crowd.alone, 1);
    let flights = before.clone().with(&organizations, &alone, 1, LEASE).reserves();
    let started = cpu(redis).await?;
    let mut times = wire::times(address, flights).await.map_err(failure)?;
    let alone_micros = 1e6 * (cpu(redis).await? - started) / float(times.len());
    times.sort_unstable();
    let percentile =
        |percent: usize| times.get(times.len() * percent / 100).map_or(0.0, |time| 1e6 * time.as_secs_f64());
    let idle_bytes = (full - empty) / (COUNTERS * float(crowd.users));
    Ok(Crowded {
        idle_bytes,
        active_bytes: idle_bytes + (active - full) / (COUNTERS * float(callers.len().min(crowd.users))),
        reserve_micros: 1e6 * reserving / float(busy.len()),
        commit_micros: 1e6 * committing / float(busy.len()),
        alone_micros,
        latency_micros: [percentile(50), percentile(99)],
    })
}

/// The users of an organisation.
fn members(crowd: Crowd, organization: usize) -> std::ops::Range<usize> {
    let each = crowd.users / crowd.organizations;
    organization * each..(organization + 1) * each
}

/// Who calls: organisation by organisation, so many of each at once, all over the place.
fn turns(crowd: Crowd, count: usize, at_once: usize) -> Vec<(usize, usize)> {
    let flights = count.div_ceil(at_once);
    let users = crowd.users / crowd.organizations;
    let place = |number: usize| (number % crowd.organizations, number / crowd.organizations);
    let flight = |number| {
        let (organization, round) = place(number);
        (0..at_once).map(move |seat| {
            // A prime far from every count: no user twice before all of an organisation have had their turn.
            let member = ((round * at_once + seat) * 7_368_787) % users;
            (organization, organization * users + member)
        })
    };
    (0..flights).flat_map(flight).collect()
}

/// Gives users the counters that a first of them has.
async fn fill(redis: &Redis, organization: &OrganizationId, users: std::ops::Range<usize>) -> Result<(), Failure> {
    const AT_ONCE: usize = 1_000;
    let key = format!("wq3:{{{}}}s", organization.as_uuid().simple());
    let first = subject_of(*organization, users.start);
    let mut values: Vec<Vec<u8>> = Vec::new();
    for value in &first.values {
        values.push(redis.command(cmd("HGET").arg(&key).arg(value.field())).await?);
    }
    let users: Vec<usize> = users.collect();
    for users in users.chunks(AT_ONCE) {
        let mut command = cmd("HSET");
        command.arg(&key);
        for user in users {
            for (value, bytes) in subject_of(*organization, *user).values.iter().zip(&values) {
                command.arg(value.field()).arg(bytes);
            }
        }
        redis.command::<()>(&command).await?;
    }
    settle(redis, &key, 2 * users.len()).await
}

/// A hash that has grown moves to its new table a little with each command. Until it has, it takes the room of both.
async fn settle(redis: &Redis, key: &str, fields: usize) -> Result<(), Failure> {
    let mut command = cmd("EVAL");
    command.arg("for _ = 1, ARGV[1] do redis.call('HEXISTS', KEYS[1], '') end").arg(1).arg(key).arg(fields);
    redis.command::<()>(&command).await?;
    Ok(())
}

/// CPU seconds of Redis for these.
async fn spend(address: &str, redis: &Redis, flights: Vec<wire::Flight>) -> Result<f64, Failure> {
    let before = cpu(redis).await?;
    wire::run(address, flights).await.map_err(failure)?;
    Ok(cpu(redis).await? - before)
}

/// Bytes that Redis has allocated.
async fn memory(redis: &Redis) -> Result<f64, Failure> {
    let info: String = redis.command(cmd("INFO").arg("memory")).await?;
    let bytes = info.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok());
    bytes.ok_or_else(|| Failure::Redis(Error::Internal("INFO says no used_memory".to_owned())))
}

fn failure(error: std::io::Error) -> Failure {
    Failure::Redis(Error::Internal(error.to_string()))
}

fn float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}
