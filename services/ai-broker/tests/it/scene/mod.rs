//! A broker, its siblings and a provider, ready to be asked.

mod calls;
mod config;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_ai_broker::{ACCESS, Config};
use weir_config::Secret;
use weir_database::Database;
use weir_host::{Channels, Context};
use weir_proto::billing::v1::billing_service_server::BillingServiceServer;
use weir_proto::broker::v1::broker_service_client::BrokerServiceClient;
use weir_proto::broker::v1::cache_service_client::CacheServiceClient;
use weir_proto::broker::v1::job_service_client::JobServiceClient;
use weir_proto::broker::v1::provider_key_service_client::ProviderKeyServiceClient;
use weir_proto::broker::v1::result_service_client::ResultServiceClient;
use weir_proto::quota::v1::quota_service_server::QuotaServiceServer;
use weir_proto::usage::v1::UsageEvent;
use weir_proto::usage::v1::usage_service_server::UsageServiceServer;
use weir_redis::Redis;
use weir_rpc::testing::Deployment;
use weir_rpc::{Access, Bearer, Channel, Routes};
use weir_simulator::{Options, Simulator};
use weir_testing::RedisServer;
use weir_types::{ApiKeyId, OrganizationId, Scope, SystemClock, UserId};

use crate::siblings::{FakeBilling, FakeQuota, FakeUsage, Siblings};

pub(crate) use calls::{chat, streamed};
pub(crate) use config::try_load;
use config::{config, load, text};

const QUOTA: &[(&str, Access)] = &[
    ("/weir.quota.v1.QuotaService/Reserve", Access::Services(&["ai-broker"])),
    ("/weir.quota.v1.QuotaService/Extend", Access::Services(&["ai-broker"])),
    ("/weir.quota.v1.QuotaService/BatchSettle", Access::Services(&["ai-broker"])),
    ("/weir.quota.v1.QuotaService/TakeOver", Access::Services(&["ai-broker"])),
];
const USAGE: &[(&str, Access)] = &[("/weir.usage.v1.UsageService/RecordEvents", Access::Services(&["ai-broker"]))];
const BILLING: &[(&str, Access)] = &[
    ("/weir.billing.v1.BillingService/GetEntitlements", Access::Services(&["ai-broker"])),
    ("/weir.billing.v1.BillingService/WatchEntitlements", Access::Services(&["ai-broker"])),
    ("/weir.billing.v1.BillingService/GetPriceBook", Access::Services(&["ai-broker"])),
];

pub(crate) struct Scene {
    pub(crate) siblings: Arc<Siblings>,
    pub(crate) provider: Arc<Simulator>,
    pub(crate) broker: BrokerServiceClient<Channel>,
    operator: BrokerServiceClient<Channel>,
    pub(crate) jobs: JobServiceClient<Channel>,
    pub(crate) results: ResultServiceClient<Channel>,
    pub(crate) cache: CacheServiceClient<Channel>,
    pub(crate) keys: ProviderKeyServiceClient<Channel>,
    pub(crate) database: Database,
    pub(crate) organization: OrganizationId,
    pub(crate) bearer: Bearer,
    /// Another organisation.
    pub(crate) strange: OrganizationId,
    pub(crate) stranger: Bearer,
    context: Context,
    configs: watch::Sender<Config>,
    deployment: Deployment,
}

impl Scene {
    /// With one key.
    pub(crate) async fn new() -> Self {
        Self::with(&["sk-one"], "").await
    }

    /// With these keys, and `settings` in the section `[broker]`.
    pub(crate) async fn with(keys: &[&str], settings: &str) -> Self {
        Self::set(keys, settings, &["*"]).await
    }

    /// With a plan of these models.
    pub(crate) async fn of_plan(models: &[&str]) -> Self {
        Self::set(&["sk-one"], "", models).await
    }

    /// With a provider that serves calls that name no `service_tier` in this one.
    pub(crate) async fn of_project(service_tier: &str) -> Self {
        let provider = Arc::new(Simulator::start(Options::default()).await.unwrap());
        let list = "price_list = \"simulated\"\n";
        let text = text(&provider.base_url(), &["sk-one"], "", "0s");
        let config = load(&text.replace(list, &format!("{list}service_tier = \"{service_tier}\"\n")));
        Self::start(provider, None, None, config, &["*"]).await
    }

    /// With one key of so many requests per second, and calls that wait for it for so long.
    pub(crate) async fn narrow(requests: u32, max_wait: &str, settings: &str) -> Self {
        let options = Options {
            api_keys: vec![weir_simulator::ApiKey::limited("sk-one", requests)],
            rate_window: Duration::from_secs(1),
            ..Options::default()
        };
        let provider = Arc::new(Simulator::start(options).await.unwrap());
        Self::build(provider, None, None, &["sk-one"], settings, &["*"], max_wait).await
    }

    /// With one key at a provider, and a database: it works on jobs.
    pub(crate) async fn with_jobs(provider: &Arc<Simulator>, database: Database, settings: &str) -> Self {
        Self::build(Arc::clone(provider), None, Some(database), &["sk-one"], settings, &["*"], "60s").await
    }

    /// With one key at a provider, and `settings` in the section `[broker]`.
    pub(crate) async fn without_jobs(provider: &Arc<Simulator>, settings: &str) -> Self {
        Self::build(Arc::clone(provider), None, None, &["sk-one"], settings, &["*"], "0s").await
    }

    /// With one key at a provider, and calls that wait in its line for a minute.
    pub(crate) async fn patient(provider: &Arc<Simulator>, settings: &str) -> Self {
        Self::build(Arc::clone(provider), None, None, &["sk-one"], settings, &["*"], "60s").await
    }

    /// The same, and for an answer for an hour.
    pub(crate) async fn patient_for_answers(provider: &Arc<Simulator>, settings: &str) -> Self {
        let text = text(&provider.base_url(), &["sk-one"], settings, "60s");
        let text = text.replace("first_byte_timeout = \"6s\"", "first_byte_timeout = \"3600s\"");
        Self::start(Arc::clone(provider), None, None, load(&text), &["*"]).await
    }

    /// Over a database with the keys that callers have brought, beside one key of the platform's.
    pub(crate) async fn with_own_keys(
        provider: &Arc<Simulator>,
        database: Database,
        key: &str,
        settings: &str,
    ) -> Self {
        Self::build(Arc::clone(provider), None, Some(database), &[key], settings, &["*"], "0s").await
    }

    /// The same as text, for another configuration.
    pub(crate) fn own_keys_config(&self, settings: &str) -> String {
        text(&self.provider.base_url(), &["sk-platform-0000"], settings, "0s")
    }

    /// Somebody of an organisation.
    pub(crate) fn principal(
        &self,
        organization: OrganizationId,
        user: Option<UserId>,
        api_key: Option<ApiKeyId>,
        scopes: &[Scope],
    ) -> Bearer {
        self.deployment.principal(organization, user, api_key, scopes.iter().copied())
    }

    /// With what `broker` says of providers and routes, in TOML.
    pub(crate) async fn configured(provider: &Arc<Simulator>, redis: Option<&RedisServer>, broker: &str) -> Self {
        let redis = match redis {
            Some(server) => Some(connect(server).await),
            None => None,
        };
        Self::start(Arc::clone(provider), redis, None, load(broker), &["*"]).await
    }

    /// With one key, Redis, a database, and more `routes`, in TOML.
    pub(crate) async fn keeping(
        provider: &Arc<Simulator>,
        redis: &RedisServer,
        database: Database,
        settings: &str,
        routes: &str,
    ) -> Self {
        let config = load(&(text(&provider.base_url(), &["sk-one"], settings, "0s") + routes));
        Self::start(Arc::clone(provider), Some(connect(redis).await), Some(database), config, &["*"]).await
    }

    /// The configuration of [`Self::keeping`] with other `routes`.
    pub(crate) fn keeping_config(&self, routes: &str) -> String {
        text(&self.provider.base_url(), &["sk-one"], "cache.deadline = \"1s\"\n", "0s") + routes
    }

    /// Gives the broker another configuration of providers and routes.
    pub(crate) fn reconfigure(&self, broker: &str) {
        self.configs.send_replace(load(broker));
    }

    /// The same, with something that happens after it was read.
    pub(crate) fn reconfigure_after(&self, broker: &str, meanwhile: impl FnOnce()) {
        let config = load(broker);
        meanwhile();
        self.configs.send_replace(config);
    }

    /// With one key at a provider that other brokers use, too; their calls wait in the same line.
    pub(crate) async fn beside(provider: &Arc<Simulator>, redis: &RedisServer, settings: &str) -> Self {
        let redis = Some(connect(redis).await);
        Self::build(Arc::clone(provider), redis, None, &["sk-one"], settings, &["*"], "60s").await
    }

    async fn set(keys: &[&str], settings: &str, models: &[&str]) -> Self {
        let provider = Arc::new(Simulator::start(Options::default()).await.unwrap());
        Self::build(provider, None, None, keys, settings, models, "0s").await
    }

    async fn build(
        provider: Arc<Simulator>,
        redis: Option<Redis>,
        database: Option<Database>,
        keys: &[&str],
        settings: &str,
        models: &[&str],
        max_wait: &str,
    ) -> Self {
        let config = config(&provider.base_url(), keys, settings, max_wait);
        Self::start(provider, redis, database, config, models).await
    }

    async fn start(
        provider: Arc<Simulator>,
        redis: Option<Redis>,
        database: Option<Database>,
        config: Config,
        models: &[&str],
    ) -> Self {
        let deployment = Deployment::new().await;
        let siblings = Arc::new(Siblings {
            epoch: AtomicU64::new(1),
            models: parking_lot::Mutex::new(models.iter().map(|&model| model.into()).collect()),
            ..Siblings::default()
        });
        let quota = Routes::new(QuotaServiceServer::new(FakeQuota(Arc::clone(&siblings))));
        let usage = Routes::new(UsageServiceServer::new(FakeUsage(Arc::clone(&siblings))));
        let billing = Routes::new(BillingServiceServer::new(FakeBilling(Arc::clone(&siblings))));
        let mut channels = Vec::new();
        for (name, routes, access) in [("quota", quota, QUOTA), ("usage", usage, USAGE), ("billing", billing, BILLING)]
        {
            channels.push((name, deployment.channel("ai-broker", &deployment.stack(name, routes, access).await)));
        }
        let context = Context {
            clock: Arc::new(SystemClock),
            channels: Channels::fixed(channels),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            // All brokers of a deployment have one.
            master: crate::database::master(),
            instance: "test".into(),
            max_message_bytes: 32 << 20,
            revocations: deployment.verifier().revocations().clone(),
        };
        let (configs, changes) = watch::channel(config.clone());
        let database = match database {
            Some(database) => database,
            None => crate::database::nowhere().await,
        };
        let service = weir_ai_broker::start(config, database.clone(), redis, changes, &context).await.unwrap();
        let stacked = deployment.stack("ai-broker", service.into_routes(), ACCESS).await;
        let broker = BrokerServiceClient::new(deployment.channel("facade", &stacked));
        let operator = BrokerServiceClient::new(deployment.channel("operator", &stacked));
        let jobs = JobServiceClient::new(deployment.channel("facade", &stacked));
        let results = ResultServiceClient::new(deployment.channel("facade", &stacked));
        let cache = CacheServiceClient::new(deployment.channel("facade", &stacked));
        let keys = ProviderKeyServiceClient::new(deployment.channel("facade", &stacked));
        let organization = OrganizationId::new_v7();
        let scopes = [Scope::AiInvoke, Scope::ModelsRead, Scope::KeysManage];
        let bearer = deployment.principal(organization, Some(UserId::new_v7()), Some(ApiKeyId::new_v7()), scopes);
        let strange = OrganizationId::new_v7();
        let stranger = deployment.principal(strange, None, None, scopes);
        let scene = Self {
            siblings,
            provider,
            broker,
            operator,
            jobs,
            results,
            cache,
            keys,
            database,
            organization,
            bearer,
            strange,
            stranger,
            context,
            configs,
            deployment,
        };
        scene.eventually("the price book is read", async |scene| !scene.models().await.is_empty()).await;
        scene
    }

    /// Calls as the organisation of another scene from now on.
    pub(crate) fn adopt(&mut self, other: &Self) {
        self.organization = other.organization;
        let scopes = [Scope::AiInvoke, Scope::ModelsRead, Scope::KeysManage];
        self.bearer = self.deployment.principal(other.organization, None, None, scopes);
    }

    /// The only event, once its reservation is committed with the same amounts.
    pub(crate) async fn settled(&self) -> UsageEvent {
        self.eventually("the call is committed", async |scene| scene.siblings.committed.lock().len() == 1).await;
        let recorded = self.siblings.recorded.lock();
        assert_eq!(recorded.len(), 1, "one event for one call");
        let event = recorded.values().next().unwrap().clone();
        let committed = self.siblings.committed.lock();
        let commit = &committed[&event.event_id];
        let amount = |unit: &str| commit.actuals.iter().find(|amount| amount.unit == unit).map(|amount| amount.value);
        assert_eq!(amount("input_token"), Some(event.input_tokens));
        assert_eq!(amount("output_token"), Some(event.output_tokens));
        assert_eq!(amount("token"), Some(event.input_tokens + event.output_tokens));
        assert_eq!(amount("nano_usd"), Some(event.cost_nano_usd));
        assert_eq!(amount("request"), Some(1));
        assert_eq!(commit.estimated, event.estimated);
        event
    }

    /// How many reservations were made, committed and released, once all are settled.
    pub(crate) async fn ends(&self) -> (usize, usize, usize) {
        let counts = |scene: &Self| {
            let siblings = &scene.siblings;
            (siblings.reserved.lock().len(), siblings.committed.lock().len(), siblings.released.lock().len())
        };
        self.eventually("all reservations are settled", async |scene| {
            let (reserved, committed, released) = counts(scene);
            reserved == committed + released
        })
        .await;
        counts(self)
    }

    pub(crate) async fn eventually(&self, what: &str, is_so: impl AsyncFn(&Self) -> bool) {
        for _ in 0..6_000 {
            if is_so(self).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never: {what}");
    }

    /// Ends the broker as its host does.
    pub(crate) async fn shut_down(&self) {
        self.context.shutdown.cancel();
        self.context.tasks.close();
        self.context.tasks.wait().await;
    }
}

async fn connect(server: &RedisServer) -> Redis {
    let config = weir_redis::Config {
        url: Secret::from(server.url().to_owned()),
        cluster: false,
        deadline: Duration::from_secs(2),
        connections: 1,
    };
    Redis::connect(&config).await.unwrap()
}
