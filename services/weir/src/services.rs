//! The services that this executable consists of.

use clap::ValueEnum;
use weir_database::{Database, Migration};
use weir_host::{Context, Service, StartError};
use weir_quota::config::StoreKind;
use weir_redis::Redis;

use crate::config::WeirConfig;
use crate::reload::Source;

/// What can be asked to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    Auth,
    Usage,
    Billing,
    Quota,
    AiBroker,
    Facade,
    /// Every one of them.
    All,
}

/// In the order in which they need each other; they end in the opposite one.
const ORDER: [Name; 6] = [Name::Auth, Name::Usage, Name::Billing, Name::Quota, Name::AiBroker, Name::Facade];

/// The schemas of all services.
pub(crate) const MIGRATIONS: [Migration; 5] = [
    weir_auth::MIGRATION,
    weir_usage::MIGRATION,
    weir_billing::MIGRATION,
    weir_quota::MIGRATION,
    weir_ai_broker::MIGRATION,
];

impl Name {
    /// The services that were asked for, each once, in the order in which they start.
    pub(crate) fn chosen(asked: &[Self]) -> Vec<Self> {
        ORDER.into_iter().filter(|name| asked.contains(name) || asked.contains(&Self::All)).collect()
    }

    /// As the directory, tokens and metrics call it.
    pub(crate) fn service(self) -> &'static str {
        match self {
            Self::Auth => weir_auth::NAME,
            Self::Usage => weir_usage::NAME,
            Self::Billing => weir_billing::NAME,
            Self::Quota => weir_quota::NAME,
            Self::AiBroker => weir_ai_broker::NAME,
            Self::Facade => weir_facade::NAME,
            Self::All => "weir",
        }
    }

    /// As Postgres calls it: its schema, and its role without the prefix.
    fn schema(self) -> &'static str {
        match self {
            Self::AiBroker => weir_ai_broker::SCHEMA,
            _ => self.service(),
        }
    }

    /// Starts the service, each under its own database role.
    pub(crate) async fn start(
        self,
        config: &WeirConfig,
        source: &Source,
        context: &Context,
    ) -> Result<Service, StartError> {
        let config = config.clone();
        match self {
            Self::Auth => {
                weir_auth::start(config.auth, database(&config.database, self, context).await?, context).await
            }
            Self::Usage => {
                let database = own_role(&config.database, self, context);
                weir_usage::start(config.usage, &database, context).await
            }
            Self::Billing => {
                weir_billing::start(config.billing, database(&config.database, self, context).await?, context).await
            }
            Self::Quota => {
                let database = database(&config.database, self, context).await?;
                weir_quota::start(config.quota, database, &config.redis, context).await
            }
            Self::AiBroker => {
                let redis = match config.quota.store {
                    StoreKind::Redis => {
                        Some(Redis::connect(&config.redis).await.map_err(|error| StartError::new("Redis", error))?)
                    }
                    // A deployment without a Redis.
                    StoreKind::Memory => None,
                };
                let database = database(&config.database, self, context).await?;
                let (follower, changes) = source.follow(config.broker.clone());
                context.tasks.spawn(follower.run(context.shutdown.clone()));
                weir_ai_broker::start(config.broker, database, redis, changes, context).await
            }
            Self::Facade => weir_facade::start(config.facade, context).await,
            Self::All => Err(StartError::new("services", "`all` is no service of its own")),
        }
    }
}

/// The database's configuration with the service's own role and password in its URL.
fn own_role(config: &weir_database::Config, name: Name, context: &Context) -> weir_database::Config {
    let url = weir_database::service_url(&config.url, &context.master, name.schema());
    weir_database::Config { url, ..config.clone() }
}

async fn database(config: &weir_database::Config, name: Name, context: &Context) -> Result<Database, StartError> {
    let config = own_role(config, name, context);
    Database::connect(&config, name.schema()).await.map_err(|error| StartError::new("connecting to Postgres", error))
}
