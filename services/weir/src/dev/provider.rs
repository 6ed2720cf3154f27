//! Which provider answers: the configured ones, OpenAI if there is a key for it, else a simulated one.

use std::time::Duration;

use weir_config::MasterKey;
use weir_simulator::{ApiKey, Options, Simulator};

use crate::config::WeirConfig;
use crate::failure::Failure;

const OPENAI_KEY: &str = "OPENAI_API_KEY";

pub(crate) enum Provider {
    Configured(Vec<String>),
    OpenAi,
    Simulated { simulator: Box<Simulator>, key: String },
}

/// Starts the simulated provider if no other is there.
pub(crate) async fn choose(config: &WeirConfig, master: &MasterKey) -> Result<Provider, Failure> {
    if !config.broker.providers.is_empty() {
        return Ok(Provider::Configured(config.broker.providers.keys().cloned().collect()));
    }
    if std::env::var_os(OPENAI_KEY).is_some_and(|key| !key.is_empty()) {
        return Ok(Provider::OpenAi);
    }
    let key = master.derive_password("simulated-provider");
    let options = Options {
        // As fast as a quick model, so that a stream looks like one.
        latency: Duration::from_millis(100),
        chunk_latency: Duration::from_millis(15),
        api_keys: vec![ApiKey::new(key.clone())],
        ..Options::default()
    };
    let simulator =
        Simulator::start(options).await.map_err(|error| Failure::unavailable("the simulated provider", &error))?;
    Ok(Provider::Simulated { simulator: Box::new(simulator), key })
}

impl Provider {
    /// The broker's configuration for it. The simulated provider serves OpenAI's models at OpenAI's prices, so that what is
    /// tried here is what it will be.
    pub(crate) fn settings(&self) -> String {
        match self {
            Self::Configured(_) => String::new(),
            Self::OpenAi => format!(
                "[broker.providers.openai]\nbase_url = \"https://api.openai.com/v1\"\nprice_list = \"openai\"\n\
                 keys = {{ main = \"env:{OPENAI_KEY}\" }}\n"
            ),
            Self::Simulated { simulator, key } => format!(
                "[broker.providers.simulated]\nbase_url = \"{}\"\nprice_list = \"openai\"\nkeys = {{ main = \"{key}\" }}\n",
                simulator.base_url()
            ),
        }
    }

    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Configured(names) => names.join(", "),
            Self::OpenAi => format!("OpenAI, with {OPENAI_KEY}"),
            Self::Simulated { .. } => {
                format!("simulated: costs nothing, answers nonsense (set {OPENAI_KEY} for the real one)")
            }
        }
    }

    pub(crate) async fn stop(self) {
        if let Self::Simulated { simulator, .. } = self {
            simulator.stop().await;
        }
    }
}
