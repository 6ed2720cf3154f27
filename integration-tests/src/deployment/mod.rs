//! A whole Weir: private Postgres and Redis, the simulated provider, and the services in one process or in six.

mod config;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use tempfile::TempDir;
use weir_config::MasterKey;
use weir_launcher::{Postgres, PostgresOptions, Redis, RedisOptions, free_port};
use weir_proto::billing::v1::GetPriceBookRequest;

use crate::prices::Prices;
use crate::process::{Process, Program, weir_executable};
use crate::provider::Provider;
use crate::siblings::{OPERATOR, Siblings};

const READY_WITHIN: Duration = Duration::from_secs(40);
const STOP_WITHIN: Duration = Duration::from_secs(40);
/// How long an audit waits for what is under way.
const AUDIT_SETTLES_WITHIN: Duration = Duration::from_secs(30);

/// The services that speak gRPC to each other, as they are started.
pub const SERVICES: [&str; 5] = ["auth", "quota", "ai-broker", "usage", "billing"];

/// How Weir runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// `weir serve all`.
    One,
    /// `weir serve auth`, `weir serve quota`, and so on.
    Separate,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "in one process",
            Self::Separate => "each service in its own process",
        })
    }
}

/// How to start a deployment.
#[derive(Debug, Clone)]
pub struct Options {
    /// One process or several.
    pub mode: Mode,
    /// Arguments of `weir simulate`.
    pub provider_args: Vec<String>,
    /// A provider that runs already, instead of one of its own.
    pub provider: Option<Rc<Provider>>,
    /// TOML after the deployment's own configuration.
    pub more_config: String,
    /// Set in the environment of the processes.
    pub env: Vec<(String, String)>,
    /// Whether Postgres waits for the disk.
    pub durable: bool,
}

impl Options {
    /// In this mode, everything else as usual.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            provider_args: Vec::new(),
            provider: None,
            more_config: String::new(),
            env: Vec::new(),
            durable: false,
        }
    }
}

/// A running Weir. Dropped, all of it is killed; [`Deployment::stop`] ends it in order.
pub struct Deployment {
    /// The provider, and what it served.
    pub provider: Rc<Provider>,
    /// The services, called as the operator.
    pub siblings: Siblings,
    addresses: HashMap<&'static str, SocketAddr>,
    master: MasterKey,
    processes: BTreeMap<String, Process>,
    admin: BTreeMap<String, SocketAddr>,
    facade: SocketAddr,
    /// Before the directory: the servers have ended when it goes.
    postgres: Postgres,
    redis: Redis,
    dir: TempDir,
}

/// The outcome of an audit.
#[derive(Debug, Clone)]
pub struct Audited {
    /// Nothing contradicts anything, and nothing is under way.
    pub clean: bool,
    /// For people.
    pub text: String,
}

impl Deployment {
    /// Starts everything and waits until it is ready.
    ///
    /// # Errors
    /// Something does not come up; the error has its last words.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let weir = weir_executable()?;
        let mut dir = tempfile::Builder::new().prefix("weir-deployment-").tempdir()?;
        // For whoever looks for the cause of something: the logs stay.
        dir.disable_cleanup(std::env::var_os("WEIR_KEEP_LOGS").is_some_and(|value| !value.is_empty()));
        let postgres = PostgresOptions { durable: options.durable, ..PostgresOptions::default() };
        let (postgres, redis) = tokio::try_join!(Postgres::start(postgres), Redis::start(RedisOptions::default()))?;
        let provider = match options.provider {
            Some(provider) => provider,
            None => {
                let args: Vec<&str> = options.provider_args.iter().map(String::as_str).collect();
                Rc::new(Provider::start(&weir, dir.path(), &args).await?)
            }
        };
        let layout = config::Layout::choose(options.mode)?;
        let master = dir.path().join("master.key");
        let master_key = MasterKey::load_or_create(&master)?;
        let settings = config::Settings {
            layout: &layout,
            postgres: postgres.admin_url(),
            redis: redis.admin_url(),
            provider: provider.address(),
            master: &master,
            more: &options.more_config,
        };
        let file = dir.path().join("weir.toml");
        std::fs::write(&file, settings.toml())?;
        migrate(&weir, &file, dir.path()).await?;

        let mut processes = BTreeMap::new();
        for (name, admin) in &layout.processes {
            let program = Program {
                name: name.clone(),
                path: weir.clone(),
                args: ["serve", name, "--config", &file.display().to_string()].map(str::to_owned).to_vec(),
                env: [("WEIR_HOST__ADMIN_LISTEN".to_owned(), admin.to_string())]
                    .into_iter()
                    .chain(options.env.iter().cloned())
                    .collect(),
                log: dir.path().join(format!("{name}.log")),
            };
            processes.insert(name.clone(), program.start()?);
        }
        let addresses: HashMap<&'static str, SocketAddr> =
            layout.services.iter().map(|(&name, &at)| (name, at)).collect();
        let siblings = Siblings::new(&addresses, &master_key, OPERATOR)?;
        let admin = layout.processes.into_iter().collect();
        let facade = layout.facade;
        let mut deployment =
            Self { provider, siblings, addresses, master: master_key, processes, admin, facade, postgres, redis, dir };
        deployment.ready().await?;
        Ok(deployment)
    }

    /// Where the public API is.
    #[must_use]
    pub fn facade(&self) -> SocketAddr {
        self.facade
    }

    /// The public API's base URL for OpenAI's clients.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.facade)
    }

    /// Where a process answers operators: a service's name, or `all`.
    ///
    /// # Panics
    /// There is no such process.
    #[must_use]
    pub fn admin(&self, name: &str) -> SocketAddr {
        self.admin[name]
    }

    /// The folder of the logs and the configuration.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Kills everything, and leaves the logs; where they are.
    #[must_use]
    pub fn keep_logs(mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.dir.path().to_owned()
    }

    /// The configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.dir.path().join("weir.toml")
    }

    /// The admin URL of Postgres.
    #[must_use]
    pub fn postgres_url(&self) -> &str {
        self.postgres.admin_url()
    }

    /// The processes of Weir itself.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.processes.values().filter_map(Process::pid).collect()
    }

    /// One process of Weir: a service's name, or `all`.
    #[must_use]
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.processes.get(name)?.pid()
    }

    /// The URL of Redis.
    #[must_use]
    pub fn redis_url(&self) -> &str {
        self.redis.admin_url()
    }

    /// The process of Redis.
    #[must_use]
    pub fn redis_pid(&self) -> Option<u32> {
        self.redis.pid()
    }

    /// The services as they would be called if this one were elsewhere.
    ///
    /// # Errors
    /// The built-in configuration of calls cannot be read.
    pub fn siblings_with(&self, name: &'static str, address: SocketAddr) -> anyhow::Result<Siblings> {
        let addresses = self.addresses.iter().map(|(&name, &at)| (name, at)).chain([(name, address)]).collect();
        Siblings::new(&addresses, &self.master, "ai-broker")
    }

    /// The roots of the stores' processes.
    #[must_use]
    pub fn store_pids(&self) -> Vec<u32> {
        [self.postgres.pid(), self.redis.pid()].into_iter().flatten().collect()
    }

    /// The services, called as one of them.
    ///
    /// # Errors
    /// The built-in configuration of calls cannot be read.
    pub fn siblings_as(&self, name: &str) -> anyhow::Result<Siblings> {
        Siblings::new(&self.addresses, &self.master, name)
    }

    /// The price list that the simulated provider stands in for.
    ///
    /// # Errors
    /// Billing does not answer.
    pub async fn prices(&self) -> anyhow::Result<Prices> {
        let book =
            self.siblings.billing().get_price_book(GetPriceBookRequest::default()).await.context("the price book")?;
        Ok(Prices::of(book.get_ref(), config::PRICE_LIST))
    }

    /// Adds up the books of all services.
    ///
    /// # Errors
    /// A service does not answer.
    pub async fn audit(&self) -> anyhow::Result<Audited> {
        let options = weir_audit::Options { settle: AUDIT_SETTLES_WITHIN, organization: None };
        let report = weir_audit::audit(&self.siblings.audited(), &options).await?;
        Ok(Audited { clean: report.balanced && report.settled, text: report.to_string() })
    }

    /// Waits until every process is ready.
    ///
    /// # Errors
    /// One has ended, or is not ready in time.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        for (name, process) in &mut self.processes {
            wait_until_ready(process, self.admin[name]).await?;
        }
        Ok(())
    }

    /// `kill -9` of a process: a service's name, `all`, `redis` (its data is lost too) or `postgres`.
    ///
    /// # Errors
    /// There is no such process.
    pub async fn kill9(&mut self, name: &str) -> anyhow::Result<()> {
        match name {
            "postgres" => self.postgres.kill9(),
            "redis" => {
                self.redis.kill9();
                self.redis.lose_data();
            }
            name => self.process(name)?.kill9().await?,
        }
        Ok(())
    }

    /// Starts again what was killed. Does not wait until it is ready.
    ///
    /// # Errors
    /// It does not start.
    pub async fn restart(&mut self, name: &str) -> anyhow::Result<()> {
        match name {
            "postgres" => self.postgres.restart().await?,
            "redis" => self.redis.restart().await?,
            name => {
                let process = self.process(name)?;
                *process = process.program().clone().start()?;
            }
        }
        Ok(())
    }

    fn process(&mut self, name: &str) -> anyhow::Result<&mut Process> {
        self.processes.get_mut(name).with_context(|| format!("no process is called {name}"))
    }

    /// Ends everything in order: the facade first, the stores last.
    ///
    /// # Errors
    /// Something had to be killed, or ended with an error.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let mut names: Vec<String> = self.processes.keys().cloned().collect();
        names.sort_by_key(|name| {
            ["facade", "all", "ai-broker", "billing", "usage", "quota"].iter().position(|&one| one == name).unwrap_or(9)
        });
        let mut first_error = Ok(());
        for name in names {
            let stopped = self.process(&name)?.stop(STOP_WITHIN).await;
            first_error = first_error.and(stopped);
        }
        first_error?;
        self.redis.stop().await?;
        self.postgres.stop().await?;
        Ok(())
    }
}

/// Waits until a process says on its admin address that it is ready.
pub(crate) async fn wait_until_ready(process: &mut Process, admin: SocketAddr) -> anyhow::Result<()> {
    let until = tokio::time::Instant::now() + READY_WITHIN;
    while !is_ready(admin).await {
        process.check()?;
        if tokio::time::Instant::now() > until {
            let Program { name, .. } = process.program();
            bail!("{name} is not ready after {READY_WITHIN:?}:\n{}", process.program().last_words());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Makes the schemas.
pub(crate) async fn migrate(weir: &Path, config: &Path, dir: &Path) -> anyhow::Result<()> {
    let program = Program {
        name: "migrate".to_owned(),
        path: weir.to_owned(),
        args: ["migrate", "--config", &config.display().to_string()].map(str::to_owned).to_vec(),
        env: Vec::new(),
        log: dir.join("migrate.log"),
    };
    program.start()?.succeed(READY_WITHIN).await
}

/// Whether `/readyz` answers 200.
async fn is_ready(admin: SocketAddr) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(admin).await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    matches!(tokio::time::timeout(Duration::from_secs(2), ask).await, Ok(Ok(true)))
}

/// Free ports for everything that listens.
pub(crate) fn ports<const N: usize>() -> anyhow::Result<[SocketAddr; N]> {
    let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); N];
    for address in &mut addresses {
        address.set_port(free_port()?);
    }
    Ok(addresses)
}
