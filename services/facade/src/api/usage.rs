//! Sums of usage.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use weir_proto::usage::v1 as proto;
use weir_rpc::Error;
use weir_types::{ApiKeyId, NanoUsd, UserId, names};

use super::convert::{id, required, timestamp};
use super::extract::{ApiQuery, By};
use super::problem::Problem;
use crate::facade::Facade;

/// The width of a time bucket, in UTC.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Bucket {
    /// Hours.
    Hour,
    /// Days.
    Day,
    /// Months.
    Month,
    /// One sum for the whole range.
    #[default]
    Total,
}

/// What to sum.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsageQuery {
    /// From this instant, widened to whole hours.
    start_time: DateTime<Utc>,
    /// Before this instant; at most 400 days later.
    end_time: DateTime<Utc>,
    #[serde(default)]
    #[param(inline)]
    bucket: Bucket,
    /// Of `user`, `api_key`, `model`, `provider`, `operation`: those to group by, with commas between.
    #[serde(default)]
    group_by: String,
    /// Only of this user.
    #[serde(default)]
    #[param(value_type = Option<Uuid>)]
    user_id: Option<UserId>,
    /// Only of this API key.
    #[serde(default)]
    #[param(value_type = Option<Uuid>)]
    api_key_id: Option<ApiKeyId>,
    /// Only of this model.
    #[serde(default)]
    model: Option<String>,
    /// Only of this provider.
    #[serde(default)]
    provider: Option<String>,
    /// At most this many rows; 100 by default, 10,000 at most.
    #[serde(default)]
    page_size: i32,
    /// From the page before.
    #[serde(default)]
    page_token: String,
}

/// Sums of one bucket and one combination of what is grouped by.
#[derive(Serialize, ToSchema)]
pub(crate) struct UsageRow {
    bucket_start: DateTime<Utc>,
    /// What is grouped by, by name.
    group: serde_json::Map<String, serde_json::Value>,
    requests: i64,
    input_tokens: i64,
    /// Of the input tokens.
    cached_input_tokens: i64,
    output_tokens: i64,
    cost_nano_usd: i64,
    cost_usd: String,
    /// Requests whose amounts are estimated.
    estimated_requests: i64,
}

/// A page of sums.
#[derive(Serialize, ToSchema)]
pub(crate) struct UsageRows {
    rows: Vec<UsageRow>,
    /// Empty on the last page.
    next_page_token: String,
}

const DIMENSIONS: [(&str, proto::Dimension); 5] = [
    ("user", proto::Dimension::User),
    ("api_key", proto::Dimension::ApiKey),
    ("model", proto::Dimension::Model),
    ("provider", proto::Dimension::Provider),
    ("operation", proto::Dimension::Operation),
];

fn dimensions(group_by: &str) -> Result<Vec<(&'static str, proto::Dimension)>, Error> {
    let names = group_by.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let known = DIMENSIONS.into_iter().find(|(known, _)| *known == name);
            known.ok_or_else(|| Error::invalid("group_by", "must be of user, api_key, model, provider, operation"))
        })
        .collect()
}

/// Sums usage by time and by what is asked for.
#[utoipa::path(
    get, path = "/api/v1/usage", operation_id = "queryUsage", tag = "usage", params(UsageQuery),
    responses(
        (status = 200, description = "A page of sums.", body = UsageRows),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn query(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    ApiQuery(asked): ApiQuery<UsageQuery>,
) -> Result<Json<UsageRows>, Problem> {
    let organization = names::organization(&caller.organization);
    let grouped = dimensions(&asked.group_by)?;
    let filters = [
        (proto::Dimension::User, asked.user_id.map(|user| names::user(&caller.organization, &user))),
        (proto::Dimension::ApiKey, asked.api_key_id.map(|key| names::api_key(&caller.organization, &key))),
        (proto::Dimension::Model, asked.model),
        (proto::Dimension::Provider, asked.provider),
    ];
    let filters = filters
        .into_iter()
        .filter_map(|(dimension, value)| Some(proto::DimensionFilter { dimension: dimension.into(), value: value? }));
    let bucket = match asked.bucket {
        Bucket::Hour => proto::Bucket::Hour,
        Bucket::Day => proto::Bucket::Day,
        Bucket::Month => proto::Bucket::Month,
        Bucket::Total => proto::Bucket::Total,
    };
    let request = proto::QueryUsageRequest {
        start_time: Some(timestamp(asked.start_time)),
        end_time: Some(timestamp(asked.end_time)),
        bucket: bucket.into(),
        group_by: grouped.iter().map(|(_, dimension)| (*dimension).into()).collect(),
        filters: filters.collect(),
        page_size: asked.page_size,
        page_token: asked.page_token,
        organization,
    };
    let answer =
        facade.as_caller(&caller, request, async |request| facade.usage.clone().query_usage(request).await).await?;
    let rows = answer.rows.into_iter().map(|row| UsageRow::new(row, &grouped)).collect::<Result<_, _>>()?;
    Ok(Json(UsageRows { rows, next_page_token: answer.next_page_token }))
}

impl UsageRow {
    fn new(row: proto::UsageRow, grouped: &[(&'static str, proto::Dimension)]) -> Result<Self, Error> {
        let values = row.dimensions.iter().map(|value| match value.starts_with("organizations/") {
            true => id(value).into(),
            false => value.as_str().into(),
        });
        Ok(Self {
            bucket_start: required(row.bucket_start)?,
            group: grouped.iter().map(|(name, _)| (*name).to_owned()).zip(values).collect(),
            requests: row.requests,
            input_tokens: row.input_tokens,
            cached_input_tokens: row.cached_input_tokens,
            output_tokens: row.output_tokens,
            cost_nano_usd: row.cost_nano_usd,
            cost_usd: NanoUsd(row.cost_nano_usd).to_usd_string(),
            estimated_requests: row.estimated_requests,
        })
    }
}
