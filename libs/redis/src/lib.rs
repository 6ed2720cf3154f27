//! Redis for Weir's services: multiplexed connections that come back by themselves, scripts, and a hard deadline on every call.
//!
//! A slow Redis is treated as a down Redis: no call takes longer than [`Config::deadline`], and while the server can't be
//! reached calls fail at once. Reconnecting happens in the background, with a capped backoff.

mod call;
mod cluster;
mod config;
mod error;
mod link;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use metrics::{Counter, Histogram, counter, histogram};
pub use redis::{self, FromRedisValue, Pipeline, Script, ToRedisArgs, Value};
use redis::{Client, Cmd, ErrorKind, ServerErrorKind, cluster::ClusterClient};
use tokio::{
    task::AbortHandle,
    time::{Instant, timeout_at},
};

use crate::{call::Call, cluster::Cluster, link::Link};
pub use crate::{
    config::{Config, DEFAULTS},
    error::Error,
};

/// How long [`Redis::connect`] waits for the first answer before it leaves connecting to the background.
const START_WAIT: Duration = Duration::from_secs(1);

/// A cheap handle; clones share the connections.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Backend,
    deadline: Duration,
    calls: Histogram,
    errors: Errors,
}

enum Backend {
    Links { links: Box<[Arc<Link>]>, next: AtomicUsize, supervisors: Box<[AbortHandle]> },
    Cluster(Box<Cluster>),
}

struct Errors {
    unavailable: Counter,
    timeout: Counter,
    script: Counter,
    internal: Counter,
}

impl Redis {
    /// Opens the connections. An unreachable server is no error: calls fail with [`Error::Unavailable`] until it is there.
    /// Waits at most a second for the first answer. Must be called within a tokio runtime.
    pub async fn connect(config: &Config) -> Result<Self, Error> {
        let backend = if config.cluster { cluster(config)? } else { links(config).await? };
        Ok(Self {
            inner: Arc::new(Inner {
                backend,
                deadline: config.deadline,
                calls: histogram!("weir_redis_call_seconds"),
                errors: Errors {
                    unavailable: counter!("weir_redis_errors_total", "kind" => "unavailable"),
                    timeout: counter!("weir_redis_errors_total", "kind" => "timeout"),
                    script: counter!("weir_redis_errors_total", "kind" => "script"),
                    internal: counter!("weir_redis_errors_total", "kind" => "internal"),
                },
            }),
        })
    }

    /// Runs a script by its hash; loads it first where the server does not know it (a restart, a fail-over, a flush).
    pub async fn run<T, K, A>(&self, script: &Script, keys: &[K], args: &[A]) -> Result<T, Error>
    where
        T: FromRedisValue,
        K: ToRedisArgs,
        A: ToRedisArgs,
    {
        // Sixteen bytes for each key and argument is a guess that saves most reallocations.
        let mut command = Cmd::with_capacity(3 + keys.len() + args.len(), 64 + 16 * (keys.len() + args.len()));
        command.arg("EVALSHA").arg(script.get_hash()).arg(keys.len());
        for key in keys {
            command.arg(key);
        }
        for arg in args {
            command.arg(arg);
        }
        let value = self.call(Call::Script(script, &command)).await?;
        Ok(redis::from_redis_value(value)?)
    }

    /// Sends one command.
    pub async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        let value = self.call(Call::Command(command)).await?;
        Ok(redis::from_redis_value(value)?)
    }

    /// Sends one command to every master of a cluster, and otherwise to the one server; the answers are in no order. Fails if one
    /// of them does not answer.
    pub async fn on_every_master<T: FromRedisValue>(&self, command: &Cmd) -> Result<Vec<T>, Error> {
        let value = self.call(Call::EveryMaster(command)).await?;
        let answers: Vec<T> = redis::from_redis_value(value)?;
        // The driver leaves out nodes that it has no connection to.
        if self.is_cluster() && answers.len() < self.masters().await? {
            return Err(Error::Unavailable);
        }
        Ok(answers)
    }

    /// How many masters have slots, by what one of them says.
    async fn masters(&self) -> Result<usize, Error> {
        let info: String = self.command(redis::cmd("CLUSTER").arg("INFO")).await?;
        let size = info.lines().find_map(|line| line.strip_prefix("cluster_size:")?.trim().parse().ok());
        size.ok_or_else(|| Error::Internal("CLUSTER INFO says no cluster_size".to_owned()))
    }

    /// Sends a pipeline and returns the answers in order, without those that the pipeline ignores. The first error of any of
    /// its commands is the error of the whole call, although the others were executed (unless the pipeline is atomic).
    pub async fn pipeline(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Error> {
        match self.call(Call::Pipeline(pipeline)).await? {
            Value::Array(values) => Ok(values),
            other => Ok(vec![other]),
        }
    }

    /// Loads a script on the server, for pipelines that contain `EVALSHA` themselves.
    pub async fn load(&self, script: &Script) -> Result<(), Error> {
        self.call(Call::Load(script)).await.map(drop)
    }

    /// Asks every connection for an answer.
    pub async fn ping(&self) -> Result<(), Error> {
        let rounds = match &self.inner.backend {
            Backend::Links { links, .. } => links.len(),
            Backend::Cluster(_) => 1,
        };
        for _ in 0..rounds {
            self.call(Call::Command(&redis::cmd("PING"))).await?;
        }
        Ok(())
    }

    /// Whether it is a Redis Cluster: then keys of one command must be in one slot.
    pub fn is_cluster(&self) -> bool {
        matches!(&self.inner.backend, Backend::Cluster(_))
    }

    /// How long a call may take.
    pub fn deadline(&self) -> Duration {
        self.inner.deadline
    }

    /// Whether every connection is up, by what is known without asking; for gauges and readiness, not for decisions.
    pub fn is_up(&self) -> bool {
        match &self.inner.backend {
            Backend::Links { links, .. } => links.iter().all(|link| link.is_up()),
            Backend::Cluster(_) => true,
        }
    }

    async fn call(&self, call: Call<'_>) -> Result<Value, Error> {
        let inner = &*self.inner;
        let started = Instant::now();
        let until = started + inner.deadline;
        let result = match &inner.backend {
            Backend::Links { links, next, .. } => {
                let link = &links[next.fetch_add(1, Ordering::Relaxed) % links.len()];
                call_link(link, call, until).await
            }
            Backend::Cluster(cluster) => call_cluster(cluster, call, until).await,
        };
        inner.calls.record(started.elapsed().as_secs_f64());
        if let Err(error) = &result {
            inner.errors.count(error);
            // A caller that tries again at once must not keep the supervisor from running on a runtime of one thread.
            tokio::task::yield_now().await;
        }
        result
    }
}

async fn call_link(link: &Link, call: Call<'_>, until: Instant) -> Result<Value, Error> {
    let Ok(live) = timeout_at(until, link.live()).await else {
        return Err(Error::Unavailable);
    };
    let mut live = live?;
    match timeout_at(until, call.on_connection(&mut live.connection)).await {
        Ok(Ok(value)) => {
            link.answered(&live);
            Ok(value)
        }
        Ok(Err(error)) => {
            // A server that turned into a replica is left, too: its name may lead to the new primary.
            let demoted = error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
            if error.is_unrecoverable_error() || demoted {
                link.broke(&live);
            } else {
                link.answered(&live);
            }
            Err(error.into())
        }
        Err(_) => {
            link.timed_out(&live);
            Err(Error::Timeout)
        }
    }
}

async fn call_cluster(cluster: &Cluster, call: Call<'_>, until: Instant) -> Result<Value, Error> {
    let mut connection = cluster.connection();
    match timeout_at(until, call.on_cluster(&mut connection)).await {
        Ok(Ok(value)) => {
            cluster.answered();
            Ok(value)
        }
        Ok(Err(error)) => {
            // A refusal is an answer, too.
            if matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) {
                cluster.answered();
            } else {
                cluster.silent();
            }
            Err(error.into())
        }
        Err(_) => {
            cluster.silent();
            Err(Error::Timeout)
        }
    }
}

async fn links(config: &Config) -> Result<Backend, Error> {
    let client = Client::open(config.url.expose()).map_err(|error| Error::Internal(error.to_string()))?;
    let links: Box<[_]> = (0..config.connections.max(1)).map(|_| Arc::new(Link::new())).collect();
    let supervisors = links
        .iter()
        .enumerate()
        .map(|(index, link)| tokio::spawn(link.clone().supervise(client.clone(), index)).abort_handle())
        .collect();
    let until = Instant::now() + START_WAIT;
    for link in &links {
        // A server that does not even refuse must not hold up the start.
        if timeout_at(until, link.settled()).await.is_err() {
            break;
        }
    }
    Ok(Backend::Links { links, next: AtomicUsize::new(0), supervisors })
}

fn cluster(config: &Config) -> Result<Backend, Error> {
    let client = ClusterClient::builder(config.nodes())
        .connection_timeout(START_WAIT)
        .response_timeout(config.deadline)
        .build()
        .map_err(|error| Error::Internal(error.to_string()))?;
    Ok(Backend::Cluster(Box::new(Cluster::new(client))))
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Backend::Links { supervisors, .. } = &self.backend {
            for supervisor in supervisors {
                supervisor.abort();
            }
        }
    }
}

impl Errors {
    fn count(&self, error: &Error) {
        match error {
            Error::Unavailable => &self.unavailable,
            Error::Timeout => &self.timeout,
            Error::Script(_) => &self.script,
            Error::Internal(_) => &self.internal,
        }
        .increment(1);
    }
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").field("up", &self.is_up()).finish_non_exhaustive()
    }
}
