//! The configuration of providers, keys and routes, taken over while calls are under way.
//!
//! A call goes on with what it began with: the old provider, its keys, its line. New calls go by the new ones as soon as they are
//! there. What cannot be taken leaves everything as it was.

use std::sync::Arc;

use metrics::{Counter, counter, describe_counter};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::QueueOptions;
use super::fleet::Fleet;
use crate::config::Config;
use crate::provider::BadProvider;
use crate::storage::lines::Lines;

/// Puts providers to work.
pub(crate) struct Dispatch {
    pub(crate) lines: Lines,
    pub(crate) queue: QueueOptions,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

impl Dispatch {
    /// Keeps the lines of providers moving that were not there `before`.
    pub(crate) fn run_lines(&self, fleet: &Fleet, before: &Fleet) {
        for (name, provider) in &fleet.providers {
            if before.providers.get(name).is_some_and(|before| Arc::ptr_eq(&before.line, &provider.line)) {
                continue;
            }
            let line = Arc::clone(&provider.line);
            self.tasks.spawn(line.run(name.clone(), self.lines.clone(), self.queue, self.shutdown.clone()));
        }
    }
}

/// Takes new configurations over.
pub(crate) struct Reload {
    fleets: watch::Sender<Arc<Fleet>>,
    dispatch: Dispatch,
    taken: Counter,
    refused: Counter,
}

impl Reload {
    pub(crate) fn new(fleets: watch::Sender<Arc<Fleet>>, dispatch: Dispatch) -> Self {
        describe_counter!("weir_broker_reloads_total", "New configurations of providers and routes, by result.");
        let result = |result: &'static str| counter!("weir_broker_reloads_total", "result" => result);
        Self { fleets, dispatch, taken: result("taken"), refused: result("refused") }
    }

    /// Follows `configs` until `stop`, or until there can be no more.
    pub(crate) async fn run(self, mut configs: watch::Receiver<Config>, stop: CancellationToken) {
        // Otherwise nobody would be there to hear of providers.
        while let Some(Ok(())) = stop.run_until_cancelled(configs.changed()).await {
            let config = configs.borrow_and_update().clone();
            match self.take(&config) {
                Ok(()) => {
                    tracing::info!(
                        providers = config.providers.len(),
                        routes = config.routes.len(),
                        "the new configuration of providers and routes is in force"
                    );
                    self.taken.increment(1);
                }
                Err(error) => {
                    tracing::error!(%error, "the new configuration can't be taken: the old one stays in force");
                    self.refused.increment(1);
                }
            }
        }
        stop.cancelled().await;
    }

    fn take(&self, config: &Config) -> Result<(), BadProvider> {
        let before = Arc::clone(&self.fleets.borrow());
        let fleet = Arc::new(Fleet::new(config, &before)?);
        self.dispatch.run_lines(&fleet, &before);
        self.fleets.send_replace(fleet);
        Ok(())
    }
}
