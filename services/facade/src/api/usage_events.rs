//! Single events of usage.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use weir_proto::usage::v1 as proto;
use weir_rpc::Error;
use weir_types::{NanoUsd, UserId, names, unit};

use super::convert::{optional_id, required};
use super::extract::{ApiQuery, By};
use super::problem::Problem;
use crate::facade::Facade;

/// Which events.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// Only of this user.
    #[serde(default)]
    #[param(value_type = Option<Uuid>)]
    user_id: Option<UserId>,
    /// At most this many; 50 by default, 1,000 at most.
    #[serde(default)]
    page_size: i32,
    /// From the page before.
    #[serde(default)]
    page_token: String,
}

/// One use of a provider, or requests that needed none.
#[derive(Serialize, ToSchema)]
#[schema(as = UsageEvent)]
pub(crate) struct Event {
    id: String,
    time: DateTime<Utc>,
    user_id: Option<String>,
    api_key_id: Option<String>,
    provider: String,
    model: String,
    operation: String,
    /// How many requests it stands for: those that were answered without a provider are counted together.
    requests: i64,
    input_tokens: i64,
    cached_input_tokens: i64,
    output_tokens: i64,
    cost_nano_usd: i64,
    cost_usd: String,
    /// The caller's own key of the provider that it was made with; none: the platform's.
    provider_key_id: Option<String>,
    /// With such a key: what the provider charges its holder, by list price.
    own_cost_nano_usd: i64,
    /// Nobody saw the provider's own count.
    estimated: bool,
    /// `complete`, `cancelled`, `broken` or `unknown`.
    outcome: &'static str,
    latency_ms: i64,
    first_byte_ms: i64,
    request_id: String,
}

/// A page of events.
#[derive(Serialize, ToSchema)]
#[schema(as = UsageEvents)]
pub(crate) struct Events {
    events: Vec<Event>,
    /// Empty on the last page.
    next_page_token: String,
}

/// Lists single events, newest first.
#[utoipa::path(
    get, path = "/api/v1/usage/events", operation_id = "listUsageEvents", tag = "usage", params(EventsQuery),
    responses(
        (status = 200, description = "A page of events.", body = Events),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn list(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    ApiQuery(asked): ApiQuery<EventsQuery>,
) -> Result<Json<Events>, Problem> {
    let parent = names::organization(&caller.organization);
    let request = proto::ListEventsRequest {
        user: asked.user_id.map(|user| names::user(&caller.organization, &user)).unwrap_or_default(),
        parent,
        page_size: asked.page_size,
        page_token: asked.page_token,
    };
    let answer =
        facade.as_caller(&caller, request, async |request| facade.usage.clone().list_events(request).await).await?;
    let events = answer.events.into_iter().map(Event::try_from).collect::<Result<_, _>>()?;
    Ok(Json(Events { events, next_page_token: answer.next_page_token }))
}

impl TryFrom<proto::UsageEvent> for Event {
    type Error = Error;

    fn try_from(event: proto::UsageEvent) -> Result<Self, Error> {
        let outcome = match event.outcome() {
            proto::Outcome::Complete => "complete",
            proto::Outcome::Cancelled => "cancelled",
            proto::Outcome::Broken => "broken",
            proto::Outcome::Unknown | proto::Outcome::Unspecified => "unknown",
        };
        Ok(Self {
            time: required(event.event_time)?,
            user_id: optional_id(&event.user),
            api_key_id: optional_id(&event.api_key),
            outcome,
            id: event.event_id,
            provider: event.provider,
            model: event.model,
            operation: event.operation,
            requests: event.requests.max(1),
            input_tokens: event.input_tokens,
            cached_input_tokens: event.cached_input_tokens,
            output_tokens: event.output_tokens,
            cost_nano_usd: event.cost_nano_usd,
            cost_usd: NanoUsd(event.cost_nano_usd).to_usd_string(),
            provider_key_id: optional_id(&event.provider_key),
            own_cost_nano_usd: event.quantities.get(unit::OWN_NANO_USD).copied().unwrap_or_default(),
            estimated: event.estimated,
            latency_ms: event.latency_ms,
            first_byte_ms: event.first_byte_ms,
            request_id: event.request_id,
        })
    }
}
