//! What usage's feed says, as far as rating needs it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use weir_types::price::Metered;
use weir_types::{NanoUsd, OrganizationId};

/// One use of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// The reservation's id.
    pub(crate) event_id: Uuid,
    /// Who pays.
    pub(crate) organization: OrganizationId,
    /// The provider's name in the broker's configuration.
    pub(crate) provider: String,
    /// The model that answered.
    pub(crate) model: String,
    /// The version of the price book that it was priced with.
    pub(crate) price_version: String,
    /// When the call began.
    pub(crate) event_time: DateTime<Utc>,
    /// All input.
    pub(crate) input_tokens: i64,
    /// Of it, what was cached.
    pub(crate) cached_input_tokens: i64,
    /// All output.
    pub(crate) output_tokens: i64,
    /// Further quantities by unit.
    pub(crate) quantities: BTreeMap<String, i64>,
    /// What the broker computed.
    pub(crate) claimed: NanoUsd,
    /// Nobody saw the provider's own count.
    pub(crate) estimated: bool,
    /// It was made with a key of the caller's own. Missing in what was stored before there were any.
    #[serde(default)]
    pub(crate) own_key: bool,
    /// How many requests it stands for. Missing in what was stored before it could be more than one.
    #[serde(default = "one")]
    pub(crate) requests: i64,
}

const fn one() -> i64 {
    1
}

impl Usage {
    /// What was used, as prices count it.
    #[must_use]
    pub(crate) fn metered(&self) -> Metered {
        Metered::of_event(self.input_tokens, self.cached_input_tokens, self.output_tokens, &self.quantities)
    }
}

/// An event became durable, or was superseded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// In the feed; grows with every change.
    pub(crate) position: i64,
    /// 1 for the first; each supersession adds one.
    pub(crate) revision: i32,
    /// As the feed spells it.
    pub(crate) event_id: String,
    /// The event, or why it can't be read.
    pub(crate) usage: Result<Usage, String>,
}
