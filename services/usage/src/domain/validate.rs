//! What an event must be like to be recorded.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;
use weir_types::{MAX_AMOUNT, unit};

use super::Event;

const MAX_NAME_BYTES: usize = 256;
const MAX_QUANTITIES: usize = 32;

/// Why an event is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// The field, as the contract spells it.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl Invalid {
    /// `field` has `problem`.
    pub fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }
}

/// How far from now an event may lie.
#[derive(Debug, Clone, Copy)]
pub struct Horizon {
    /// How late it may come.
    pub past: TimeDelta,
    /// How far a sender's clock may be ahead.
    pub future: TimeDelta,
}

/// Checks `event` at the time `now`.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn validate(event: &Event, now: DateTime<Utc>, horizon: &Horizon) -> Result<(), Invalid> {
    let id = event.id.as_uuid();
    // Lists and scans are in the order of ids, which is the order of time for this version only.
    if id.get_version_num() != 7 {
        return Err(Invalid::new("event_id", "must be a UUIDv7"));
    }
    present("organization", Some(event.organization.as_uuid()))?;
    present("user", event.user.as_ref().map(weir_types::UserId::as_uuid))?;
    present("api_key", event.api_key.as_ref().map(weir_types::ApiKeyId::as_uuid))?;
    present("provider_key", event.provider_key.as_ref().map(weir_types::ProviderKeyId::as_uuid))?;
    name("source", &event.source, true)?;
    name("provider", &event.provider, true)?;
    name("model", &event.model, true)?;
    name("operation", &event.operation, true)?;
    name("price_version", &event.price_version, false)?;
    name("request_id", &event.request_id, false)?;
    if event.event_time > now + horizon.future {
        return Err(Invalid::new("event_time", format!("lies in the future: it is {now} now")));
    }
    if event.event_time < now - horizon.past {
        return Err(Invalid::new("event_time", format!("more than {} days ago", horizon.past.num_days())));
    }
    amount("input_tokens", event.input_tokens)?;
    amount("cached_input_tokens", event.cached_input_tokens)?;
    amount("output_tokens", event.output_tokens)?;
    amount("cost_nano_usd", event.cost_nano_usd)?;
    amount("latency_ms", event.latency_ms)?;
    amount("first_byte_ms", event.first_byte_ms)?;
    amount("requests", event.requests)?;
    if event.requests != 1 && !event.used_nothing() {
        return Err(Invalid::new("requests", "must be 1 of what was used: each use is recorded by itself"));
    }
    if event.provider_key.is_some() && event.cost_nano_usd != 0 {
        return Err(Invalid::new("cost_nano_usd", "must be 0 with a key of the caller's own"));
    }
    if event.cached_input_tokens > event.input_tokens {
        return Err(Invalid::new("cached_input_tokens", "more than input_tokens, of which they are a part"));
    }
    if event.quantities.len() > MAX_QUANTITIES {
        return Err(Invalid::new("quantities", format!("more than {MAX_QUANTITIES} units")));
    }
    for (unit, quantity) in &event.quantities {
        if !unit::is_valid(unit) {
            return Err(Invalid::new("quantities", "a unit must match [a-z][a-z0-9_]{0,62}"));
        }
        amount("quantities", *quantity)?;
    }
    Ok(())
}

// The nil UUID stands for "none" in the rollups' key.
fn present(field: &'static str, id: Option<&Uuid>) -> Result<(), Invalid> {
    if id.is_some_and(Uuid::is_nil) { Err(Invalid::new(field, "must not be the nil UUID")) } else { Ok(()) }
}

fn name(field: &'static str, text: &str, required: bool) -> Result<(), Invalid> {
    if required && text.is_empty() {
        return Err(Invalid::new(field, "missing"));
    }
    if text.len() > MAX_NAME_BYTES {
        return Err(Invalid::new(field, format!("longer than {MAX_NAME_BYTES} bytes")));
    }
    // PostgreSQL has no NUL in text, and none of these is prose.
    if text.chars().any(char::is_control) {
        return Err(Invalid::new(field, "has a control character"));
    }
    Ok(())
}

fn amount(field: &'static str, amount: i64) -> Result<(), Invalid> {
    if amount < 0 {
        return Err(Invalid::new(field, "must not be negative"));
    }
    if amount > MAX_AMOUNT {
        return Err(Invalid::new(field, "more than 2^53 - 1"));
    }
    Ok(())
}
