use std::path::PathBuf;

use serde::Deserialize;
use weir_config::{Errors, Loader, MasterKey, Problem, Secret, Validate};

const DEFAULTS: &str = include_str!("../config.defaults.toml");

/// Everything that can be configured. Each section belongs to one crate, which also has its defaults and its checks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WeirConfig {
    master_key: MasterKeyConfig,
    pub(crate) runtime: RuntimeConfig,
    pub(crate) telemetry: weir_telemetry::Config,
    pub(crate) host: weir_host::Config,
    pub(crate) rpc: weir_rpc::Config,
    pub(crate) discovery: weir_discovery::Config,
    pub(crate) database: weir_database::Config,
    pub(crate) redis: weir_redis::Config,
    pub(crate) auth: weir_auth::Config,
    pub(crate) quota: weir_quota::Config,
    pub(crate) usage: weir_usage::Config,
    pub(crate) billing: weir_billing::Config,
    pub(crate) broker: weir_ai_broker::Config,
    pub(crate) facade: weir_facade::Config,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MasterKeyConfig {
    value: Secret,
    file: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuntimeConfig {
    pub(crate) worker_threads: usize,
}

impl WeirConfig {
    /// Loads the defaults, the file and the environment.
    pub(crate) fn load(file: Option<PathBuf>) -> Result<Self, Errors> {
        Self::loader(file).load()
    }

    /// For commands that lay something of their own beneath or on top.
    pub(crate) fn loader(file: Option<PathBuf>) -> Loader {
        let loader = [
            DEFAULTS,
            weir_telemetry::DEFAULTS,
            weir_host::DEFAULTS,
            weir_rpc::DEFAULTS,
            weir_discovery::DEFAULTS,
            weir_database::DEFAULTS,
            weir_redis::DEFAULTS,
            weir_auth::DEFAULTS,
            weir_quota::DEFAULTS,
            weir_usage::DEFAULTS,
            weir_billing::DEFAULTS,
            weir_ai_broker::DEFAULTS,
            weir_facade::DEFAULTS,
        ]
        .into_iter()
        .fold(Loader::new(), Loader::section);
        weir_ai_broker::OPEN_TABLES
            .iter()
            .fold(loader, |loader, table| loader.open(table))
            .file(file)
            .env("WEIR_")
            .alias("WEIR_MASTER_KEY", "master_key.value")
            .alias("WEIR_MASTER_KEY_FILE", "master_key.file")
    }

    /// The deployment's key.
    pub(crate) fn master_key(&self) -> Result<MasterKey, Problem> {
        let MasterKeyConfig { value, file } = &self.master_key;
        let malformed =
            |key: &str, error: weir_config::MasterKeyError| Problem::new("master_key", key, error.to_string());
        match (value.is_empty(), file.as_os_str().is_empty()) {
            (false, true) => MasterKey::from_base64(value.expose()).map_err(|error| malformed("value", error)),
            (true, false) => MasterKey::load(file).map_err(|error| malformed("file", error)),
            (false, false) => Err(Problem::new("", "master_key", "is given twice").hint("set its value or its file")),
            (true, true) => Err(Problem::new("", "master_key", "is not set")
                .hint("set WEIR_MASTER_KEY or WEIR_MASTER_KEY_FILE; `head -c 32 /dev/urandom | base64` makes a key")),
        }
    }
}

impl Validate for WeirConfig {
    fn validate(&self, _at: &str, problems: &mut Vec<Problem>) {
        if !(1..=1024).contains(&self.runtime.worker_threads) {
            problems.push(Problem::new("runtime", "worker_threads", "must be between 1 and 1024"));
        }
        let sections: [(&str, &dyn Validate); 12] = [
            ("telemetry", &self.telemetry),
            ("host", &self.host),
            ("rpc", &self.rpc),
            ("discovery", &self.discovery),
            ("database", &self.database),
            ("redis", &self.redis),
            ("auth", &self.auth),
            ("quota", &self.quota),
            ("usage", &self.usage),
            ("billing", &self.billing),
            ("broker", &self.broker),
            ("facade", &self.facade),
        ];
        for (at, section) in sections {
            section.validate(at, problems);
        }
        let instances = self.discovery.services.get("quota").map_or(0, Vec::len);
        if self.quota.store == weir_quota::config::StoreKind::Memory && instances > 1 {
            let problem = format!("names {instances} processes, but quota.store = \"memory\" is for exactly one");
            problems.push(
                Problem::new("discovery", "services.quota", problem).hint("one address, or quota.store = \"redis\""),
            );
        }
    }
}
