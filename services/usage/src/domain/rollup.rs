//! Hourly sums.

use chrono::{DateTime, Utc};
use weir_types::{ApiKeyId, OrganizationId, UserId};

use super::Event;

const HOUR_MICROS: i64 = 3_600_000_000;

/// The start of the hour that `time` lies in.
#[must_use]
pub fn hour_of(time: DateTime<Utc>) -> DateTime<Utc> {
    let micros = time.timestamp_micros();
    DateTime::from_timestamp_micros(micros - micros.rem_euclid(HOUR_MICROS)).unwrap_or(time)
}

/// What an event is summed up under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RollupKey<'a> {
    /// The tenant.
    pub organization: OrganizationId,
    /// The hour that the event's time lies in.
    pub hour: DateTime<Utc>,
    /// The person.
    pub user: Option<UserId>,
    /// The credential.
    pub api_key: Option<ApiKeyId>,
    /// The model.
    pub model: &'a str,
    /// The provider.
    pub provider: &'a str,
    /// The operation.
    pub operation: &'a str,
}

impl<'a> RollupKey<'a> {
    /// Where `event` belongs.
    #[must_use]
    pub fn of(event: &'a Event) -> Self {
        Self {
            organization: event.organization,
            hour: hour_of(event.event_time),
            user: event.user,
            api_key: event.api_key,
            model: &event.model,
            provider: &event.provider,
            operation: &event.operation,
        }
    }
}

/// Sums no longer fit into 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sums of these events do not fit into 64 bits")]
pub struct SumOverflow;

/// Sums over events, or by how much they move.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Requests that the events stand for.
    pub requests: i64,
    /// Tokens sent.
    pub input_tokens: i64,
    /// Of `input_tokens`.
    pub cached_input_tokens: i64,
    /// Tokens answered.
    pub output_tokens: i64,
    /// Nano-USD.
    pub cost_nano_usd: i64,
    /// Of `requests`, those whose amounts are estimated.
    pub estimated_requests: i64,
}

impl Sums {
    /// What `event` adds.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        Self {
            requests: event.requests,
            input_tokens: event.input_tokens,
            cached_input_tokens: event.cached_input_tokens,
            output_tokens: event.output_tokens,
            cost_nano_usd: event.cost_nano_usd,
            estimated_requests: i64::from(event.estimated),
        }
    }

    /// Adds `other`.
    ///
    /// # Errors
    /// When a sum no longer fits.
    pub fn add(&mut self, other: &Self) -> Result<(), SumOverflow> {
        self.merge(other, i64::checked_add)
    }

    /// Takes `other` away.
    ///
    /// # Errors
    /// When a difference no longer fits.
    pub fn subtract(&mut self, other: &Self) -> Result<(), SumOverflow> {
        self.merge(other, i64::checked_sub)
    }

    fn merge(&mut self, other: &Self, with: impl Fn(i64, i64) -> Option<i64>) -> Result<(), SumOverflow> {
        let merge = |a: i64, b: i64| with(a, b).ok_or(SumOverflow);
        *self = Self {
            requests: merge(self.requests, other.requests)?,
            input_tokens: merge(self.input_tokens, other.input_tokens)?,
            cached_input_tokens: merge(self.cached_input_tokens, other.cached_input_tokens)?,
            output_tokens: merge(self.output_tokens, other.output_tokens)?,
            cost_nano_usd: merge(self.cost_nano_usd, other.cost_nano_usd)?,
            estimated_requests: merge(self.estimated_requests, other.estimated_requests)?,
        };
        Ok(())
    }

    /// Whether these could be the sums of events, rather than only a difference between such sums.
    #[must_use]
    pub fn is_sum(&self) -> bool {
        let least =
            self.cached_input_tokens.min(self.output_tokens).min(self.cost_nano_usd).min(self.estimated_requests);
        least >= 0 && self.cached_input_tokens <= self.input_tokens && self.estimated_requests <= self.requests
    }

    /// Whether nothing moves.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}
