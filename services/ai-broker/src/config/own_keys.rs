//! `[broker.own_keys]`: keys of providers that users and organisations bring themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use weir_config::{MasterKey, Secret};

use super::resolve;
use crate::domain::own_keys::FIRST_MASTER;

/// The table `[broker.own_keys]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnKeysConfig {
    pub(crate) enabled: bool,
    #[serde(with = "weir_config::duration")]
    pub(crate) look: Duration,
    pub(crate) wrap_with: i32,
    master_keys: BTreeMap<String, Secret>,
}

impl OwnKeysConfig {
    /// The master keys that are named, by version; what can't be read is said.
    pub(crate) fn masters(&self) -> impl Iterator<Item = (i32, Result<MasterKey, String>)> {
        self.master_keys.iter().filter_map(|(name, secret)| {
            let version = name.parse().ok().filter(|version| *version >= FIRST_MASTER)?;
            let key = resolve(secret).and_then(|text| MasterKey::from_base64(&text).map_err(|error| error.to_string()));
            Some((version, key))
        })
    }

    /// Adds what a running broker takes over, also what the files say that keys are in.
    pub(super) fn add_to(&self, digest: &mut ring::digest::Context) {
        digest.update(format!("{}", self.wrap_with).as_bytes());
        for (version, secret) in &self.master_keys {
            digest.update(version.as_bytes());
            digest.update(&[0]);
            digest.update(resolve(secret).unwrap_or_default().as_bytes());
            digest.update(&[0]);
        }
    }

    pub(super) fn check(&self, check: &mut impl FnMut(bool, &str, &str)) {
        let second = Duration::from_secs(1);
        check((second / 100..=10 * second).contains(&self.look), "own_keys.look", "must be from 10ms to 10s");
        for name in self.master_keys.keys() {
            let is_version = name.parse::<i32>().is_ok_and(|version| version >= FIRST_MASTER);
            check(
                is_version,
                &format!("own_keys.master_keys.{name}"),
                "must be named by its version: 1, 2, 3 and so on",
            );
        }
        for (version, key) in self.masters() {
            if let Err(fault) = key {
                check(false, &format!("own_keys.master_keys.{version}"), &fault);
            }
        }
        let known = self.wrap_with == FIRST_MASTER || self.masters().any(|(version, _)| version == self.wrap_with);
        check(known, "own_keys.wrap_with", "names no version of [broker.own_keys.master_keys]");
    }
}
