//! The operator's way to services that run elsewhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_discovery::Directory;
use weir_rpc::{Channel, ServiceIdentity};

use crate::config::WeirConfig;
use crate::dev;
use crate::failure::Failure;

/// What an operator's commands call themselves.
pub(crate) const NAME: &str = "operator";

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
}

/// The configuration of an operator's command. In a directory where `weir dev` has run, that is the one to talk to unless
/// another is named.
pub(crate) fn config(file: Option<PathBuf>) -> Result<WeirConfig, Failure> {
    let development = Path::new(dev::DEFAULT_DIR).join(dev::CONFIG_FILE);
    let file = file.or_else(|| development.is_file().then_some(development));
    Ok(WeirConfig::load(file)?)
}
