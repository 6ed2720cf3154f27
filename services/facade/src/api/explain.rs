//! Why calls were admitted or refused, and who holds what.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use weir_proto::common::v1::Amount;
use weir_proto::quota::v1 as proto;
use weir_rpc::Error;
use weir_types::{ApiKeyId, ReservationId, UserId, names};

use super::balance::Limit;
use super::convert::{instant, optional_id, required};
use super::extract::{ApiQuery, By};
use super::problem::Problem;
use crate::facade::Facade;

/// About what.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExplainQuery {
    /// Only about this reservation.
    #[param(value_type = Option<Uuid>)]
    reservation_id: Option<ReservationId>,
    /// Only of this user.
    #[param(value_type = Option<Uuid>)]
    user_id: Option<UserId>,
    /// Only of this API key.
    #[param(value_type = Option<Uuid>)]
    api_key_id: Option<ApiKeyId>,
    /// At most so many holders, and so many decisions; 50 by default, 500 at most.
    #[serde(default)]
    page_size: i32,
}

/// Limits now, who holds what, and the last decisions.
#[derive(Serialize, ToSchema)]
pub(crate) struct Explanation {
    /// Every limit that applies, now.
    limits: Vec<Limit>,
    /// Reservations of calls under way, oldest first.
    holders: Vec<Decision>,
    /// There are more than these.
    more_holders: bool,
    /// How reservations ended, and a sample of what was refused, newest first.
    decisions: Vec<Decision>,
    /// There are older ones.
    more_decisions: bool,
    /// What could not be found out, and why, in words.
    missing: Vec<String>,
}

/// What was decided about a reservation.
#[derive(Serialize, ToSchema)]
pub(crate) struct Decision {
    reservation_id: String,
    time: DateTime<Utc>,
    /// `held`, `expired` (its lease has ended, and it waits to be settled), `committed`, `released` or `refused`.
    state: &'static str,
    user_id: Option<String>,
    api_key_id: Option<String>,
    /// The caller's address, where it was given.
    ip: Option<String>,
    /// The anonymous visitor, where one was given.
    visitor: Option<String>,
    /// Further scopes of the call.
    labels: BTreeMap<String, String>,
    /// What was asked for, by unit.
    amounts: BTreeMap<String, i64>,
    /// The limits that applied, at that moment.
    limits: Vec<DecidedLimit>,
    /// It was admitted while the counters could not be asked.
    without_store: bool,
    /// Of one that is held: until its lease ends.
    lease_left_seconds: Option<i64>,
    /// Of one that ended: when.
    settle_time: Option<DateTime<Utc>>,
    /// Of a committed one: with what, by unit.
    charged: BTreeMap<String, i64>,
    /// What is charged is assumed: nobody saw the true amounts.
    estimated: bool,
    /// What had been assumed before the true amounts came.
    replaced: BTreeMap<String, i64>,
    /// It ended after its lease.
    late: bool,
    /// Of a refused one: why, for programs and for people.
    reason: Option<String>,
    message: Option<String>,
    /// Of a refused one: so many refusals before it are not in the log.
    suppressed: i64,
}

/// A limit at the moment of a decision.
#[derive(Serialize, ToSchema)]
pub(crate) struct DecidedLimit {
    /// The limit's name in the plan.
    name: String,
    /// What it counts.
    unit: String,
    /// Whom it counts by.
    scope: String,
    /// Whose counter; absent for the organisation's own.
    subject: Option<String>,
    /// How much was asked for.
    requested: i64,
    /// The limit's amount then. Absent where it is not known any more, as are the next two.
    limit: Option<i64>,
    /// Committed and held, with this reservation if it was admitted.
    used: Option<i64>,
    /// Of `used`, what was held.
    held: Option<i64>,
    /// It refused.
    refused: bool,
    /// Of a refused one: until all of it would be free again.
    reset_after_seconds: Option<i64>,
    /// Of a refused one: until it was worth trying again. Absent if waiting did not help.
    retry_after_seconds: Option<i64>,
}

/// Explains what limits decided: about one reservation, or for the organisation, a user or an API key.
#[utoipa::path(
    get, path = "/api/v1/limits/explain", operation_id = "explainLimits", tag = "limits", params(ExplainQuery),
    responses(
        (status = 200, description = "What is known.", body = Explanation),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn get(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    ApiQuery(asked): ApiQuery<ExplainQuery>,
) -> Result<Json<Explanation>, Problem> {
    let organization = &caller.organization;
    let subject = proto::Subject {
        organization: names::organization(organization),
        user: asked.user_id.map(|user| names::user(organization, &user)).unwrap_or_default(),
        api_key: asked.api_key_id.map(|key| names::api_key(organization, &key)).unwrap_or_default(),
        ..proto::Subject::default()
    };
    let request = proto::ExplainRequest {
        subject: Some(subject),
        reservation_id: asked.reservation_id.map(|id| id.to_string()).unwrap_or_default(),
        page_size: asked.page_size,
    };
    let answer =
        facade.as_caller(&caller, request, async |request| facade.quota.clone().explain(request).await).await?;
    let decisions = |list: Vec<proto::Decision>| list.into_iter().map(Decision::try_from).collect::<Result<_, Error>>();
    Ok(Json(Explanation {
        limits: answer.limits.into_iter().map(Limit::from).collect(),
        holders: decisions(answer.holders)?,
        more_holders: answer.more_holders,
        decisions: decisions(answer.decisions)?,
        more_decisions: answer.more_decisions,
        missing: answer.missing,
    }))
}

impl TryFrom<proto::Decision> for Decision {
    type Error = Error;

    fn try_from(decision: proto::Decision) -> Result<Self, Error> {
        let state = match decision.state() {
            proto::DecisionState::Held => "held",
            proto::DecisionState::Expired => "expired",
            proto::DecisionState::Committed => "committed",
            proto::DecisionState::Released => "released",
            proto::DecisionState::Refused => "refused",
            proto::DecisionState::Unspecified => return Err(Error::defect("quota answered without a state")),
        };
        let reason = decision.reason().as_str_name().trim_start_matches("ERROR_REASON_").to_ascii_lowercase();
        let is_refused = state == "refused";
        let subject = decision.subject.unwrap_or_default();
        Ok(Self {
            reservation_id: decision.reservation_id,
            time: required(decision.decision_time)?,
            state,
            user_id: optional_id(&subject.user),
            api_key_id: optional_id(&subject.api_key),
            ip: Some(subject.ip).filter(|ip| !ip.is_empty()),
            visitor: Some(subject.visitor).filter(|visitor| !visitor.is_empty()),
            labels: subject.labels.into_iter().collect(),
            amounts: by_unit(decision.amounts),
            limits: decision.limits.into_iter().map(DecidedLimit::from).collect(),
            without_store: decision.without_store,
            lease_left_seconds: decision.lease_left.map(|left| left.seconds),
            settle_time: instant(decision.settle_time),
            charged: by_unit(decision.charged),
            estimated: decision.estimated,
            replaced: by_unit(decision.replaced),
            late: decision.late,
            reason: is_refused.then_some(reason),
            message: is_refused.then_some(decision.message),
            suppressed: decision.suppressed,
        })
    }
}

impl From<proto::DecidedLimit> for DecidedLimit {
    fn from(limit: proto::DecidedLimit) -> Self {
        let seconds = |span: Option<prost_types::Duration>| span.map(|span| span.seconds + i64::from(span.nanos > 0));
        Self {
            name: limit.limit,
            unit: limit.unit,
            scope: limit.scope,
            subject: Some(limit.subject).filter(|subject| !subject.is_empty()),
            requested: limit.amount,
            limit: limit.cap,
            used: limit.used,
            held: limit.held,
            refused: limit.refused,
            reset_after_seconds: seconds(limit.reset_after),
            retry_after_seconds: seconds(limit.retry_after),
        }
    }
}

fn by_unit(amounts: Vec<Amount>) -> BTreeMap<String, i64> {
    amounts.into_iter().map(|amount| (amount.unit, amount.value)).collect()
}
