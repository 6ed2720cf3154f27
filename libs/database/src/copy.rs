//! A pool of `tokio-postgres` connections, for what sqlx has not: binary `COPY` and pipelined statements.

use std::sync::Arc;

pub use deadpool_postgres;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime, Transaction};
pub use tokio_postgres;
use tokio_postgres::config::SslMode;

use crate::{Config, Error, local_settings, tls};

/// Opens a pool with the same configuration as the service's other pool. It connects when it is used, and waits no longer than
/// `acquire_timeout` for a connection.
pub fn deadpool(config: &Config, service: &str) -> Result<Pool, Error> {
    let (mut options, tls) =
        parse(config.url.expose()).map_err(|error| Error::internal(format!("database.url: {error}")))?;
    options.application_name(format!("weir-{service}-copy")).connect_timeout(config.acquire_timeout);
    // A lost connection is noticed when it is taken from the pool; a check before each use would cost a round trip.
    let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(options, tls::Connector::new(&tls).map_err(Error::internal)?, manager_config);
    Pool::builder(manager)
        .max_size(config.max_connections as usize)
        .wait_timeout(Some(config.acquire_timeout))
        .create_timeout(Some(config.acquire_timeout))
        .recycle_timeout(Some(config.acquire_timeout))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| Error::internal(error.to_string()))
}

/// Begins a transaction with the same settings as the service's other transactions.
pub async fn begin<'a>(connection: &'a mut Object, config: &Config) -> Result<Transaction<'a>, Error> {
    let transaction = connection.transaction().await?;
    transaction.batch_execute(&local_settings(config)).await?;
    Ok(transaction)
}

/// Splits what this driver reads itself from what it leaves to its TLS connector.
pub(crate) fn parse(text: &str) -> Result<(tokio_postgres::Config, tls::Options), String> {
    let mut url = url::Url::parse(text).map_err(|error| error.to_string())?;
    let mut mode = SslMode::Prefer;
    let mut options = tls::Options::default();
    let mut kept = Vec::new();
    for (name, value) in url.query_pairs() {
        match &*name {
            "sslmode" | "ssl-mode" => match &*value {
                "disable" => mode = SslMode::Disable,
                "allow" | "prefer" => mode = SslMode::Prefer,
                "require" => mode = SslMode::Require,
                "verify-ca" | "verify-full" => {
                    mode = SslMode::Require;
                    options.verify = true;
                }
                _ => return Err("sslmode must be disable, allow, prefer, require, verify-ca or verify-full".to_owned()),
            },
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" => options.root_certificate = Some(Arc::from(&*value)),
            "sslcert" | "ssl-cert" | "sslkey" | "ssl-key" => {
                return Err("client certificates are not supported".to_owned());
            }
            "statement-cache-capacity" => return Err("statement_cache_capacity has its own key".to_owned()),
            _ => kept.push((name.into_owned(), value.into_owned())),
        }
    }
    if kept.is_empty() {
        url.set_query(None);
    } else {
        url.query_pairs_mut().clear().extend_pairs(kept);
    }
    let mut config: tokio_postgres::Config = url.as_str().parse().map_err(|error| describe(&error))?;
    config.ssl_mode(mode);
    Ok((config, options))
}

/// The driver names only the part of a connection string that is wrong, not its value.
fn describe(error: &tokio_postgres::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}
