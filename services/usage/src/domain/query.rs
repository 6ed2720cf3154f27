//! A question about sums.

use chrono::{DateTime, TimeDelta, Utc};
use weir_types::{ApiKeyId, OrganizationId, UserId};

use super::hour_of;

/// The widest range of one question.
pub const MAX_RANGE: TimeDelta = TimeDelta::days(400);

/// The width of a time bucket, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// An hour.
    Hour,
    /// A calendar day.
    Day,
    /// A calendar month.
    Month,
    /// One bucket for the whole range.
    Total,
}

/// What sums can be grouped and filtered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dimension {
    /// The person.
    User,
    /// The credential.
    ApiKey,
    /// The model.
    Model,
    /// The provider.
    Provider,
    /// The operation.
    Operation,
}

/// The value that a dimension must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterValue {
    /// This user, or none.
    User(Option<UserId>),
    /// This key, or none.
    ApiKey(Option<ApiKeyId>),
    /// This name.
    Name(String),
}

/// A condition on a dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Which one.
    pub dimension: Dimension,
    /// Its value.
    pub value: FilterValue,
}

/// A question about the sums of one organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The tenant.
    pub organization: OrganizationId,
    /// The first hour.
    pub start: DateTime<Utc>,
    /// The hour after the last.
    pub end: DateTime<Utc>,
    /// The width of a row's time.
    pub bucket: Bucket,
    /// One row for each combination of these.
    pub group_by: Vec<Dimension>,
    /// All must match.
    pub filters: Vec<Filter>,
}

/// Why a question can't be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuery {
    /// The range is empty or backwards.
    #[error("end_time must be after start_time")]
    EmptyRange,
    /// The range is too wide.
    #[error("the range must not be wider than 400 days")]
    TooWide,
    /// A dimension is named twice.
    #[error("a dimension is named twice")]
    RepeatedDimension,
    /// More filters than dimensions would need.
    #[error("at most 16 filters")]
    TooManyFilters,
}

impl Query {
    /// A question about `[start, end)`, widened to whole hours.
    ///
    /// # Errors
    /// When the range is empty or too wide, or dimensions repeat.
    pub fn new(
        organization: OrganizationId,
        (start, end): (DateTime<Utc>, DateTime<Utc>),
        bucket: Bucket,
        group_by: Vec<Dimension>,
        filters: Vec<Filter>,
    ) -> Result<Self, InvalidQuery> {
        if start >= end {
            return Err(InvalidQuery::EmptyRange);
        }
        if end - start > MAX_RANGE {
            return Err(InvalidQuery::TooWide);
        }
        if (1..group_by.len()).any(|i| group_by[..i].contains(&group_by[i])) {
            return Err(InvalidQuery::RepeatedDimension);
        }
        if filters.len() > 16 {
            return Err(InvalidQuery::TooManyFilters);
        }
        let last = hour_of(end);
        let end = if last == end { end } else { last + TimeDelta::hours(1) };
        Ok(Self { organization, start: hour_of(start), end, bucket, group_by, filters })
    }

    /// What a page token of this question is bound to.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("usage.QueryUsage {self:?}")
    }
}
