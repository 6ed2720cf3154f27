//! One multiplexed connection that is always there, or known to be down.
//!
//! Callers read its state without a lock; only the supervisor task connects and publishes. So a dead server costs callers
//! nothing, and nobody has to restart anything when it is back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use redis::{AsyncConnectionConfig, Client, RedisError, aio::MultiplexedConnection};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info, warn};

use crate::Error;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// How often an otherwise unused connection is asked whether it still lives.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A connection on which every call timed out for this long is replaced: the peer may be gone without a word.
const SILENCE_MAX_MILLIS: u64 = 500;
/// Commands that may wait to be written; beyond it callers wait, bounded by their deadline.
const WRITE_BUFFER: usize = 1024;

pub(crate) struct Link {
    state: ArcSwap<State>,
    changed: Notify,
    /// The highest generation that callers found broken.
    lost: AtomicU64,
    wake: Notify,
    started: Instant,
}

enum State {
    /// The first attempt, at start or after a loss, is under way: waiting for it (within the deadline) is worth it.
    Connecting,
    Up(Live),
    /// Attempts fail: callers fail at once.
    Down,
}

#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) connection: MultiplexedConnection,
    generation: u64,
    /// Milliseconds (since the link's start, never 0) of the first of a row of timeouts; 0 when the last call was answered.
    silent_since: Arc<AtomicU64>,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self {
            state: ArcSwap::from_pointee(State::Connecting),
            changed: Notify::new(),
            lost: AtomicU64::new(0),
            wake: Notify::new(),
            started: Instant::now(),
        }
    }

    /// The live connection, or why there is none. Waits only while the first attempt to connect is under way.
    pub(crate) async fn live(&self) -> Result<Live, Error> {
        loop {
            if let State::Up(live) = &**self.state.load() {
                return Ok(live.clone());
            }
            let changed = self.changed.notified();
            // Registered before the state is read, or a change in between would be missed.
            tokio::pin!(changed);
            changed.as_mut().enable();
            match &**self.state.load() {
                State::Up(live) => return Ok(live.clone()),
                State::Down => return Err(Error::Unavailable),
                State::Connecting => {}
            }
            changed.await;
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(&**self.state.load(), State::Up(_))
    }

    /// Waits until the first attempt to connect is over, however it ended.
    pub(crate) async fn settled(&self) {
        // Either answer means that the attempt is over.
        let _ = self.live().await;
    }

    pub(crate) fn answered(&self, live: &Live) {
        if live.silent_since.load(Ordering::Relaxed) != 0 {
            live.silent_since.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn timed_out(&self, live: &Live) {
        let now = self.millis();
        match live.silent_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => {}
            Err(since) if now.saturating_sub(since) > SILENCE_MAX_MILLIS => self.broke(live),
            Err(_) => {}
        }
    }

    /// Tells the supervisor that this connection is of no use any more.
    pub(crate) fn broke(&self, live: &Live) {
        // Many callers find the same connection broken; the first one wakes the supervisor.
        if self.lost.fetch_max(live.generation, Ordering::AcqRel) < live.generation {
            self.wake.notify_one();
        }
    }

    fn publish(&self, state: State) {
        self.state.store(Arc::new(state));
        self.changed.notify_waiters();
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// Keeps the link connected until the task is aborted.
    pub(crate) async fn supervise(self: Arc<Self>, client: Client, index: usize) {
        let mut generation = 0;
        let mut backoff = Backoff::new(index);
        let mut failing = false;
        loop {
            match connect(&client).await {
                Ok(connection) => {
                    generation += 1;
                    if failing || generation > 1 {
                        info!(connection = index, "redis is connected again");
                    }
                    failing = false;
                    backoff.reset();
                    let live = Live { connection, generation, silent_since: Arc::default() };
                    self.publish(State::Up(live.clone()));
                    let why = self.watch(live).await;
                    warn!(connection = index, error = why, "redis connection lost");
                    self.publish(State::Connecting);
                }
                Err(error) => {
                    // Once per outage: the callers' failures are counted, not logged.
                    if !failing {
                        warn!(connection = index, %error, "redis is unavailable, connecting again in the background");
                    }
                    failing = true;
                    debug!(connection = index, %error, "redis connect failed");
                    self.publish(State::Down);
                    sleep(backoff.next()).await;
                }
            }
        }
    }

    /// Returns when the connection is lost, and why.
    async fn watch(&self, live: Live) -> &'static str {
        loop {
            if self.lost.load(Ordering::Acquire) >= live.generation {
                return "a call found it broken or silent";
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = sleep(HEARTBEAT) => match timeout(HEARTBEAT, ping(live.connection.clone())).await {
                    Ok(Ok(())) => self.answered(&live),
                    Ok(Err(error)) if error.is_unrecoverable_error() => return "the heartbeat found it broken",
                    // An answer, if an unwelcome one (for example "loading"): the connection itself works.
                    Ok(Err(_)) => {}
                    Err(_) => return "the heartbeat was not answered",
                },
            }
        }
    }
}

async fn connect(client: &Client) -> Result<MultiplexedConnection, RedisError> {
    // Deadlines are kept by the callers, around everything that a call does: one timer each, not two.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(None)
        .set_pipeline_buffer_size(WRITE_BUFFER);
    let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    // A paused server accepts connections, too: it is up when it answers.
    match timeout(CONNECT_TIMEOUT, ping(connection.clone())).await {
        Ok(answer) => answer.map(|()| connection),
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

async fn ping(mut connection: MultiplexedConnection) -> Result<(), RedisError> {
    redis::cmd("PING").query_async(&mut connection).await
}

/// Doubling waits with a cap, spread so that many processes don't return in step.
struct Backoff {
    wait: Duration,
    seed: u64,
}

impl Backoff {
    fn new(index: usize) -> Self {
        Self { wait: BACKOFF_MIN, seed: u64::from(std::process::id()) ^ ((index as u64) << 32) | 1 }
    }

    fn reset(&mut self) {
        self.wait = BACKOFF_MIN;
    }

    fn next(&mut self) -> Duration {
        // xorshift: a spread is all that is needed here.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let percent = u32::try_from(self.seed % 50).unwrap_or(0) + 75;
        let wait = self.wait * percent / 100;
        self.wait = (self.wait * 2).min(BACKOFF_MAX);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_start_small_again() {
        let mut backoff = Backoff::new(0);
        let waits: Vec<_> = (0..20).map(|_| backoff.next()).collect();
        assert!(waits[0] <= BACKOFF_MIN * 2);
        assert!(waits[19] >= BACKOFF_MAX / 2);
        assert!(waits.iter().all(|wait| *wait <= BACKOFF_MAX * 5 / 4));
        backoff.reset();
        assert!(backoff.next() <= BACKOFF_MIN * 2);
    }
}
