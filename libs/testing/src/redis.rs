use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::{sync::Mutex, time::timeout};
use weir_launcher::RedisOptions;

use crate::{
    database::from_environment,
    docker::{self, RedisContainer},
};

/// The environment variable that names a Redis for tests. They share it, each with a database of its own.
pub const REDIS_URL: &str = "WEIR_TEST_REDIS_URL";

const SHARED: &str = "others use this server too: take `private_redis()` to kill or pause it";
const PATIENCE: Duration = Duration::from_secs(5);
/// A test that was killed keeps its database of a shared server for so long.
const CLAIM_SECONDS: u64 = 600;
/// The number of databases that Redis has unless configured otherwise.
const DATABASES: u64 = 16;

/// A Redis of the test's own.
pub struct RedisServer {
    url: String,
    server: Mutex<Server>,
}

enum Server {
    Local(Box<weir_launcher::Redis>),
    Docker(Box<RedisContainer>),
    /// A database of a shared server, freed by removing the claim in database 0.
    Shared,
}

/// An empty key space for the caller alone: a server of its own, or a database of the one that [`REDIS_URL`] names.
pub async fn redis() -> anyhow::Result<RedisServer> {
    match from_environment(REDIS_URL) {
        Some(url) => claim(&url).await,
        None => private_redis().await,
    }
}

/// A server for the caller alone, whatever the environment says: to be killed, paused or configured.
pub async fn private_redis() -> anyhow::Result<RedisServer> {
    if weir_launcher::Redis::is_installed() {
        let server = weir_launcher::Redis::start(RedisOptions::default()).await?;
        return Ok(RedisServer {
            url: server.admin_url().to_owned(),
            server: Mutex::new(Server::Local(Box::new(server))),
        });
    }
    let container = docker::redis().await.with_context(|| {
        format!(
            "tests need Redis 6.2 or newer: install it (apt-get install redis-server), run Docker, or set {REDIS_URL}"
        )
    })?;
    Ok(RedisServer { url: container.url().to_owned(), server: Mutex::new(Server::Docker(Box::new(container))) })
}

impl RedisServer {
    /// The connection URL; it stays the same after a restart.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `kill -9`. The data is lost.
    pub async fn kill(&self) -> anyhow::Result<()> {
        match &mut *self.server.lock().await {
            Server::Local(server) => {
                server.kill9();
                Ok(())
            }
            Server::Docker(container) => container.kill().await,
            Server::Shared => bail!("{SHARED}"),
        }
    }

    /// Starts again, empty.
    pub async fn restart(&self) -> anyhow::Result<()> {
        match &mut *self.server.lock().await {
            Server::Local(server) => Ok(server.restart().await?),
            Server::Docker(container) => container.restart().await,
            Server::Shared => bail!("{SHARED}"),
        }
    }

    /// Removes all keys of this test, and only those.
    pub async fn flush(&self) -> anyhow::Result<()> {
        self.send(&["FLUSHDB"]).await
    }

    /// Lets the server answer nobody for a while.
    pub async fn pause(&self, pause: Duration) -> anyhow::Result<()> {
        ensure!(!matches!(*self.server.lock().await, Server::Shared), SHARED);
        self.send(&["CLIENT", "PAUSE", &pause.as_millis().to_string(), "ALL"]).await
    }

    async fn send(&self, words: &[&str]) -> anyhow::Result<()> {
        let mut connection = connect(&self.url).await?;
        let mut command = redis::Cmd::new();
        command.arg(words);
        Ok(timeout(PATIENCE, command.query_async(&mut connection)).await??)
    }
}

/// Takes a database that no other test uses.
async fn claim(url: &str) -> anyhow::Result<RedisServer> {
    let mut zero = connect(&at(url, 0)?).await?;
    for _ in 0..600 {
        for number in 1..DATABASES {
            let mut set = redis::cmd("SET");
            set.arg(key(number)).arg(std::process::id()).arg("NX").arg("EX").arg(CLAIM_SECONDS);
            let got: Option<String> = timeout(PATIENCE, set.query_async(&mut zero)).await??;
            if got.is_some() {
                let server = RedisServer { url: at(url, number)?, server: Mutex::new(Server::Shared) };
                server.flush().await?;
                return Ok(server);
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("all databases of the shared Redis are in use for a minute")
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if !matches!(self.server.get_mut(), Server::Shared) {
            return;
        }
        let Ok(url) = url::Url::parse(&self.url) else { return };
        let Ok(number) = url.path().trim_start_matches('/').parse() else { return };
        let url = url.to_string();
        // A claim that can't be removed expires.
        let _ = std::thread::spawn(move || -> anyhow::Result<()> {
            let mut connection = redis::Client::open(at(&url, 0)?)?.get_connection_with_timeout(PATIENCE)?;
            Ok(redis::cmd("DEL").arg(key(number)).query(&mut connection)?)
        })
        .join();
    }
}

pub(crate) async fn connect(url: &str) -> anyhow::Result<redis::aio::MultiplexedConnection> {
    let client = redis::Client::open(url)?;
    // The client's own limits are too short for a busy machine: each use has one.
    let config = redis::AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    timeout(PATIENCE, client.get_multiplexed_async_connection_with_config(&config))
        .await
        .context("the test Redis does not answer")?
        .context("connecting to the test Redis")
}

fn at(url: &str, database: u64) -> anyhow::Result<String> {
    let mut url = url::Url::parse(url).context(REDIS_URL)?;
    url.set_path(&database.to_string());
    Ok(url.into())
}

fn key(database: u64) -> String {
    format!("weir-testing:database:{database}")
}
