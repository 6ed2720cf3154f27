//! Statements and the ledger.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use weir_proto::billing::v1 as proto;
use weir_types::{NanoUsd, names};

use super::convert::{required, timestamp};
use super::extract::{ApiQuery, By};
use super::page::Page;
use super::problem::Problem;
use crate::facade::Facade;

/// A period.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Period {
    /// From this instant.
    start_time: DateTime<Utc>,
    /// Before this instant; at most 400 days later.
    end_time: DateTime<Utc>,
}

/// Usage of one model.
#[derive(Serialize, ToSchema)]
#[schema(as = StatementLine)]
pub(crate) struct Line {
    provider: String,
    model: String,
    requests: i64,
    input_tokens: i64,
    cached_input_tokens: i64,
    output_tokens: i64,
    amount_nano_usd: i64,
    amount_usd: String,
    /// Requests whose amounts are estimated.
    estimated_requests: i64,
    /// They were made with callers' own keys of the provider: counted, and charged by the provider itself.
    own_key: bool,
}

/// What the organisation used and owes in a period.
#[derive(Serialize, ToSchema)]
pub(crate) struct Statement {
    start_time: DateTime<Utc>,
    end_time: DateTime<Utc>,
    lines: Vec<Line>,
    total_nano_usd: i64,
    total_usd: String,
    /// Calls that are recorded and not rated yet; 0 when the statement is complete.
    unrated_events: i64,
}

/// What the organisation used and owes in a period, by model.
#[utoipa::path(
    get, path = "/api/v1/statement", operation_id = "getStatement", tag = "billing", params(Period),
    responses(
        (status = 200, description = "The statement.", body = Statement),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn get(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    ApiQuery(period): ApiQuery<Period>,
) -> Result<Json<Statement>, Problem> {
    let request = proto::GetStatementRequest {
        organization: names::organization(&caller.organization),
        start_time: Some(timestamp(period.start_time)),
        end_time: Some(timestamp(period.end_time)),
    };
    let answer =
        facade.as_caller(&caller, request, async |request| facade.billing.clone().get_statement(request).await).await?;
    Ok(Json(Statement {
        start_time: required(answer.start_time)?,
        end_time: required(answer.end_time)?,
        lines: answer.lines.into_iter().map(Line::from).collect(),
        total_nano_usd: answer.total_nano_usd,
        total_usd: NanoUsd(answer.total_nano_usd).to_usd_string(),
        unrated_events: answer.unrated_events,
    }))
}

impl From<proto::StatementLine> for Line {
    fn from(line: proto::StatementLine) -> Self {
        Self {
            provider: line.provider,
            model: line.model,
            requests: line.requests,
            input_tokens: line.input_tokens,
            cached_input_tokens: line.cached_input_tokens,
            output_tokens: line.output_tokens,
            amount_nano_usd: line.amount_nano_usd,
            amount_usd: NanoUsd(line.amount_nano_usd).to_usd_string(),
            estimated_requests: line.estimated_requests,
            own_key: line.own_key,
        }
    }
}

/// One side of a ledger transaction.
#[derive(Serialize, ToSchema)]
#[schema(as = LedgerEntry)]
pub(crate) struct Entry {
    /// The sides of a transaction sum to zero.
    transaction_id: String,
    account: String,
    /// Debit above zero, credit below.
    amount_nano_usd: i64,
    amount_usd: String,
    description: String,
    create_time: DateTime<Utc>,
}

/// A page of ledger entries.
#[derive(Serialize, ToSchema)]
#[schema(as = LedgerEntries)]
pub(crate) struct Entries {
    entries: Vec<Entry>,
    /// Empty on the last page.
    next_page_token: String,
}

/// The organisation's ledger entries, newest first.
#[utoipa::path(
    get, path = "/api/v1/ledger", operation_id = "listLedgerEntries", tag = "billing", params(Page),
    responses(
        (status = 200, description = "A page of entries.", body = Entries),
        (status = "default", description = "A refusal.", body = Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn ledger(
    State(facade): State<Arc<Facade>>,
    By(caller): By,
    ApiQuery(page): ApiQuery<Page>,
) -> Result<Json<Entries>, Problem> {
    let parent = names::organization(&caller.organization);
    let request = proto::ListLedgerEntriesRequest { parent, page_size: page.page_size, page_token: page.page_token };
    let answer = facade
        .as_caller(&caller, request, async |request| facade.billing.clone().list_ledger_entries(request).await)
        .await?;
    let mut entries = Vec::with_capacity(answer.entries.len());
    for entry in answer.entries {
        entries.push(Entry {
            create_time: required(entry.create_time)?,
            amount_usd: NanoUsd(entry.amount_nano_usd).to_usd_string(),
            transaction_id: entry.transaction_id,
            account: entry.account,
            amount_nano_usd: entry.amount_nano_usd,
            description: entry.description,
        });
    }
    Ok(Json(Entries { entries, next_page_token: answer.next_page_token }))
}
