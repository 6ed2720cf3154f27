//! One use of a provider.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use weir_types::{ApiKeyId, OrganizationId, ProviderKeyId, ReservationId, UserId};

/// How the provider call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Complete.
    Complete,
    /// The client left before the end.
    Cancelled,
    /// The provider broke off, or what it sent could not be read.
    Broken,
    /// Nobody saw how it ended.
    Unknown,
}

impl Outcome {
    /// The number that stands for it in the table and in the payload hash: never renumber.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::Complete => 1,
            Self::Cancelled => 2,
            Self::Broken => 3,
            Self::Unknown => 4,
        }
    }

    /// The outcome that `code` stands for.
    #[must_use]
    pub const fn from_code(code: i16) -> Option<Self> {
        match code {
            1 => Some(Self::Complete),
            2 => Some(Self::Cancelled),
            3 => Some(Self::Broken),
            4 => Some(Self::Unknown),
            _ => None,
        }
    }
}

/// One use of a provider, identified by `(organization, source, id)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The reservation's id, UUIDv7.
    pub id: ReservationId,
    /// Who recorded it.
    pub source: String,
    /// The tenant.
    pub organization: OrganizationId,
    /// The person, if there is one.
    pub user: Option<UserId>,
    /// The credential, if there is one.
    pub api_key: Option<ApiKeyId>,
    /// A name from the configuration.
    pub provider: String,
    /// The model that answered.
    pub model: String,
    /// `chat.completions`, `embeddings`, …
    pub operation: String,
    /// When the provider call began, in whole microseconds (what the database keeps).
    pub event_time: DateTime<Utc>,
    /// Tokens sent.
    pub input_tokens: i64,
    /// Of `input_tokens`.
    pub cached_input_tokens: i64,
    /// Tokens answered.
    pub output_tokens: i64,
    /// Further quantities by unit.
    pub quantities: BTreeMap<String, i64>,
    /// The price of it all.
    pub cost_nano_usd: i64,
    /// The price book's version.
    pub price_version: String,
    /// The amounts are assumed.
    pub estimated: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// Until the last byte.
    pub latency_ms: i64,
    /// Until the first byte.
    pub first_byte_ms: i64,
    /// The public request that caused it.
    pub request_id: String,
    /// The caller's own key that it was made with; none: the platform's.
    pub provider_key: Option<ProviderKeyId>,
    /// How many requests it stands for: one, but for those that used nothing.
    pub requests: i64,
}

impl Event {
    /// Whether nothing was used, for certain.
    #[must_use]
    pub fn used_nothing(&self) -> bool {
        let tokens = self.input_tokens | self.cached_input_tokens | self.output_tokens;
        tokens == 0 && self.cost_nano_usd == 0 && self.quantities.is_empty() && !self.estimated
    }
}
