//! From the contract to the domain.

use chrono::{DateTime, NaiveDate, Utc};
use prost_types::Timestamp;
use uuid::Uuid;
use weir_proto::usage::v1 as pb;
use weir_rpc::Error;
use weir_types::{ApiKeyId, OrganizationId, ProviderKeyId, ReservationId, UserId, names};

use crate::app::{ListEvents, QueryUsage};
use crate::domain::{Bucket, Dimension, Event, Filter, FilterValue, Invalid, Outcome, Query};

/// Reads an event.
pub(super) fn event(event: pb::UsageEvent) -> Result<Event, Invalid> {
    let organization = names::parse_organization(&event.organization).map_err(wrong("organization"))?;
    let outcome = event.outcome();
    Ok(Event {
        id: event.event_id.parse::<ReservationId>().map_err(wrong("event_id"))?,
        source: event.source,
        organization,
        user: optional(&event.user, |name| user(organization, name)).map_err(|text| Invalid::new("user", text))?,
        api_key: optional(&event.api_key, |name| api_key(organization, name))
            .map_err(|text| Invalid::new("api_key", text))?,
        provider: event.provider,
        model: event.model,
        operation: event.operation,
        event_time: event
            .event_time
            .ok_or("missing")
            .and_then(|at| time(at).ok_or("not a time between the years 1 and 9999"))
            .map_err(|text| Invalid::new("event_time", text))?,
        input_tokens: event.input_tokens,
        cached_input_tokens: event.cached_input_tokens,
        output_tokens: event.output_tokens,
        quantities: event.quantities.into_iter().collect(),
        cost_nano_usd: event.cost_nano_usd,
        price_version: event.price_version,
        estimated: event.estimated,
        outcome: match outcome {
            pb::Outcome::Unspecified => return Err(Invalid::new("outcome", "missing or unknown")),
            pb::Outcome::Complete => Outcome::Complete,
            pb::Outcome::Cancelled => Outcome::Cancelled,
            pb::Outcome::Broken => Outcome::Broken,
            pb::Outcome::Unknown => Outcome::Unknown,
        },
        latency_ms: event.latency_ms,
        first_byte_ms: event.first_byte_ms,
        request_id: event.request_id,
        provider_key: optional(&event.provider_key, |name| provider_key(organization, name))
            .map_err(|text| Invalid::new("provider_key", text))?,
        requests: if event.requests == 0 { 1 } else { event.requests },
    })
}

/// Reads a question.
pub(super) fn question(organization: OrganizationId, request: pb::QueryUsageRequest) -> Result<QueryUsage, Error> {
    let moment = |field: &str, at: Option<Timestamp>| {
        at.ok_or_else(|| Error::invalid(field, "missing"))
            .and_then(|at| time(at).ok_or_else(|| Error::invalid(field, "not a time between the years 1 and 9999")))
    };
    let range = (moment("start_time", request.start_time)?, moment("end_time", request.end_time)?);
    let bucket = match pb::Bucket::try_from(request.bucket) {
        Ok(pb::Bucket::Hour) => Bucket::Hour,
        Ok(pb::Bucket::Day) => Bucket::Day,
        Ok(pb::Bucket::Month) => Bucket::Month,
        Ok(pb::Bucket::Unspecified | pb::Bucket::Total) => Bucket::Total,
        Err(_) => return Err(Error::invalid("bucket", "unknown")),
    };
    let group_by = request.group_by.iter().enumerate().map(|(at, raw)| dimension(*raw, &format!("group_by[{at}]")));
    let group_by = group_by.collect::<Result<_, _>>()?;
    let filters = request.filters.into_iter().enumerate().map(|(at, raw)| filter(organization, raw, at));
    let filters = filters.collect::<Result<_, _>>()?;
    let query = Query::new(organization, range, bucket, group_by, filters).map_err(crate::error::Error::from)?;
    Ok(QueryUsage { query, page_size: request.page_size, page_token: request.page_token })
}

/// Reads what is to be listed.
pub(super) fn list(organization: OrganizationId, request: pb::ListEventsRequest) -> Result<ListEvents, Error> {
    let user = optional(&request.user, |name| user(organization, name)).map_err(|text| Error::invalid("user", text))?;
    Ok(ListEvents { organization, user, page_size: request.page_size, page_token: request.page_token })
}

/// Reads where a scan goes on.
pub(super) fn scan_after(id: &str) -> Result<ReservationId, Error> {
    let id = optional(id, |id| id.parse::<ReservationId>().map_err(|error| error.to_string()));
    Ok(id.map_err(|text| Error::invalid("after", text))?.unwrap_or(Uuid::nil().into()))
}

fn filter(organization: OrganizationId, filter: pb::DimensionFilter, at: usize) -> Result<Filter, Error> {
    let field = format!("filters[{at}].value");
    let dimension = dimension(filter.dimension, &format!("filters[{at}].dimension"))?;
    let value = match dimension {
        Dimension::User => FilterValue::User(
            optional(&filter.value, |name| user(organization, name)).map_err(|text| Error::invalid(field, text))?,
        ),
        Dimension::ApiKey => FilterValue::ApiKey(
            optional(&filter.value, |name| api_key(organization, name)).map_err(|text| Error::invalid(field, text))?,
        ),
        Dimension::Model | Dimension::Provider | Dimension::Operation => {
            // No recorded name has one, and PostgreSQL takes no text with a NUL.
            if filter.value.chars().any(char::is_control) {
                return Err(Error::invalid(field, "has a control character"));
            }
            FilterValue::Name(filter.value)
        }
    };
    Ok(Filter { dimension, value })
}

fn dimension(raw: i32, field: &str) -> Result<Dimension, Error> {
    match pb::Dimension::try_from(raw) {
        Ok(pb::Dimension::User) => Ok(Dimension::User),
        Ok(pb::Dimension::ApiKey) => Ok(Dimension::ApiKey),
        Ok(pb::Dimension::Model) => Ok(Dimension::Model),
        Ok(pb::Dimension::Provider) => Ok(Dimension::Provider),
        Ok(pb::Dimension::Operation) => Ok(Dimension::Operation),
        Ok(pb::Dimension::Unspecified) | Err(_) => Err(Error::invalid(field, "missing or unknown")),
    }
}

fn user(organization: OrganizationId, name: &str) -> Result<UserId, String> {
    let (owner, id) = names::parse_user(name).map_err(|error| error.to_string())?;
    if owner == organization { Ok(id) } else { Err("of another organisation".to_owned()) }
}

fn api_key(organization: OrganizationId, name: &str) -> Result<ApiKeyId, String> {
    let (owner, id) = names::parse_api_key(name).map_err(|error| error.to_string())?;
    if owner == organization { Ok(id) } else { Err("of another organisation".to_owned()) }
}

fn provider_key(organization: OrganizationId, name: &str) -> Result<ProviderKeyId, String> {
    let (owner, id) = names::parse_provider_key(name).map_err(|error| error.to_string())?;
    if owner == organization { Ok(id) } else { Err("of another organisation".to_owned()) }
}

fn optional<T>(text: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text.is_empty() { Ok(None) } else { read(text).map(Some) }
}

fn wrong<E: std::fmt::Display>(field: &'static str) -> impl FnOnce(E) -> Invalid {
    move |error| Invalid::new(field, error.to_string())
}

/// A time in whole microseconds, in the range that protobuf and PostgreSQL share.
fn time(at: Timestamp) -> Option<DateTime<Utc>> {
    let micros = u32::try_from(at.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)? / 1000 * 1000;
    let time = DateTime::from_timestamp(at.seconds, micros)?;
    let first = NaiveDate::from_ymd_opt(1, 1, 1)?;
    let last = NaiveDate::from_ymd_opt(9999, 12, 31)?;
    (first..last).contains(&time.date_naive()).then_some(time)
}
