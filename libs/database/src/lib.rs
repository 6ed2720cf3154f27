//! Postgres for Weir's services: pools, transactions with row-level security, migrations, and errors a caller can act on.
//!
//! Every transaction works behind PgBouncer in transaction mode: state is set by `SET LOCAL` only, and with
//! `statement_cache_capacity = 0` no transaction counts on a prepared statement of an earlier one. Only [`migrate`] needs a
//! session of its own.

mod config;
pub mod copy;
mod error;
mod migrate;
mod roles;
mod tls;
mod url;

use std::{future::Future, sync::Arc, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgPool, Postgres, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tracing::{debug, log::LevelFilter};
use weir_types::OrganizationId;

pub use crate::{
    config::{Config, DEFAULTS},
    error::Error,
    migrate::{Migration, migrate},
    url::service_url,
};

/// A connection that was used within this time is not asked whether it lives before it is handed out.
const FRESH: Duration = Duration::from_secs(1);
const SLOW_STATEMENT: Duration = Duration::from_secs(1);
/// The server's word that a statement took too long shall come first.
const SLACK: Duration = Duration::from_secs(1);

/// The name of the service's own role, which owns its schema.
pub fn role(service: &str) -> String {
    format!("weir_{service}")
}

/// The name of the role under which tenants' transactions run: row-level security holds for it.
pub fn tenant_role(service: &str) -> String {
    format!("weir_{service}_tenant")
}

/// A service's pool; clones share it.
#[derive(Clone)]
pub struct Database {
    pool: PgPool,
    begin: Arc<str>,
    become_tenant: Arc<str>,
    acquire_timeout: Duration,
    answer_timeout: Duration,
}

impl Database {
    /// Opens the pool. A server that can't be reached is no error: the pool connects when it is there, and
    /// [`ping`](Self::ping) tells. A refused login is one.
    pub async fn connect(config: &Config, service: &'static str) -> Result<Self, Error> {
        let options = connect_options(config.url.expose(), service)?
            .statement_cache_capacity(config.statement_cache_capacity)
            .log_slow_statements(LevelFilter::Warn, SLOW_STATEMENT);
        let pool = PgPoolOptions::new()
            .max_connections(config.max_connections)
            .min_connections(config.min_connections.min(config.max_connections))
            .acquire_timeout(config.acquire_timeout)
            .idle_timeout(config.idle_timeout)
            .max_lifetime(config.max_lifetime)
            // A round trip before every transaction would buy little: connections that idle are asked, and `begin` goes on to
            // the next connection when one turns out to be dead.
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > FRESH {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options);
        let database = Self {
            pool,
            begin: format!("BEGIN; {}", local_settings(config)).into(),
            become_tenant: format!("SET LOCAL ROLE {}; SET LOCAL weir.organization = ", tenant_role(service)).into(),
            acquire_timeout: config.acquire_timeout,
            answer_timeout: config.acquire_timeout + config.statement_timeout + SLACK,
        };
        match database.ping().await {
            Ok(()) | Err(Error::Unavailable(_)) => Ok(database),
            Err(error) => Err(error),
        }
    }

    /// Begins a transaction as the service's own role, which sees all tenants: for workers and audits.
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, Error> {
        self.within(async {
            let mut left = self.pool.options().get_max_connections();
            loop {
                match self.pool.begin_with(AssertSqlSafe(self.begin.to_string())).await {
                    // Nothing has happened on it yet, so a connection that died unnoticed costs only the next one's use. After
                    // a restart of the server that can be each of the pool.
                    Err(error) if left > 0 && is_dead(&error) => {
                        debug!(%error, "a pooled connection was dead");
                        left -= 1;
                    }
                    result => return Ok(result?),
                }
            }
        })
        .await
    }

    /// Begins a transaction in which only the organisation's rows exist, whatever the queries ask for.
    pub async fn begin_tenant(&self, organization: OrganizationId) -> Result<Transaction<'static, Postgres>, Error> {
        let mut transaction = self.begin().await?;
        // Not in one go with BEGIN: if the role can't be taken, the transaction must be there to be rolled back, or the pool
        // would get a connection inside a failed transaction.
        let statement = format!("{}'{}'", self.become_tenant, organization.as_uuid());
        transaction.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await?;
        Ok(transaction)
    }

    /// The pool, for single statements. They are bounded by the role's own statement timeout, and need a PgBouncer that tracks
    /// prepared statements (1.21 or newer) if there is one; in a transaction neither matters.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Whether the server answers.
    pub async fn ping(&self) -> Result<(), Error> {
        self.within(async { Ok(self.pool.acquire().await?.ping().await?) }).await
    }

    /// Closes all connections; waits for those in use.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Bounds work of a statement or two on this side as well. The server ends what takes long; of a server that stands still, or a
    /// network that swallows, only the own clock tells. What was sent may have been done.
    ///
    /// # Errors
    /// The work's own; [`Error::Unavailable`] when it has taken as long as getting a connection and running a statement may.
    pub fn bounded<T, E: From<Error>, W: Future<Output = Result<T, E>>>(
        &self,
        work: W,
    ) -> impl Future<Output = Result<T, E>> + use<T, E, W> {
        // A transaction's future is large, and few of those who hold one come to it.
        let work = tokio::time::timeout(self.answer_timeout, Box::pin(work));
        async move { work.await.unwrap_or_else(|_| Err(Error::unavailable("no answer in time".to_owned()).into())) }
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        match tokio::time::timeout(self.acquire_timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(Error::unavailable("no answer in time".to_owned())),
        }
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("size", &self.pool.size()).field("idle", &self.pool.num_idle()).finish()
    }
}

/// What every transaction begins with.
pub(crate) fn local_settings(config: &Config) -> String {
    let mut settings = format!("SET LOCAL statement_timeout = {}", config.statement_timeout.as_millis());
    if config.statement_cache_capacity == 0 {
        // The drivers give names even to statements that they don't keep. A pooler hands the server's connection on to clients
        // that give the same names; here, nobody counts on any.
        settings.push_str("; DEALLOCATE ALL");
    }
    settings
}

/// Whether the server has ended the connection: without a word, or with a last one (class 57P: shut down, crashed, idle).
fn is_dead(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code.starts_with("57P")),
        _ => false,
    }
}

pub(crate) fn connect_options(url: &str, service: &str) -> Result<PgConnectOptions, Error> {
    let options: PgConnectOptions =
        url.parse().map_err(|error: sqlx::Error| Error::internal(format!("database.url: {error}")))?;
    Ok(options
        .application_name(&format!("weir-{service}"))
        // PgBouncer refuses start-up parameters that it doesn't know.
        .extra_float_digits(None)
        .log_statements(LevelFilter::Off))
}
