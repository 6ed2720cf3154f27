//! What usage's feed says, as far as rating needs it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use weir_types::price::Tokens;
use weir_types::{NanoUsd, OrganizationId};

/// One use of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The reservation's id.
    pub event_id: Uuid,
    /// Who pays.
    pub organization: OrganizationId,
    /// The provider's name in the broker's configuration.
    pub provider: String,
    /// The model that answered.
    pub model: String,
    /// The version of the price book that it was priced with.
    pub price_version: String,
    /// When the call began.
    pub event_time: DateTime<Utc>,
    /// All input.
    pub input_tokens: i64,
    /// Of it, what was cached.
    pub cached_input_tokens: i64,
    /// All output.
    pub output_tokens: i64,
    /// Further quantities by unit.
    pub quantities: BTreeMap<String, i64>,
    /// What the broker computed.
    pub claimed: NanoUsd,
    /// Nobody saw the provider's own count.
    pub estimated: bool,
}

impl Usage {
    /// The tokens, as prices count them.
    #[must_use]
    pub const fn tokens(&self) -> Tokens {
        Tokens { input: self.input_tokens, cached_input: self.cached_input_tokens, output: self.output_tokens }
    }
}

/// An event became durable, or was superseded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// In the feed; grows with every change.
    pub position: i64,
    /// 1 for the first; each supersession adds one.
    pub revision: i32,
    /// As the feed spells it.
    pub event_id: String,
    /// The event, or why it can't be read.
    pub usage: Result<Usage, String>,
}
