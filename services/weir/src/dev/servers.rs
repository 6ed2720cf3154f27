//! Postgres and Redis: those that are configured, else private ones whose data is kept.

use std::path::{Path, PathBuf};

use weir_config::MasterKey;
use weir_launcher::{Account, Postgres, PostgresOptions, Redis, RedisOptions};

use crate::config::WeirConfig;
use crate::dev::home::Home;
use crate::failure::Failure;

/// Addresses that nobody configures: whoever still has them after loading gets a private server.
pub(crate) const DEFAULTS: &str =
    "[database]\nurl = \"postgres://private.invalid/weir\"\n[redis]\nurl = \"redis://private.invalid\"\n";
const PRIVATE_POSTGRES: &str = "postgres://private.invalid/weir";
const PRIVATE_REDIS: &str = "redis://private.invalid";

/// Where the data goes when the account that runs the servers cannot enter the checkout (a root's home, for instance).
const ELSEWHERE: &str = "/var/lib/weir-dev";

/// What was started; nothing if everything was configured.
#[derive(Debug)]
pub(crate) struct Servers {
    postgres: Option<Postgres>,
    redis: Option<Redis>,
    /// Whether anybody asks for a Redis.
    needs_redis: bool,
    /// Where their data lies.
    dir: PathBuf,
    /// Why it does not lie in the home.
    elsewhere: Option<String>,
}

impl Servers {
    pub(crate) async fn start(config: &WeirConfig, home: &Home, master: &MasterKey) -> Result<Self, Failure> {
        let failed = |error: weir_launcher::Error| Failure::unavailable("a private server did not start", &error);
        let (dir, elsewhere) = data_dir(home.path(), Account::for_servers().map_err(failed)?.as_ref(), master)?;
        let wants_postgres = config.database.url.expose() == PRIVATE_POSTGRES;
        let needs_redis = config.quota.store == weir_quota::config::StoreKind::Redis;
        let wants_redis = needs_redis && config.redis.url.expose() == PRIVATE_REDIS;
        let postgres = async {
            if !wants_postgres {
                return Ok(None);
            }
            let options =
                PostgresOptions { dir: Some(dir.join("postgres")), durable: true, ..PostgresOptions::default() };
            Postgres::start(options).await.map(Some)
        };
        let redis = async {
            if !wants_redis {
                return Ok(None);
            }
            let options = RedisOptions { dir: Some(dir.join("redis")), durable: true, ..RedisOptions::default() };
            Redis::start(options).await.map(Some)
        };
        let (postgres, redis) = tokio::join!(postgres, redis);
        let elsewhere = elsewhere.filter(|_| wants_postgres || wants_redis);
        Ok(Self { postgres: postgres.map_err(failed)?, redis: redis.map_err(failed)?, needs_redis, dir, elsewhere })
    }

    /// Their addresses as configuration.
    pub(crate) fn settings(&self) -> String {
        let postgres = self.postgres.as_ref().map(|server| format!("[database]\nurl = {:?}\n", server.admin_url()));
        let redis = self.redis.as_ref().map(|server| format!("[redis]\nurl = {:?}\n", server.admin_url()));
        postgres.unwrap_or_default() + &redis.unwrap_or_default()
    }

    /// What the screen says about the data.
    pub(crate) fn describe(&self) -> String {
        let kept = match (&self.postgres, &self.redis) {
            (Some(_), Some(_)) => "Postgres and Redis, kept between runs",
            (Some(_), None) if self.needs_redis => "Postgres, kept between runs; Redis is yours",
            (Some(_), None) => "Postgres, kept between runs",
            (None, Some(_)) => "Redis, kept between runs; Postgres is yours",
            (None, None) if self.needs_redis => return "your own Postgres and Redis".to_owned(),
            (None, None) => return "your own Postgres".to_owned(),
        };
        let why = self.elsewhere.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        format!("{}: {kept}{why}", self.dir.display())
    }

    pub(crate) async fn stop(self) -> Result<(), Failure> {
        let failed = |error: weir_launcher::Error| Failure::unavailable("a private server did not stop", &error);
        if let Some(redis) = self.redis {
            redis.stop().await.map_err(failed)?;
        }
        if let Some(postgres) = self.postgres {
            postgres.stop().await.map_err(failed)?;
        }
        Ok(())
    }
}

/// The home, or a place that the account can reach and that belongs to this home and this master key alone: what is in the
/// database is sealed with the key, so data outlives its home only in vain.
fn data_dir(home: &Path, account: Option<&Account>, master: &MasterKey) -> Result<(PathBuf, Option<String>), Failure> {
    let unusable = |error: std::io::Error| Failure::unavailable(&home.display().to_string(), &error);
    let home = home.canonicalize().map_err(unusable)?;
    match account {
        Some(account) if !account.can_reach(&home.join("postgres")) => {
            let name: String = home
                .to_string_lossy()
                .chars()
                .map(|character| if character.is_ascii_alphanumeric() { character } else { '-' })
                .collect();
            let why = format!("the account {} cannot enter {}", account.name(), home.display());
            let key = &master.derive_password("data-directory")[..8];
            Ok((Path::new(ELSEWHERE).join(format!("{}-{key}", name.trim_matches('-'))), Some(why)))
        }
        _ => Ok((home, None)),
    }
}
