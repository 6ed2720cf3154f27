//! From what the use cases answer to messages.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use prost_types::Timestamp;
use weir_proto::billing::v1 as proto;
use weir_proto::billing::v1::window::Kind;
use weir_types::names;
use weir_types::price::TokenPrice;

use crate::app::{Signal, Status};
use crate::domain::catalogue::Plan;
use crate::domain::entitlements::{Entitlements, Subscription};
use crate::domain::ledger::Entry;
use crate::domain::limit::{Limit, OnFailure};
use crate::domain::price_book::PriceBook;
use crate::domain::rating::AuditedEvent;
use crate::domain::statement::Statement;
use crate::domain::window::{CalendarUnit, Window};

pub(super) fn plan(plan: &Plan) -> proto::Plan {
    proto::Plan {
        name: plan_name(&plan.name),
        display_name: plan.display_name.clone(),
        version: plan.version.clone(),
        price_nano_usd: plan.price.0,
        limits: plan.limits.iter().map(limit).collect(),
        models: plan.models.clone(),
        priority: plan.priority,
        own_keys_only: plan.own_keys_only,
        features: plan.features.clone(),
    }
}

fn plan_name(name: &str) -> String {
    format!("plans/{name}")
}

fn limit(limit: &Limit) -> proto::Limit {
    let on_failure = match limit.on_failure {
        OnFailure::Closed => proto::OnFailure::Closed,
        OnFailure::Open => proto::OnFailure::Open,
        OnFailure::Local => proto::OnFailure::Local,
    };
    proto::Limit {
        name: limit.name.clone(),
        scope: limit.scope.clone(),
        unit: limit.unit.clone(),
        amount: limit.amount,
        window: Some(proto::Window { kind: Some(window(&limit.window)) }),
        on_failure: on_failure.into(),
        alert_percents: limit.alert_percents.clone(),
    }
}

fn window(window: &Window) -> Kind {
    let zone = |zone: &Tz| zone.name().to_owned();
    match window {
        // Windows are bounded, so this can't be out of range.
        Window::Rolling(span) => Kind::Rolling((*span).try_into().unwrap_or_default()),
        Window::Calendar(unit, tz) => {
            let unit = match unit {
                CalendarUnit::Minute => proto::CalendarUnit::Minute,
                CalendarUnit::Hour => proto::CalendarUnit::Hour,
                CalendarUnit::Day => proto::CalendarUnit::Day,
                CalendarUnit::Month => proto::CalendarUnit::Month,
            };
            Kind::Calendar(proto::CalendarWindow { unit: unit.into(), time_zone: zone(tz) })
        }
        Window::Anchored(anchor, tz) => {
            Kind::Anchored(proto::AnchoredWindow { anchor: anchor.map(time), time_zone: zone(tz) })
        }
        Window::Lifetime => Kind::Lifetime(proto::Lifetime {}),
        Window::Concurrent => Kind::Concurrent(proto::Concurrent {}),
    }
}

pub(super) fn subscription(subscription: &Subscription) -> proto::Subscription {
    proto::Subscription {
        name: names::subscription(&subscription.organization),
        plan: plan_name(&subscription.plan),
        start_time: Some(time(subscription.start)),
        overrides: subscription.overrides.iter().map(limit).collect(),
    }
}

pub(super) fn entitlements(entitlements: &Entitlements) -> proto::Entitlements {
    proto::Entitlements {
        organization: names::organization(&entitlements.organization),
        plan: plan_name(&entitlements.plan),
        version: entitlements.version,
        limits: entitlements.limits.iter().map(limit).collect(),
        models: entitlements.models.clone(),
        priority: entitlements.priority,
        own_keys_only: entitlements.own_keys_only,
        features: entitlements.features.clone(),
    }
}

pub(super) fn change(signal: Signal) -> proto::EntitlementsChange {
    let (organization, version, all) = match signal {
        Signal::Changed(organization, version) => (names::organization(&organization), version, false),
        Signal::All(version) => (String::new(), version, true),
        Signal::Heartbeat(version) => (String::new(), version, false),
    };
    proto::EntitlementsChange { organization, version, all }
}

pub(super) fn price_book(book: &PriceBook) -> proto::PriceBook {
    let prices = book.prices().iter().map(|price| proto::ModelPrice {
        provider: price.provider.clone(),
        model: price.model.clone(),
        input_per_million: price.price.tokens.input,
        cached_input_per_million: price.price.tokens.cached_input,
        output_per_million: price.price.tokens.output,
        max_output_tokens: price.max_output_tokens,
        context_tokens: price.context_tokens,
        tokens: Some(token_prices(&price.price.tokens)),
        long_prompt: price
            .price
            .long_prompt
            .as_ref()
            .map(|long| proto::LongPromptPrice { above_tokens: long.above, tokens: Some(token_prices(&long.tokens)) }),
        tiers: price.price.tiers.iter().map(|(tier, tokens)| (tier.clone(), token_prices(tokens))).collect(),
        units: price.price.units.clone().into_iter().collect(),
        per_call: price.price.per_call.clone().into_iter().collect(),
    });
    proto::PriceBook { version: book.version().to_owned(), prices: prices.collect() }
}

fn token_prices(price: &TokenPrice) -> proto::TokenPrices {
    proto::TokenPrices {
        input_per_million: price.input,
        cached_input_per_million: price.cached_input,
        cache_write_per_million: price.cache_write,
        cache_write_1h_per_million: price.cache_write_long,
        audio_input_per_million: price.audio_input,
        image_input_per_million: price.image_input,
        output_per_million: price.output,
        audio_output_per_million: price.audio_output,
    }
}

pub(super) fn statement(statement: &Statement) -> proto::Statement {
    let lines = statement.lines.iter().map(|line| proto::StatementLine {
        provider: line.provider.clone(),
        model: line.model.clone(),
        own_key: line.own_key,
        requests: line.requests,
        input_tokens: line.input_tokens,
        cached_input_tokens: line.cached_input_tokens,
        output_tokens: line.output_tokens,
        amount_nano_usd: line.amount.0,
        estimated_requests: line.estimated_requests,
    });
    proto::Statement {
        organization: names::organization(&statement.organization),
        start_time: Some(time(statement.period.start)),
        end_time: Some(time(statement.period.end)),
        lines: lines.collect(),
        total_nano_usd: statement.total().0,
        unrated_events: statement.unrated_events,
    }
}

pub(super) fn entry(entry: Entry) -> proto::LedgerEntry {
    proto::LedgerEntry {
        transaction_id: entry.transaction_id.to_string(),
        account: entry.account,
        amount_nano_usd: entry.amount.0,
        description: entry.description,
        create_time: Some(time(entry.create_time)),
    }
}

pub(super) fn rated_event(event: &AuditedEvent) -> proto::RatedEvent {
    proto::RatedEvent {
        event_id: event.event_id.to_string(),
        organization: names::organization(&event.organization),
        input_tokens: event.input_tokens,
        cached_input_tokens: event.cached_input_tokens,
        output_tokens: event.output_tokens,
        amount_nano_usd: event.amount.0,
        revision: event.revision,
        estimated: event.estimated,
        requests: event.requests,
    }
}

pub(super) fn status(status: &Status) -> proto::GetStatusResponse {
    proto::GetStatusResponse {
        rated_position: status.sums.rated_position,
        feed_head: status.feed_head,
        ledger_sum_nano_usd: status.sums.ledger.0,
        receivable_nano_usd: status.sums.receivable.0,
        rated_nano_usd: status.sums.rated.0,
        price_mismatches: status.sums.price_mismatches,
        unrated_events: status.sums.unrated_events,
    }
}

fn time(time: DateTime<Utc>) -> Timestamp {
    // Nanoseconds of a second fit; a leap second reads as the next one.
    Timestamp { seconds: time.timestamp(), nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(999_999_999) }
}
