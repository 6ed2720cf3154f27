use std::path::PathBuf;

use serde::Deserialize;
use weir_config::{Errors, Loader, MasterKey, Problem, Secret, Validate};
use weir_quota::config::{Amount, MOST_SHARED, SharedLimit, SharedWindow, WhenDown};
use weir_quota::domain::shared::SharedScope;

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

    /// What quota is started with: its own section, and the limits that providers' keys have of their own.
    pub(crate) fn quota(&self) -> weir_quota::Config {
        let mut quota = self.quota.clone();
        quota.shared.extend(self.broker.key_limits().into_iter().map(|limit| {
            let at_once = limit.unit == weir_types::unit::CONCURRENT;
            SharedLimit {
                name: limit.name,
                scope: SharedScope::ProviderKey,
                value: limit.key,
                unit: limit.unit.to_owned(),
                amount: Amount::Number(limit.amount),
                window: SharedWindow {
                    rolling: (!at_once).then(|| "1m".to_owned()),
                    concurrent: at_once.then_some(true),
                    ..SharedWindow::default()
                },
                on_failure: WhenDown::Closed,
                alert_percents: Vec::new(),
            }
        }));
        quota
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
        let limits = self.quota.shared.len() + self.broker.key_limits().len();
        if !self.broker.key_limits().is_empty() && limits > MOST_SHARED {
            let problem = format!("has {limits} entries with the limits of providers' keys, more than {MOST_SHARED}");
            problems.push(Problem::new("quota", "shared", problem));
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_limits_of_keys_are_limits_that_quota_holds() {
        let text = "[[quota.shared]]\nname = \"all\"\nscope = \"product\"\nunit = \"request\"\namount = 5\nwindow = { rolling = \"1m\" }\n\
                    [broker.providers.p]\nbase_url = \"http://localhost/v1\"\nprice_list = \"x\"\n\
                    keys.a = { secret = \"k\", requests_per_minute = 10, tokens_per_minute = 900, concurrency = 2 }\nkeys.b = \"l\"\n";
        let config: WeirConfig = WeirConfig::loader(None).set("the test", text.to_owned()).load().unwrap();
        let quota = config.quota();
        let names: Vec<_> = quota.shared.iter().map(|limit| limit.name.as_str()).collect();
        assert_eq!(names, ["all", "key.p.a.request", "key.p.a.token", "key.p.a.concurrent"]);
        assert!(quota.shared.iter().all(|limit| limit.limit().is_ok()), "{:?}", quota.shared);
        assert!(quota.shared[1..].iter().all(|limit| limit.value == "p/a"));
        let keys: String = (0..22).map(|n| format!("keys.k{n} = {{ secret = \"k\", requests_per_minute = 1, tokens_per_minute = 1, concurrency = 1 }}\n")).collect();
        let many = format!("[broker.providers.p]\nbase_url = \"http://localhost/v1\"\nprice_list = \"x\"\n{keys}");
        let errors = WeirConfig::loader(None).set("the test", many).load::<WeirConfig>().unwrap_err().to_string();
        assert!(errors.contains("has 66 entries"), "{errors}");
    }
}
