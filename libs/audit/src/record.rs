//! What each service says about one id, in the few fields that are compared.

use prost_types::Timestamp;
use uuid::Uuid;
use weir_proto::billing::v1 as billing;
use weir_proto::quota::v1 as quota;
use weir_proto::usage::v1 as usage;
use weir_types::unit;

use crate::run::AuditError;

/// The source of events that have a reservation; products may record events of their own, which have none.
const BROKER: &str = "ai-broker";

/// What all three services say about one provider call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    /// That it stands for.
    pub(crate) requests: i64,
    pub(crate) input_tokens: i64,
    pub(crate) output_tokens: i64,
    pub(crate) cost_nano_usd: i64,
}

impl std::fmt::Display for Amounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} requests, {} in, {} out, {} n$",
            self.requests, self.input_tokens, self.output_tokens, self.cost_nano_usd
        )
    }
}

/// A record with the id that it is ordered by.
pub(crate) trait Record {
    fn id(&self) -> Uuid;
}

/// A reservation that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settlement {
    pub(crate) id: Uuid,
    pub(crate) organization: String,
    pub(crate) released: bool,
    pub(crate) estimated: bool,
    pub(crate) amounts: Amounts,
}

/// A provider call that usage recorded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) id: Uuid,
    pub(crate) organization: String,
    pub(crate) from_broker: bool,
    pub(crate) estimated: bool,
    pub(crate) cached_input_tokens: i64,
    pub(crate) amounts: Amounts,
    pub(crate) time: Timestamp,
}

/// An event that billing rated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rated {
    pub(crate) id: Uuid,
    pub(crate) organization: String,
    pub(crate) estimated: bool,
    pub(crate) cached_input_tokens: i64,
    pub(crate) amounts: Amounts,
}

impl Record for Settlement {
    fn id(&self) -> Uuid {
        self.id
    }
}

impl Record for Event {
    fn id(&self) -> Uuid {
        self.id
    }
}

impl Record for Rated {
    fn id(&self) -> Uuid {
        self.id
    }
}

fn parse(service: &'static str, id: &str) -> Result<Uuid, AuditError> {
    id.parse().map_err(|_| AuditError::Malformed { service, what: format!("`{id}` is no UUID") })
}

impl TryFrom<quota::Settlement> for Settlement {
    type Error = AuditError;

    fn try_from(from: quota::Settlement) -> Result<Self, AuditError> {
        let of = |unit: &str| from.amounts.iter().find(|amount| amount.unit == unit).map_or(0, |amount| amount.value);
        Ok(Self {
            id: parse("quota", &from.reservation_id)?,
            released: from.released,
            estimated: from.estimated,
            amounts: Amounts {
                requests: 1,
                input_tokens: of(unit::INPUT_TOKEN),
                output_tokens: of(unit::OUTPUT_TOKEN),
                cost_nano_usd: of(unit::NANO_USD),
            },
            organization: from.organization,
        })
    }
}

impl TryFrom<usage::UsageEvent> for Event {
    type Error = AuditError;

    fn try_from(from: usage::UsageEvent) -> Result<Self, AuditError> {
        let id = parse("usage", &from.event_id)?;
        let time = from
            .event_time
            .ok_or_else(|| AuditError::Malformed { service: "usage", what: format!("event {id} has no time") })?;
        Ok(Self {
            id,
            from_broker: from.source == BROKER,
            estimated: from.estimated,
            cached_input_tokens: from.cached_input_tokens,
            amounts: Amounts {
                requests: from.requests.max(1),
                input_tokens: from.input_tokens,
                output_tokens: from.output_tokens,
                cost_nano_usd: from.cost_nano_usd,
            },
            organization: from.organization,
            time,
        })
    }
}

impl TryFrom<billing::RatedEvent> for Rated {
    type Error = AuditError;

    fn try_from(from: billing::RatedEvent) -> Result<Self, AuditError> {
        Ok(Self {
            id: parse("billing", &from.event_id)?,
            estimated: from.estimated,
            cached_input_tokens: from.cached_input_tokens,
            amounts: Amounts {
                requests: from.requests.max(1),
                input_tokens: from.input_tokens,
                output_tokens: from.output_tokens,
                cost_nano_usd: from.amount_nano_usd,
            },
            organization: from.organization,
        })
    }
}
