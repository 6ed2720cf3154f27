//! Any number of quota processes, with the billing that gives them their limits.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;
use weir_config::MasterKey;
use weir_launcher::{Postgres, PostgresOptions, Redis, RedisOptions};
use weir_proto::billing::v1::{Limit, SetSubscriptionRequest};
use weir_proto::quota::v1::quota_service_client::QuotaServiceClient;
use weir_proto::quota::v1::{GetBalanceRequest, GetStatusRequest, GetStatusResponse, LimitState, Subject};
use weir_rpc::Channel;
use weir_types::{OrganizationId, names};

use super::calls::Calls;
use crate::deployment::{migrate, ports, wait_until_ready};
use crate::process::{Process, Program, weir_executable};
use crate::siblings::{OPERATOR, Siblings};
use crate::tenants::UNLIMITED;

/// A client of one process.
pub type Client = QuotaServiceClient<Channel>;

/// One process of Weir.
struct Node {
    process: Process,
    address: SocketAddr,
    admin: SocketAddr,
}

/// Running quota processes. Dropped, all of it is killed.
pub struct Fleet {
    billing: Node,
    quotas: Vec<Node>,
    siblings: Vec<Siblings>,
    master: MasterKey,
    weir: PathBuf,
    postgres: Postgres,
    redis: Redis,
    /// Behind the servers: they have ended when it goes.
    dir: TempDir,
}

impl Fleet {
    /// Starts the stores, billing and `count` quota processes; Redis keeps its data through a `kill -9` if `keeps_data`.
    ///
    /// # Errors
    /// Something does not come up; the error has its last words.
    pub async fn start(count: usize, keeps_data: bool, more_config: &str) -> anyhow::Result<Self> {
        let weir = weir_executable()?;
        let mut dir = tempfile::Builder::new().prefix("weir-quota-").tempdir()?;
        dir.disable_cleanup(std::env::var_os("WEIR_KEEP_LOGS").is_some_and(|value| !value.is_empty()));
        let redis = RedisOptions { durable: keeps_data, ..RedisOptions::default() };
        let (postgres, redis) = tokio::try_join!(Postgres::start(PostgresOptions::default()), Redis::start(redis))?;
        let key = dir.path().join("master.key");
        let master = MasterKey::load_or_create(&key)?;
        let [billing, admin] = ports::<2>()?;
        let mut toml = format!("[master_key]\nfile = \"{}\"\n", key.display());
        let _ = writeln!(toml, "[database]\nurl = \"{}\"", postgres.admin_url());
        let _ = writeln!(toml, "[redis]\nurl = \"{}\"", redis.admin_url());
        let _ = writeln!(toml, "[host.listen]\nbilling = \"{billing}\"");
        let _ = writeln!(toml, "[discovery.services]\nbilling = [\"{billing}\"]");
        let file = dir.path().join("weir.toml");
        std::fs::write(&file, toml + more_config)?;
        migrate(&weir, &file, dir.path()).await?;
        let billing = serve(&weir, &dir, "billing", "billing", billing, admin)?;
        let mut fleet = Self { billing, quotas: Vec::new(), siblings: Vec::new(), master, weir, postgres, redis, dir };
        wait_until_ready(&mut fleet.billing.process, fleet.billing.admin).await?;
        fleet.grow(count).await?;
        Ok(fleet)
    }

    /// Starts more quota processes until there are `count`.
    ///
    /// # Errors
    /// One does not come up.
    pub async fn grow(&mut self, count: usize) -> anyhow::Result<()> {
        while self.quotas.len() < count {
            let [address, admin] = ports::<2>()?;
            let name = format!("quota-{}", self.quotas.len() + 1);
            self.quotas.push(serve(&self.weir, &self.dir, "quota", &name, address, admin)?);
            let addresses = HashMap::from([("quota", address), ("billing", self.billing.address)]);
            self.siblings.push(Siblings::new(&addresses, &self.master, OPERATOR)?);
        }
        self.ready().await
    }

    /// Waits until every quota process is ready.
    ///
    /// # Errors
    /// One has ended, or is not ready in time.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        for node in &mut self.quotas {
            wait_until_ready(&mut node.process, node.admin).await?;
        }
        Ok(())
    }

    /// How many quota processes there are, whether alive or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.quotas.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.quotas.is_empty()
    }

    /// A client of each process.
    #[must_use]
    pub fn clients(&self) -> Vec<Client> {
        self.siblings.iter().map(Siblings::quota).collect()
    }

    /// Where the quota processes listen.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.quotas.iter().map(|node| node.address).collect()
    }

    /// The file of the deployment's master key.
    #[must_use]
    pub fn master_key_file(&self) -> PathBuf {
        self.dir.path().join("master.key")
    }

    /// The process ids of the quota processes that live.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.quotas.iter().filter_map(|node| node.process.pid()).collect()
    }

    /// Postgres, as its administrator.
    #[must_use]
    pub fn postgres_url(&self) -> &str {
        self.postgres.admin_url()
    }

    /// The process of Redis, while it lives.
    #[must_use]
    pub fn redis_pid(&self) -> Option<u32> {
        self.redis.pid()
    }

    /// Redis.
    #[must_use]
    pub fn redis_url(&self) -> &str {
        self.redis.admin_url()
    }

    /// A new organisation with these limits.
    ///
    /// # Errors
    /// Billing refuses them.
    pub async fn tenant(&self, limits: Vec<Limit>) -> anyhow::Result<OrganizationId> {
        let organization = OrganizationId::new_v7();
        let request = SetSubscriptionRequest {
            organization: names::organization(&organization),
            plan: UNLIMITED.to_owned(),
            overrides: limits,
        };
        let billing = self.siblings.first().context("no quota process")?.billing();
        { billing }.set_subscription(request).await.context("setting limits")?;
        Ok(organization)
    }

    /// `kill -9` of a quota process.
    ///
    /// # Errors
    /// The operating system refuses.
    pub async fn kill_quota(&mut self, number: usize) -> anyhow::Result<()> {
        self.quotas[number].process.kill9().await
    }

    /// Starts a killed quota process again. Does not wait until it is ready.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart_quota(&mut self, number: usize) -> anyhow::Result<()> {
        let node = &mut self.quotas[number];
        node.process = node.process.program().clone().start()?;
        Ok(())
    }

    /// `kill -9` of Redis.
    pub fn kill_redis(&mut self) {
        self.redis.kill9();
    }

    /// What Redis had written to disk is gone.
    pub fn lose_data(&mut self) {
        self.redis.lose_data();
    }

    /// Starts Redis again.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn restart_redis(&mut self) -> anyhow::Result<()> {
        Ok(self.redis.restart().await?)
    }

    /// What the audit sees.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn status(&self) -> anyhow::Result<GetStatusResponse> {
        let calls = Calls::new(self.clients()).patient();
        Ok(calls.until_answered(&GetStatusRequest {}, async |mut to, ask| to.get_status(ask).await).await?.0?)
    }

    /// One limit of an organisation.
    ///
    /// # Errors
    /// Nobody answers, or there is no such limit.
    pub async fn balance(&self, organization: &OrganizationId, limit: &str) -> anyhow::Result<LimitState> {
        let subject = Subject { organization: names::organization(organization), ..Default::default() };
        let ask = GetBalanceRequest { subject: Some(subject) };
        let calls = Calls::new(self.clients());
        let answer = calls.until_answered(&ask, async |mut to, ask| to.get_balance(ask).await).await?.0?;
        answer.limits.into_iter().find(|state| state.limit == limit).with_context(|| format!("no limit {limit}"))
    }

    /// Kills everything, and leaves the logs; where they are.
    #[must_use]
    pub fn keep_logs(mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.dir.path().to_owned()
    }

    /// Ends everything in order.
    ///
    /// # Errors
    /// Something had to be killed, or ended with an error.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        const STOP_WITHIN: Duration = Duration::from_secs(40);
        for node in &mut self.quotas {
            node.process.stop(STOP_WITHIN).await?;
        }
        self.billing.process.stop(STOP_WITHIN).await?;
        self.redis.stop().await?;
        Ok(self.postgres.stop().await?)
    }
}

fn serve(
    weir: &std::path::Path,
    dir: &TempDir,
    service: &str,
    name: &str,
    address: SocketAddr,
    admin: SocketAddr,
) -> anyhow::Result<Node> {
    let config = dir.path().join("weir.toml").display().to_string();
    let program = Program {
        name: name.to_owned(),
        path: weir.to_owned(),
        args: ["serve", service, "--config", &config].map(str::to_owned).to_vec(),
        env: vec![
            (format!("WEIR_HOST__LISTEN__{}", service.to_uppercase()), address.to_string()),
            ("WEIR_HOST__ADMIN_LISTEN".to_owned(), admin.to_string()),
        ],
        log: dir.path().join(format!("{name}.log")),
    };
    Ok(Node { process: program.start()?, address, admin })
}
