use anyhow::Context as _;
use tokio::sync::{Mutex, OnceCell};
use weir_launcher::PostgresOptions;

use crate::docker;

/// The environment variable that names a Postgres for tests: a superuser's URL.
pub const POSTGRES_URL: &str = "WEIR_TEST_POSTGRES_URL";

/// The server that all tests of this process share.
pub struct Postgres {
    url: String,
    // Held for its life: it ends with the process.
    _server: Option<weir_launcher::Postgres>,
}

impl Postgres {
    /// The superuser's URL.
    pub fn url(&self) -> &str {
        &self.url
    }
}

static SHARED: OnceCell<Postgres> = OnceCell::const_new();

/// The shared server; started by the first call.
pub async fn postgres() -> anyhow::Result<&'static Postgres> {
    SHARED
        .get_or_try_init(|| async {
            if let Some(url) = crate::database::from_environment(POSTGRES_URL) {
                return Ok(Postgres { url, _server: None });
            }
            if weir_launcher::Postgres::is_installed() {
                let server = weir_launcher::Postgres::start(PostgresOptions::default()).await?;
                return Ok(Postgres { url: server.admin_url().to_owned(), _server: Some(server) });
            }
            let url = docker::shared_postgres().await.with_context(|| {
                format!(
                    "tests need Postgres 14 or newer: install it (apt-get install postgresql), run Docker, or set {POSTGRES_URL}"
                )
            })?;
            Ok(Postgres { url, _server: None })
        })
        .await
}

/// A Postgres of the test's own, for tests that kill it. Needs programs on this machine: a container's process can't be killed
/// and started again on the same data in the same way.
pub struct PostgresServer {
    url: String,
    server: Mutex<weir_launcher::Postgres>,
}

impl PostgresServer {
    /// Starts a server that keeps what it acknowledged when it is killed.
    pub async fn start() -> anyhow::Result<Self> {
        let options = PostgresOptions { durable: true, ..PostgresOptions::default() };
        let server = weir_launcher::Postgres::start(options)
            .await
            .context("a test that kills Postgres needs its programs on this machine")?;
        Ok(Self { url: server.admin_url().to_owned(), server: Mutex::new(server) })
    }

    /// The superuser's URL; it stays the same after a restart.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `kill -9`.
    pub async fn kill9(&self) {
        self.server.lock().await.kill9();
    }

    /// Starts again with the same data.
    pub async fn restart(&self) -> anyhow::Result<()> {
        Ok(self.server.lock().await.restart().await?)
    }
}
