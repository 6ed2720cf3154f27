//! The operator's way to services that run elsewhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use weir_discovery::{Directory, Endpoint, Static};
use weir_rpc::{Channel, ServiceIdentity};

use crate::config::WeirConfig;
use crate::dev;
use crate::failure::Failure;

/// What an operator's commands call themselves.
pub(crate) const NAME: &str = "operator";

/// How long the directory may take to say where instances are.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(10);

/// Channels that carry the operator's identity.
pub(crate) struct Operator {
    directory: Arc<dyn Directory>,
    identity: ServiceIdentity,
    rpc: weir_rpc::Config,
}

impl Operator {
    pub(crate) fn new(config: &WeirConfig) -> Result<Self, Failure> {
        let master = config.master_key().map_err(Failure::usage)?;
        let directory =
            weir_discovery::open(&config.discovery).map_err(|error| Failure::unavailable("discovery", &error))?;
        Ok(Self { directory, identity: ServiceIdentity::new(NAME, &master), rpc: config.rpc.clone() })
    }

    pub(crate) fn channel(&self, service: &str) -> Channel {
        Channel::remote(&self.directory, service, self.identity.clone(), &self.rpc)
    }

    /// A channel to each instance by its address. Without any, one to the service, which says so when it is used.
    pub(crate) async fn instances(&self, service: &str) -> Vec<(String, Channel)> {
        let known = tokio::time::timeout(LOOK_UP_WITHIN, self.directory.watch(service).next()).await;
        let endpoints = known.ok().flatten().unwrap_or_default();
        if endpoints.is_empty() {
            return vec![(service.to_owned(), self.channel(service))];
        }
        let channel = |endpoint: Endpoint| {
            let name = endpoint.as_str().to_owned();
            let alone: Arc<dyn Directory> = Arc::new(Static::default().with(service, [endpoint]));
            (name, Channel::remote(&alone, service, self.identity.clone(), &self.rpc))
        };
        endpoints.into_iter().map(channel).collect()
    }
}

/// A resource's name: people give the id alone.
pub(crate) fn named(collection: &str, name: String) -> String {
    if name.starts_with(collection) { name } else { format!("{collection}{name}") }
}

/// The configuration of an operator's command. In a directory where `weir dev` has run, that is the one to talk to unless
/// another is named.
pub(crate) fn config(file: Option<PathBuf>) -> Result<WeirConfig, Failure> {
    let development = Path::new(dev::DEFAULT_DIR).join(dev::CONFIG_FILE);
    let file = file.or_else(|| development.is_file().then_some(development));
    Ok(WeirConfig::load(file)?)
}
