//! `[broker.queue]`: how calls wait for a provider without room.

use std::time::Duration;

use serde::Deserialize;

use crate::app::QueueOptions;
use crate::domain::queue::{Millis, Rules};

/// The table `[broker.queue]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueueConfig {
    pub(crate) capacity: usize,
    #[serde(with = "weir_config::duration")]
    pub(crate) aging: Duration,
    pub(crate) turns: usize,
    #[serde(with = "weir_config::duration")]
    pub(crate) turn: Duration,
    #[serde(with = "weir_config::duration")]
    pub(crate) look: Duration,
    #[serde(with = "weir_config::duration")]
    pub(crate) beat: Duration,
}

impl QueueConfig {
    /// The line's rules.
    pub(crate) fn rules(&self) -> Rules {
        let millis = |span: Duration| Millis::try_from(span.as_millis()).unwrap_or(Millis::MAX);
        Rules { capacity: self.capacity, aging: millis(self.aging), turn: millis(self.turn) }
    }

    /// A broker that has said nothing for so long is taken for dead.
    pub(crate) fn lease(&self) -> Duration {
        5 * self.beat
    }
}

impl From<&QueueConfig> for QueueOptions {
    fn from(config: &QueueConfig) -> Self {
        Self { turns: config.turns, turn: config.turn, look: config.look, beat: config.beat }
    }
}
