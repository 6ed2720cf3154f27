//! What a caller is told about the limits that refuse: words for people, figures for programs.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use weir_proto::common::v1::ErrorReason;
use weir_types::unit;

use crate::domain::LimitState;
use crate::words::{Span, dollars, grouped, plural, round_up};

/// From here on a wait for a window's end is told as that: nobody tries again until then.
const LONG: Duration = Duration::from_secs(3600);

/// The limits that refuse, each with its figures.
pub(crate) struct Told<'a>(pub(crate) &'a [LimitState]);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, limit) in refusing(self.0).enumerate() {
            let begin = if place == 0 { "refused by " } else { ". Also refused by " };
            write!(f, "{begin}{}: {}", limit.limit, Words(limit))?;
        }
        Ok(())
    }
}

fn refusing(limits: &[LimitState]) -> impl Iterator<Item = &LimitState> {
    limits.iter().filter(|limit| limit.refuses)
}

/// Whether money is among what refuses.
pub(crate) fn reason(limits: &[LimitState]) -> ErrorReason {
    if refusing(limits).any(|limit| limit.money) { ErrorReason::BudgetExhausted } else { ErrorReason::QuotaExceeded }
}

/// When all that refuse may admit; none if waiting does not help with one of them.
pub(crate) fn retry_after(limits: &[LimitState]) -> Option<Duration> {
    let waits: Option<Vec<Duration>> = refusing(limits).map(|limit| limit.retry_after).collect();
    waits?.into_iter().max()
}

/// Names every limit that refuses, for people in `QuotaFailure` and for programs in the metadata (`limit.<name>`).
pub(crate) fn refused(limits: &[LimitState]) -> weir_rpc::Error {
    let mut error = weir_rpc::Error::new(reason(limits), Told(limits).to_string());
    for limit in refusing(limits) {
        error = error
            .violation(&*limit.limit, Words(limit).to_string())
            .metadata(format!("limit.{}", limit.limit), figures(limit));
    }
    match retry_after(limits) {
        Some(wait) => error.retry_after(wait),
        None => error,
    }
}

fn figures(limit: &LimitState) -> String {
    let millis = |span: Option<Duration>| span.map_or_else(|| "never".to_owned(), |span| span.as_millis().to_string());
    format!(
        "scope={};unit={};cap={};used={};held={};requested={};reset_ms={};retry_ms={}",
        limit.scope,
        limit.unit,
        limit.cap,
        limit.used,
        limit.held,
        limit.requested,
        millis(limit.reset_after),
        millis(limit.retry_after)
    )
}

/// One limit that refuses: `120 of 120 requests used, 1 asked for; try again in 12 s`.
struct Words<'a>(&'a LimitState);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LimitState { cap, used, requested, .. } = *self.0;
        match &*self.0.unit {
            unit if unit::is_money(unit) => {
                let (used, cap, asked) = (dollars(round_up(used)), dollars(cap), dollars(round_up(requested)));
                write!(f, "{used} of {cap} used, this call could cost up to {asked}")?;
            }
            unit::CONCURRENT => write!(f, "{} of {} calls under way", grouped(used), grouped(cap))?,
            other => {
                let unit = plural(other);
                write!(f, "{} of {} {unit} used, {} asked for", grouped(used), grouped(cap), grouped(requested))?;
            }
        }
        match (self.0.retry_after, self.0.reset_after) {
            (Some(wait), reset) if wait >= LONG && reset == Some(wait) => f.write_str(&resets(wait, Utc::now())),
            (Some(wait), _) => write!(f, "; try again in {}", Span(wait)),
            (None, _) if requested > cap => f.write_str(", more than the limit ever allows"),
            (None, Some(reset)) => f.write_str(&resets(reset, Utc::now())),
            (None, None) => f.write_str("; never resets"),
        }
    }
}

/// When a window ends that does so in `wait`: to the minute, since the store's clock is not quite ours; a nearer end as a span.
fn resets(wait: Duration, now: DateTime<Utc>) -> String {
    let at = TimeDelta::from_std(wait).ok().and_then(|wait| (now + wait).duration_round(TimeDelta::minutes(1)).ok());
    match at {
        Some(at) if wait >= LONG => format!("; resets on {}", at.format("%Y-%m-%d %H:%M UTC")),
        _ => format!("; resets in {}", Span(wait)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn state(name: &str, unit: &str, [cap, used, requested]: [i64; 3], wait: Option<f64>) -> LimitState {
        let wait = wait.map(Duration::from_secs_f64);
        LimitState {
            limit: name.into(),
            unit: unit.into(),
            scope: "organization".into(),
            cap,
            used,
            held: 0,
            reset_after: wait,
            requested,
            retry_after: wait,
            refuses: true,
            money: unit::is_money(unit),
        }
    }

    #[test]
    fn each_limit_is_told_in_peoples_units() {
        let requests = state("requests-per-minute", unit::REQUEST, [120, 120, 1], Some(11.2));
        assert_eq!(
            Told(std::slice::from_ref(&requests)).to_string(),
            "refused by requests-per-minute: 120 of 120 requests used, 1 asked for; try again in 12 s"
        );
        let days = Duration::from_secs(29 * DAY).as_secs_f64();
        let budget = state("budget", unit::NANO_USD, [100_000_000_000, 99_980_000_000, 158_200_001], Some(days));
        let others = LimitState { refuses: false, ..state("other", unit::TOKEN, [9, 0, 1], None) };
        let told = Told(&[requests, others, budget]).to_string();
        let both = "refused by requests-per-minute: 120 of 120 requests used, 1 asked for; try again in 12 s. \
                    Also refused by budget: $99.98 of $100 used, this call could cost up to $0.16; resets on 20";
        assert!(told.starts_with(both), "{told}");
    }

    #[test]
    fn the_end_of_a_long_window_is_told_as_a_time_of_day() {
        let now: DateTime<Utc> = "2026-11-22T18:42:27.300Z".parse().expect("a time");
        let until = |end: &str| (end.parse::<DateTime<Utc>>().expect("a time") - now).to_std().expect("a span");
        // The store's clock is a little behind ours, or before it.
        for end in ["2026-11-30T23:59:59.100Z", "2026-12-01T00:00:00Z", "2026-12-01T00:00:02Z"] {
            assert_eq!(resets(until(end), now), "; resets on 2026-12-01 00:00 UTC");
        }
        assert_eq!(resets(Duration::from_secs(1_800), now), "; resets in 30 min");
        let tasks = state("tasks", "task", [10, 10, 1], Some(Duration::from_secs(9 * DAY).as_secs_f64()));
        let told = Words(&tasks).to_string();
        assert!(told.starts_with("10 of 10 tasks used, 1 asked for; resets on 20"), "{told}");
    }

    #[test]
    fn what_waiting_cannot_help_with_is_said() {
        let tokens = LimitState {
            retry_after: None,
            ..state("tokens-per-minute", unit::TOKEN, [2_000, 0, 1_234_567], Some(60.0))
        };
        assert_eq!(
            Words(&tokens).to_string(),
            "0 of 2,000 tokens used, 1,234,567 asked for, more than the limit ever allows"
        );
        let credit = state("credit", unit::NANO_USD, [2_500_000_000, 2_500_000_000, 1_250_000], None);
        assert_eq!(Words(&credit).to_string(), "$2.50 of $2.50 used, this call could cost up to $0.0013; never resets");
        let calls = LimitState { reset_after: None, ..state("at-once", unit::CONCURRENT, [5, 5, 1], Some(1.0)) };
        assert_eq!(Words(&calls).to_string(), "5 of 5 calls under way; try again in 1 s");
    }
}
