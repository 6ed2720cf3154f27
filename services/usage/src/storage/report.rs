//! Questions about the hourly sums.

use chrono::{DateTime, Utc};
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::{Error, Unit};
use crate::domain::{Bucket, Dimension, FilterValue, Query, Sums};

/// The value of a grouped dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A user or an API key; the nil UUID for none.
    Id(Uuid),
    /// A name.
    Name(String),
}

/// Sums of one bucket and one combination of dimensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The bucket's start.
    pub bucket: DateTime<Utc>,
    /// The grouped dimensions, in the order of the query.
    pub values: Vec<Value>,
    /// The sums.
    pub sums: Sums,
}

/// At most `limit` lines that answer `query`, in the order of bucket and dimensions, after `after`.
///
/// # Errors
/// When the database fails.
pub async fn query(unit: &Unit, query: &Query, after: Option<&Line>, limit: i64) -> Result<Vec<Line>, Error> {
    let question = Question::new(query, after, limit);
    let parameters: Vec<(&(dyn ToSql + Sync), Type)> = question
        .parameters
        .iter()
        .map(|parameter| (&*parameter.0 as &(dyn ToSql + Sync), parameter.1.clone()))
        .collect();
    // Not prepared: the ways to ask are many, and a connection would keep each of them.
    let rows = unit.query_typed(&question.sql, &parameters).await?;
    let line = |row: &tokio_postgres::Row| {
        let mut values = Vec::with_capacity(query.group_by.len());
        for (at, dimension) in query.group_by.iter().enumerate() {
            values.push(match dimension {
                Dimension::User | Dimension::ApiKey => Value::Id(row.try_get(at + 1)?),
                Dimension::Model | Dimension::Provider | Dimension::Operation => Value::Name(row.try_get(at + 1)?),
            });
        }
        let sum = |at: usize| row.try_get(query.group_by.len() + 1 + at);
        let sums = Sums {
            requests: sum(0)?,
            input_tokens: sum(1)?,
            cached_input_tokens: sum(2)?,
            output_tokens: sum(3)?,
            cost_nano_usd: sum(4)?,
            estimated_requests: sum(5)?,
        };
        Ok(Line { bucket: row.try_get(0)?, values, sums })
    };
    rows.iter().map(line).collect()
}

struct Question {
    sql: String,
    parameters: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
}

impl Question {
    /// Every piece of the text is one of ours; what the caller says goes into parameters.
    fn new(query: &Query, after: Option<&Line>, limit: i64) -> Self {
        let mut question = Self { sql: String::new(), parameters: Vec::new() };
        let organization = question.bind(*query.organization.as_uuid(), Type::UUID);
        // Hours before the page's first bucket can't add to it.
        let start = question.bind(after.map_or(query.start, |line| line.bucket.max(query.start)), Type::TIMESTAMPTZ);
        let end = question.bind(query.end, Type::TIMESTAMPTZ);
        let bucket = match query.bucket {
            Bucket::Hour => "hour".to_owned(),
            Bucket::Day => "date_trunc('day', hour, 'UTC')".to_owned(),
            Bucket::Month => "date_trunc('month', hour, 'UTC')".to_owned(),
            Bucket::Total => question.bind(query.start, Type::TIMESTAMPTZ),
        };
        let mut conditions = format!("organization_id = {organization} and hour >= {start} and hour < {end}");
        for filter in &query.filters {
            let value = match &filter.value {
                FilterValue::User(id) => question.bind(id.map_or(Uuid::nil(), Into::into), Type::UUID),
                FilterValue::ApiKey(id) => question.bind(id.map_or(Uuid::nil(), Into::into), Type::UUID),
                FilterValue::Name(name) => question.bind(name.clone(), Type::TEXT),
            };
            conditions.push_str(&format!(" and {} = {value}", column_of(filter.dimension)));
        }
        let columns: Vec<&str> = query.group_by.iter().map(|dimension| column_of(*dimension)).collect();
        let dimensions: String = columns.iter().map(|column| format!(", {column}")).collect();
        let page = after.map_or_else(String::new, |line| {
            let mut place = question.bind(line.bucket, Type::TIMESTAMPTZ);
            for value in &line.values {
                place.push_str(", ");
                place.push_str(&match value {
                    Value::Id(id) => question.bind(*id, Type::UUID),
                    Value::Name(name) => question.bind(name.clone(), Type::TEXT),
                });
            }
            format!("where (bucket{dimensions}) > ({place})")
        });
        let limit = question.bind(limit, Type::INT8);
        question.sql = format!(
            "select * from (select {bucket} as bucket{dimensions}, sum(requests)::bigint, sum(input_tokens)::bigint, \
             sum(cached_input_tokens)::bigint, sum(output_tokens)::bigint, sum(cost_nano_usd)::bigint, \
             sum(estimated_requests)::bigint from usage.rollups_hourly where {conditions} \
             group by 1{dimensions} having sum(requests) > 0) lines {page} order by bucket{dimensions} limit {limit}"
        );
        question
    }

    fn bind(&mut self, value: impl ToSql + Sync + Send + 'static, kind: Type) -> String {
        self.parameters.push((Box::new(value), kind));
        format!("${}", self.parameters.len())
    }
}

const fn column_of(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::User => "user_id",
        Dimension::ApiKey => "api_key_id",
        Dimension::Model => "model",
        Dimension::Provider => "provider",
        Dimension::Operation => "operation",
    }
}
