//! Soft alerts: what the answers of the hot path say about the percentages that limits warn at.
//!
//! An alert is due as long as its percentage is reached, not only at the step that reaches it: if this process dies, or its queue is
//! full, the next reservation, wherever it is made, finds it due again. Postgres lets each fire once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::metrics::counter;
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use weir_types::OrganizationId;

use super::alert_writer::Due;
use super::shared::nobody;
use crate::domain::{
    Decided, Demand, LimitId, LimitState, Millis, Period, PlanLimit, Recurrence, Subject, Touch, Value,
};

/// What the hot path needs to know.
#[derive(Debug)]
pub(super) struct Alerts {
    fired: Cache<Counter, Arc<Mutex<Fired>>>,
    /// Whether an alert without fixed periods has fired: from then on use that falls is of interest.
    falling: AtomicBool,
    due: mpsc::Sender<Due>,
    looks: mpsc::Sender<Subject>,
}

/// One counter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Counter {
    organization: OrganizationId,
    limit: LimitId,
    value: Value,
}

/// What this process has handed on about a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Fired {
    /// The period's start.
    period: Millis,
    cap: i64,
    /// Up to which percentage; for windows without fixed periods, less when use has fallen.
    level: u8,
    /// For those: the highest percentage since `at`, the last time.
    top: u8,
    at: Millis,
}

/// One counter's value.
struct Seen<'a> {
    limit: &'a PlanLimit,
    touch: Touch,
    used: i64,
    held: i64,
    refused: bool,
    at: Millis,
}

/// One counter across tenants.
pub(super) struct Across<'a> {
    pub(super) limit: &'a PlanLimit,
    /// Whose, by the limit's scope; empty of the whole product.
    pub(super) whose: &'a str,
    /// The period that is under way.
    pub(super) period: Period,
    pub(super) used: i64,
    pub(super) held: i64,
    /// It refused what it would admit if it were unused.
    pub(super) refused: bool,
    pub(super) at: Millis,
}

impl Alerts {
    pub(super) fn new(remember: u64, due: mpsc::Sender<Due>, looks: mpsc::Sender<Subject>) -> Self {
        Self { fired: Cache::new(remember), falling: AtomicBool::new(false), due, looks }
    }

    /// A reservation was admitted: `decision` is what stands in each counter that `demand` touches, with it.
    pub(super) fn admitted(
        &self,
        organization: &OrganizationId,
        demand: &Demand<'_>,
        decision: &[Decided],
        at: Millis,
    ) {
        for ((part, limit, touch), decided) in demand.counters().zip(decision) {
            if decided.used >= limit.alarm.from || self.may_have_fallen(limit) {
                let seen = Seen { limit, touch, used: decided.used, held: decided.held, refused: false, at };
                self.look(organization, part.value, &seen);
            }
        }
    }

    /// The counters were read, or a reservation was refused. That means 100 % of each limit that refused what it would admit if
    /// it were unused.
    pub(super) fn read(&self, organization: &OrganizationId, demand: &Demand<'_>, states: &[LimitState], at: Millis) {
        for ((part, limit, touch), state) in demand.counters().zip(states) {
            let refused = state.refuses && state.requested <= state.cap;
            if state.used >= limit.alarm.from || refused || self.may_have_fallen(limit) {
                let seen = Seen { limit, touch, used: state.used, held: state.held, refused, at };
                self.look(organization, part.value, &seen);
            }
        }
    }

    /// What is known of a counter across tenants.
    pub(super) fn across(&self, across: &Across<'_>) {
        let Across { limit, whose, period, used, held, refused, at } = *across;
        if used >= limit.alarm.from || refused || self.may_have_fallen(limit) {
            let touch = Touch { amount: 0, period };
            let value = Value::Label(String::new(), whose.to_owned());
            self.look(&nobody(), &value, &Seen { limit, touch, used, held, refused, at });
        }
    }

    /// More was charged than reserved: the counters of this subject are to be read. Where too many wait, the next reservation
    /// reads them.
    pub(super) fn charged_more(&self, subject: Subject) {
        if self.looks.try_send(subject).is_err() {
            counter!("weir_quota_alert_looks_dropped_total").increment(1);
        }
    }

    fn may_have_fallen(&self, limit: &PlanLimit) -> bool {
        limit.alarm.quiet.is_some() && self.falling.load(Ordering::Relaxed)
    }

    fn look(&self, organization: &OrganizationId, value: &Value, seen: &Seen<'_>) {
        let alarm = &seen.limit.alarm;
        let reached = alarm.level(seen.used);
        let level = if seen.refused { reached.max(alarm.full()) } else { reached };
        let counter = Counter { organization: *organization, limit: seen.limit.id, value: value.clone() };
        let known = match self.fired.get(&counter) {
            Some(known) => known,
            None if level == 0 => return,
            None => self.fired.get_with(counter, Arc::default),
        };
        let mut known = known.lock();
        let recurrence = seen.limit.recurrence(seen.touch);
        let (next, above) = known.step(recurrence, seen.limit.limit.cap, level, alarm.rest(seen.used), seen.at);
        let Some(above) = above else {
            *known = next;
            return;
        };
        let due = Due {
            organization: *organization,
            limit: seen.limit.id,
            subject: value.text(),
            // A refusal says that the cap is in the way, not that use has passed what is below it.
            percents: alarm.between(above, level).filter(|percent| *percent <= reached || *percent == 100).collect(),
            recurrence,
            cap: seen.limit.limit.cap,
            used: seen.used,
            held: seen.held,
            reached,
            at: seen.at,
        };
        match self.due.try_send(due) {
            Ok(()) => {
                *known = next;
                if matches!(recurrence, Recurrence::Quiet(_)) {
                    self.falling.store(true, Ordering::Relaxed);
                }
            }
            // Not noted, so the next reservation tries again.
            Err(_) => counter!("weir_quota_alerts_dropped_total").increment(1),
        }
    }
}

impl Fired {
    /// What follows from a value: the next state, and above which percentage alerts are due, if any are.
    fn step(self, recurrence: Recurrence, cap: i64, level: u8, rest: u8, at: Millis) -> (Self, Option<u8>) {
        match recurrence {
            // News of a former period; Postgres knows whether it is any.
            Recurrence::Period(period) if period.start < self.period => (self, (level > 0).then_some(0)),
            Recurrence::Period(period) => {
                let known = if self.period == period.start && self.cap >= cap { self.level } else { 0 };
                if level <= known {
                    return (self, None);
                }
                (Self { period: period.start, cap, level, ..self }, Some(known))
            }
            Recurrence::Quiet(quiet) => {
                let fallen = Self { level: self.level.min(rest), ..self };
                let is_over = at >= self.at.saturating_add(quiet);
                if level <= fallen.level || (level <= self.top && !is_over) {
                    return (fallen, None);
                }
                let top = if is_over { level } else { self.top.max(level) };
                (Self { level, top, at, ..self }, Some(fallen.level))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Period;

    /// Feeds values, each with the percentage that it reaches and the one that it has not fallen below; answers above which
    /// percentage each fires.
    fn fires(recurrence: impl Fn(Millis) -> Recurrence, values: &[(Millis, i64, u8, u8)]) -> Vec<Option<u8>> {
        let mut fired = Fired::default();
        let step = |(at, cap, level, rest): &(Millis, i64, u8, u8)| {
            let (next, above) = fired.step(recurrence(*at), *cap, *level, *rest, *at);
            fired = next;
            above
        };
        values.iter().map(step).collect()
    }

    #[test]
    fn of_a_period_each_percentage_is_due_once_and_again_under_a_cap_that_was_raised() {
        let day = |at: Millis| Recurrence::Period(Period { start: at / 100 * 100, end: at / 100 * 100 + 100 });
        let fires = fires(
            day,
            &[
                (1, 10, 50, 50),
                (2, 10, 50, 50),
                (3, 10, 100, 100),
                // Less, and more again.
                (4, 10, 0, 0),
                (5, 10, 80, 80),
                (6, 20, 50, 50),
                (7, 10, 100, 100),
                // Tomorrow, and a straggler of today.
                (101, 10, 50, 50),
                (8, 10, 80, 80),
                (102, 10, 50, 50),
            ],
        );
        assert_eq!(fires, [Some(0), None, Some(50), None, None, Some(0), Some(50), Some(0), Some(0), None]);
    }

    #[test]
    fn of_a_rolling_window_a_percentage_is_due_again_when_use_fell_and_a_window_has_passed() {
        let quiet = |_| Recurrence::Quiet(60);
        let fires = fires(
            quiet,
            &[
                (100, 10, 50, 50),
                (110, 10, 80, 80),
                // It flutters: not below by a tenth.
                (300, 10, 50, 80),
                (310, 10, 80, 80),
                // It falls and rises within a window, and then stays.
                (320, 10, 0, 0),
                (321, 10, 50, 50),
                (330, 10, 0, 0),
                // Of these two Postgres keeps back the one that it has heard of within a window.
                (331, 10, 80, 80),
                (340, 10, 0, 0),
                (380, 10, 80, 80),
                (400, 10, 80, 80),
            ],
        );
        assert_eq!(fires, [Some(0), Some(50), None, None, None, Some(0), None, Some(0), None, None, Some(0)]);
    }
}
