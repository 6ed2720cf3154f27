//! Sums by time bucket and dimensions.

use chrono::DateTime;
use uuid::Uuid;
use weir_types::{InvalidPageToken, PageToken, page_size};

use crate::domain::{Dimension, Query, Sums};
use crate::error::Error;
use crate::storage::Store;
use crate::storage::report::{self, Line, Value};

/// A page of which answer.
#[derive(Debug, Clone)]
pub struct QueryUsage {
    /// The question.
    pub query: Query,
    /// 0 is 100, more than 10,000 is 10,000.
    pub page_size: i32,
    /// Empty for the first page.
    pub page_token: String,
}

/// The lines of a page, and the token of the next, empty after the last.
///
/// # Errors
/// When the page token is of another question or the database fails.
pub async fn query_usage(store: &Store, request: &QueryUsage) -> Result<(Vec<Line>, String), Error> {
    let limit = page_size(request.page_size, 100, 10_000)?;
    let query = &request.query;
    let identity = query.identity();
    let after = match request.page_token.as_str() {
        "" => None,
        token => Some(place(query, &PageToken::decode(&identity, token)?).ok_or(InvalidPageToken)?),
    };
    let unit = store.begin_tenant(query.organization).await?;
    let mut lines = report::query(&unit, query, after.as_ref(), i64::from(limit) + 1).await?;
    unit.commit().await?;
    let more = lines.len() > limit as usize;
    lines.truncate(limit as usize);
    let next = lines.last().filter(|_| more).map(|last| PageToken::encode(&identity, &cursor(last)));
    Ok((lines, next.unwrap_or_default()))
}

fn cursor(line: &Line) -> String {
    let values: Vec<String> = line
        .values
        .iter()
        .map(|value| match value {
            Value::Id(id) => id.to_string(),
            Value::Name(name) => name.clone(),
        })
        .collect();
    serde_json::json!([line.bucket.timestamp_micros(), values]).to_string()
}

fn place(query: &Query, cursor: &str) -> Option<Line> {
    let (bucket, values): (i64, Vec<String>) = serde_json::from_str(cursor).ok()?;
    if values.len() != query.group_by.len() {
        return None;
    }
    let value = |(dimension, text): (&Dimension, String)| match dimension {
        Dimension::User | Dimension::ApiKey => Uuid::try_parse(&text).ok().map(Value::Id),
        Dimension::Model | Dimension::Provider | Dimension::Operation => Some(Value::Name(text)),
    };
    Some(Line {
        bucket: DateTime::from_timestamp_micros(bucket)?,
        values: query.group_by.iter().zip(values).map(value).collect::<Option<_>>()?,
        sums: Sums::default(),
    })
}
