//! Holds the sums that services keep (usage's hourly rollups, billing's statements) against their own records.

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use prost_types::Timestamp;
use weir_proto::billing::v1::GetStatementRequest;
use weir_proto::billing::v1::billing_service_client::BillingServiceClient;
use weir_proto::usage::v1::usage_service_client::UsageServiceClient;
use weir_proto::usage::v1::{Bucket, QueryUsageRequest};

use crate::books::Books;
use crate::check::{Check, Finding};
use crate::report::Totals;
use crate::run::{AuditError, Services, answered};

const HOUR: i64 = 3_600;
/// Both services answer for at most 400 days.
const LONGEST_SPAN: i64 = 396 * 24 * HOUR;
/// Organisations that are asked about at once.
const AT_ONCE: usize = 8;

/// Compares every organisation that has records.
pub(crate) async fn compare(services: &Services, books: &mut Books) -> Result<(), AuditError> {
    let findings: Vec<Vec<Finding>> = stream::iter(&books.organizations)
        .map(|(organization, sums)| async move {
            let Some((first, last)) = sums.span else { return Ok(Vec::new()) };
            let mut rollups = Totals::default();
            let mut statement = Totals::default();
            for (start, end) in spans(first.seconds, last.seconds) {
                add(&mut rollups, rolled_up(services, organization, start, end).await?);
                add(&mut statement, stated(services, organization, start, end).await?);
            }
            let mut found = Vec::new();
            for (check, sums, records) in
                [(Check::Rollup, rollups, sums.usage), (Check::Statement, statement, sums.billing)]
            {
                if sums != records {
                    found.push(Finding::new(
                        check,
                        organization,
                        format!("sums {}; records {}", text(&sums), text(&records)),
                    ));
                }
            }
            Ok(found)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    for finding in findings.into_iter().flatten() {
        books.find(finding);
    }
    Ok(())
}

/// Whole hours that cover `[first, last]`, each short enough to ask for.
fn spans(first: i64, last: i64) -> impl Iterator<Item = (i64, i64)> {
    let start = first.div_euclid(HOUR) * HOUR;
    let end = (last.div_euclid(HOUR) + 1) * HOUR;
    (0..)
        .map(move |span| start + span * LONGEST_SPAN)
        .take_while(move |from| *from < end)
        .map(move |from| (from, (from + LONGEST_SPAN).min(end)))
}

async fn rolled_up(services: &Services, organization: &str, start: i64, end: i64) -> Result<Totals, AuditError> {
    let mut request = QueryUsageRequest {
        organization: organization.to_owned(),
        start_time: Some(at(start)),
        end_time: Some(at(end)),
        bucket: Bucket::Total.into(),
        ..QueryUsageRequest::default()
    };
    let mut totals = Totals::default();
    loop {
        let mut client = UsageServiceClient::new(services.usage.clone());
        let answer = answered("usage", client.query_usage(request.clone())).await?;
        for row in &answer.rows {
            add(
                &mut totals,
                Totals {
                    events: count(row.requests),
                    input_tokens: row.input_tokens,
                    output_tokens: row.output_tokens,
                    cost_nano_usd: row.cost_nano_usd,
                    estimated: count(row.estimated_requests),
                    released: 0,
                },
            );
        }
        if answer.next_page_token.is_empty() {
            return Ok(totals);
        }
        request.page_token = answer.next_page_token;
    }
}

async fn stated(services: &Services, organization: &str, start: i64, end: i64) -> Result<Totals, AuditError> {
    let request = GetStatementRequest {
        organization: organization.to_owned(),
        start_time: Some(at(start)),
        end_time: Some(at(end)),
    };
    let statement =
        answered("billing", BillingServiceClient::new(services.billing.clone()).get_statement(request)).await?;
    let mut totals = Totals::default();
    for line in &statement.lines {
        add(
            &mut totals,
            Totals {
                events: count(line.requests),
                input_tokens: line.input_tokens,
                output_tokens: line.output_tokens,
                cost_nano_usd: line.amount_nano_usd,
                estimated: count(line.estimated_requests),
                released: 0,
            },
        );
    }
    // The total is what the customer pays: if it differs from its lines, it is the total that must not match.
    totals.cost_nano_usd = statement.total_nano_usd;
    Ok(totals)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

/// A negative count stays unequal to every real one.
fn count(requests: i64) -> u64 {
    u64::try_from(requests).unwrap_or(u64::MAX)
}

fn add(to: &mut Totals, from: Totals) {
    to.events = to.events.saturating_add(from.events);
    to.input_tokens = to.input_tokens.saturating_add(from.input_tokens);
    to.output_tokens = to.output_tokens.saturating_add(from.output_tokens);
    to.cost_nano_usd = to.cost_nano_usd.saturating_add(from.cost_nano_usd);
    to.estimated = to.estimated.saturating_add(from.estimated);
}

fn text(totals: &Totals) -> String {
    let Totals { events, input_tokens, output_tokens, cost_nano_usd, estimated, .. } = totals;
    format!("{events} events, {input_tokens} in, {output_tokens} out, {cost_nano_usd} n$, {estimated} estimated")
}

#[cfg(test)]
mod tests {
    use super::{HOUR, LONGEST_SPAN, spans};

    #[test]
    fn spans_cover_whole_hours_without_gap_or_overlap() {
        assert_eq!(spans(10, 20).collect::<Vec<_>>(), [(0, HOUR)]);
        assert_eq!(spans(0, HOUR).collect::<Vec<_>>(), [(0, 2 * HOUR)]);
        assert_eq!(spans(-1, 0).collect::<Vec<_>>(), [(-HOUR, HOUR)]);
        let long: Vec<_> = spans(5, 2 * LONGEST_SPAN).collect();
        assert_eq!(long.len(), 3);
        assert!(long.windows(2).all(|pair| pair[0].1 == pair[1].0));
        assert_eq!(long.last().map(|span| span.1), Some(2 * LONGEST_SPAN + HOUR));
    }
}
