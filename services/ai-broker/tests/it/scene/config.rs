//! The broker's configuration, in TOML.

use serde::Deserialize;
use weir_ai_broker::{Config, DEFAULTS, OPEN_TABLES};
use weir_config::{Errors, Loader, Problem, Validate};

#[derive(Deserialize)]
struct Root {
    broker: Config,
}

impl Validate for Root {
    fn validate(&self, at: &str, problems: &mut Vec<Problem>) {
        self.broker.validate(at, problems);
    }
}

pub(super) fn config(base_url: &str, keys: &[&str], settings: &str, max_wait: &str) -> Config {
    load(&text(base_url, keys, settings, max_wait))
}

pub(super) fn text(base_url: &str, keys: &[&str], settings: &str, max_wait: &str) -> String {
    let keys = keys.iter().map(|key| format!("\"{key}\" = \"{key}\"")).collect::<Vec<_>>().join(", ");
    let queue_url = base_url.trim_end_matches("/v1");
    let linger = if settings.contains("settle_linger") { "" } else { "settle_linger = \"1ms\"" };
    format!(
        "{linger}\n{settings}\n[broker.providers.sim]\nbase_url = \"{base_url}\"\nprice_list = \"simulated\"\n\
         keys = {{ {keys} }}\nfirst_byte_timeout = \"6s\"\nidle_timeout = \"1500ms\"\nmax_wait = \"{max_wait}\"\n\
         [broker.providers.claude]\nbase_url = \"{base_url}\"\nprice_list = \"claude\"\ndialect = \"anthropic\"\n\
         keys = {{ {keys} }}\nfirst_byte_timeout = \"6s\"\nidle_timeout = \"1500ms\"\nmax_wait = \"{max_wait}\"\n\
         [broker.providers.voices]\nbase_url = \"{base_url}\"\nprice_list = \"voices\"\ndialect = \"elevenlabs\"\n\
         keys = {{ {keys} }}\nfirst_byte_timeout = \"6s\"\nidle_timeout = \"1500ms\"\nmax_wait = \"{max_wait}\"\n\
         [broker.providers.pictures]\nbase_url = \"{queue_url}\"\nprice_list = \"pictures\"\ndialect = \"fal\"\n\
         keys = {{ {keys} }}\nfirst_byte_timeout = \"6s\"\nmax_wait = \"{max_wait}\"\n\
         [broker.routes.fast]\nprovider = \"sim\"\nmodel = \"sim-small\"\ndefault_output_tokens = 32\n\
         [broker.routes.lost]\nprovider = \"sim\"\nmodel = \"sim-unpriced\"\n"
    )
}

/// The broker's section with `broker` in it, in TOML.
pub(super) fn load(broker: &str) -> Config {
    try_load(broker).unwrap()
}

pub(crate) fn try_load(broker: &str) -> Result<Config, Errors> {
    use std::io::Write as _;
    let mut file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    // Most scenes have no database to read them from.
    let own_keys = if broker.contains("own_keys") { "" } else { "own_keys.enabled = false\n" };
    write!(file, "[broker]\n{own_keys}{broker}").unwrap();
    let loader = Loader::new().section(DEFAULTS).file(Some(file.path().to_owned()));
    let root = OPEN_TABLES.iter().fold(loader, |loader, table| loader.open(table)).load::<Root>();
    root.map(|root| root.broker)
}
