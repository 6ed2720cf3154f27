//! A running broker's configuration: read again when its file or a key's file changes, and on SIGHUP.
//!
//! Everything that `weir serve` would refuse is refused here, too: then the old configuration stays in force, and the log and
//! `weir_config_reloads_total` say so. Only providers, keys and routes are taken over; the rest needs a restart.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, describe_counter};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_config::Errors;

use crate::config::WeirConfig;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Where a configuration comes from.
#[derive(Clone)]
pub(crate) struct Source {
    load: Arc<dyn Fn() -> Result<WeirConfig, Errors> + Send + Sync>,
}

impl Source {
    /// The file, the defaults beneath it and the environment on top.
    pub(crate) fn file(file: Option<PathBuf>) -> Self {
        Self::new(move || WeirConfig::load(file.clone()))
    }

    /// Whatever `load` loads.
    pub(crate) fn new(load: impl Fn() -> Result<WeirConfig, Errors> + Send + Sync + 'static) -> Self {
        Self { load: Arc::new(load) }
    }

    /// The broker's configurations, from the present one on.
    pub(crate) fn follow(&self, now: weir_ai_broker::Config) -> (Follower, watch::Receiver<weir_ai_broker::Config>) {
        let fingerprint = now.fingerprint();
        let (sender, receiver) = watch::channel(now);
        (Follower { source: self.clone(), fingerprint, refused: None, sender }, receiver)
    }
}

/// Looks for new configurations.
pub(crate) struct Follower {
    source: Source,
    /// Of what is in force, as far as it can be taken over.
    fingerprint: [u8; 32],
    /// What was refused last, so that it is said once.
    refused: Option<String>,
    sender: watch::Sender<weir_ai_broker::Config>,
}

impl Follower {
    /// Looks again and again until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        describe_counter!("weir_config_reloads_total", "Changed configurations that were read, by result.");
        let mut hang_up = match signal(SignalKind::hangup()) {
            Ok(signal) => Some(signal),
            Err(error) => {
                tracing::warn!(%error, "SIGHUP can't be received: a changed configuration is still noticed by itself");
                None
            }
        };
        loop {
            let asked = async {
                match &mut hang_up {
                    Some(signal) => signal.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep(LOOK) => self.look(false),
                _ = asked => self.look(true),
                () = stop.cancelled() => return,
            }
        }
    }

    /// Takes the configuration if it is another one and as it should be. Who `asked` for it hears of it in any case.
    fn look(&mut self, asked: bool) {
        match (self.source.load)() {
            Ok(config) => {
                self.refused = None;
                let fingerprint = config.broker.fingerprint();
                if fingerprint != self.fingerprint {
                    counter!("weir_config_reloads_total", "result" => "taken").increment(1);
                    self.fingerprint = fingerprint;
                    self.sender.send_replace(config.broker);
                } else if asked {
                    tracing::info!("the configuration of providers and routes has not changed");
                }
            }
            Err(errors) => {
                let errors = errors.to_string();
                if asked || self.refused.as_ref() != Some(&errors) {
                    counter!("weir_config_reloads_total", "result" => "refused").increment(1);
                    tracing::error!(%errors, "the changed configuration is refused: the old one stays in force");
                    self.refused = Some(errors);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn text(key: &str, more: &str) -> String {
        format!(
            "[broker.providers.p]\nbase_url = \"http://localhost/v1\"\nprice_list = \"x\"\nkeys.k = \"{key}\"\n{more}"
        )
    }

    #[test]
    fn a_changed_file_is_taken_and_a_bad_one_leaves_the_old_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let (file, secret) = (folder.path().join("weir.toml"), folder.path().join("key"));
        std::fs::write(&secret, "one").unwrap();
        let from_file = format!("file:{}", secret.display());
        std::fs::write(&file, text(&from_file, "")).unwrap();
        let source = Source::file(Some(file.clone()));
        let (mut follower, mut configs) = source.follow((source.load)().unwrap().broker);
        let mut is_new = |follower: &mut Follower| {
            follower.look(true);
            let new = configs.has_changed().unwrap();
            configs.borrow_and_update();
            new
        };
        assert!(!is_new(&mut follower), "nothing has changed");
        std::fs::write(&secret, "two").unwrap();
        assert!(is_new(&mut follower), "the secret behind the name has");
        std::fs::write(&file, text(&from_file, "[broker.routes.r]\nprovider = \"nobody\"\nmodel = \"m\"\n")).unwrap();
        assert!(!is_new(&mut follower));
        assert!(follower.refused.as_ref().unwrap().contains("names no provider"));
        std::fs::write(&file, text(&from_file, "[broker.own_keys]\nwrap_with = 2\n")).unwrap();
        assert!(!is_new(&mut follower));
        assert!(follower.refused.as_ref().unwrap().contains("names no version"));
        let master = "[broker.own_keys.master_keys]\n2 = \"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\"\n";
        std::fs::write(&file, text(&from_file, master)).unwrap();
        assert!(is_new(&mut follower), "a master key is taken over");
        std::fs::write(&file, "[broker.providers").unwrap();
        assert!(!is_new(&mut follower));
        std::fs::write(&file, text(&from_file, "[broker.routes.r]\nprovider = \"p\"\nmodel = \"m\"\n")).unwrap();
        assert!(is_new(&mut follower));
        std::fs::write(
            &file,
            text(&from_file, "[broker.routes.r]\nprovider = \"p\"\nmodel = \"m\"\n[quota]\nstore = \"memory\""),
        )
        .unwrap();
        assert!(!is_new(&mut follower), "what can't be taken over is not");
    }
}
