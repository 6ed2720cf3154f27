//! What this process admits by itself while the fast store does not answer: a small share of each limit that says so.
//!
//! The share is counted per window and in memory, from the first reservation that the store did not answer. It is not given back
//! when the store is: what was admitted counts there as soon as it is announced, so in one window at most `processes × share × cap`
//! is admitted beyond the cap, however often the store comes and goes.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use weir_types::OrganizationId;

use crate::config::Failure;
use crate::domain::demand::bucket_end;
use crate::domain::{Demand, Kind, LimitId, Millis, OnFailure, PlanLimit, Touch, Value};

/// The shares that are in use.
#[derive(Debug)]
pub(super) struct Local {
    /// The share, in millionths.
    share: i64,
    most: usize,
    counters: Mutex<HashMap<Counter, Slice>>,
}

type Counter = (OrganizationId, LimitId, Value);

/// Why a reservation may go ahead without the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admitted {
    /// Each limit admits whatever comes.
    Open,
    /// A limit had room in this process.
    Local,
    /// It may not.
    No,
}

/// What was admitted, by the time at which it leaves the window; few entries, because those times are rounded up.
#[derive(Debug, Default)]
struct Slice(Vec<(Millis, i64)>);

const MILLION: i64 = 1_000_000;
/// Into how many steps a rolling window is rounded.
const STEPS: Millis = 10;
/// To what the ends of leases are rounded.
const LEASE_STEP: Millis = 60_000;

impl Local {
    pub(super) fn new(config: &Failure) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "validation has it from 0 to 1")]
        let share = (config.local_share * 1e6) as i64;
        Self { share, most: config.counters, counters: Mutex::default() }
    }

    /// Takes what a reservation asks for from every limit's share, or nothing.
    pub(super) fn admit(
        &self,
        organization: &OrganizationId,
        demand: &Demand<'_>,
        lease: Duration,
        now: Millis,
    ) -> Admitted {
        let mut limits = demand.counters().map(|(_, limit, _)| limit).peekable();
        if limits.peek().is_none() || limits.any(|limit| limit.on_failure() == OnFailure::Closed) {
            return Admitted::No;
        }
        let locals: Vec<(Counter, &PlanLimit, Touch)> = demand
            .counters()
            .filter(|(_, limit, _)| limit.on_failure() == OnFailure::Local)
            .map(|(part, limit, touch)| ((*organization, limit.id, part.value.clone()), limit, touch))
            .collect();
        if locals.is_empty() {
            return Admitted::Open;
        }
        let mut counters = self.counters.lock();
        for (counter, limit, touch) in &locals {
            let used = counters.get_mut(counter).map_or(0, |slice| slice.used(now));
            if touch.amount > self.slice(limit).saturating_sub(used) {
                return Admitted::No;
            }
        }
        let new = locals.iter().filter(|(counter, ..)| !counters.contains_key(counter)).count();
        if counters.len() + new > self.most {
            counters.retain(|_, slice| slice.used(now) > 0);
            if counters.len() + locals.len() > self.most {
                return Admitted::No;
            }
        }
        for (counter, limit, touch) in locals {
            counters.entry(counter).or_default().add(leaves_at(limit, touch, lease, now), touch.amount);
        }
        Admitted::Local
    }

    fn slice(&self, limit: &PlanLimit) -> i64 {
        let share = i128::from(limit.limit.cap) * i128::from(self.share) / i128::from(MILLION);
        i64::try_from(share).unwrap_or(i64::MAX)
    }
}

/// When what is admitted now is out of the window, rounded up: too late, never too early.
fn leaves_at(limit: &PlanLimit, touch: Touch, lease: Duration, now: Millis) -> Millis {
    match limit.limit.window.kind() {
        Kind::Rolling(length) => bucket_end(now, (length / STEPS).max(1)).saturating_add(length),
        Kind::Concurrent => {
            let ends = now.saturating_add(Millis::try_from(lease.as_millis()).unwrap_or(Millis::MAX / 2));
            bucket_end(ends, LEASE_STEP)
        }
        Kind::Calendar(_) | Kind::Anchored | Kind::Lifetime => touch.period.end,
    }
}

impl Slice {
    /// What is still in the window.
    fn used(&mut self, now: Millis) -> i64 {
        self.0.retain(|(leaves_at, _)| *leaves_at > now);
        self.0.iter().fold(0, |sum: i64, (_, amount)| sum.saturating_add(*amount))
    }

    fn add(&mut self, leaves_at: Millis, amount: i64) {
        match self.0.iter_mut().find(|(at, _)| *at == leaves_at) {
            Some((_, sum)) => *sum = sum.saturating_add(amount),
            None => self.0.push((leaves_at, amount)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Amounts, CalendarUnit, Limit, Plan, Scope, Subject, Tuning, Unit, Window};

    const LEASE: Duration = Duration::from_secs(30);

    fn plan(limits: &[(&str, &str, i64, Window, OnFailure)]) -> Plan {
        let limits = limits.iter().enumerate().map(|(place, (scope, unit, cap, window, on_failure))| {
            let limit = Limit {
                name: format!("limit-{place}"),
                scope: Scope::parse(scope),
                unit: Unit::parse(unit),
                cap: *cap,
                window: window.clone(),
                on_failure: *on_failure,
                alert_percents: Vec::new(),
            };
            (LimitId::try_from(place).unwrap(), limit)
        });
        Plan::new(1, limits, Tuning { exact_up_to: 64, buckets: 60 })
    }

    fn local(counters: usize) -> Local {
        Local::new(&Failure { local_share: 0.1, counters })
    }

    fn admit(local: &Local, plan: &Plan, ip: &str, list: &[(&str, i64)], now: Millis) -> Admitted {
        let subject = Subject::new(OrganizationId::from(uuid::Uuid::nil()), "", "", ip, "", []).unwrap();
        let amounts = Amounts::new(list.iter().copied()).unwrap();
        local.admit(&subject.organization, &Demand::new(plan, &subject, &amounts, now), LEASE, now)
    }

    #[test]
    fn a_rolling_window_never_has_more_than_its_share() {
        let (local, plan) =
            (local(10), plan(&[("organization", "request", 50, Window::Rolling(60_000), OnFailure::Local)]));
        let times: Vec<Millis> = (0..3_000).map(|step| 1_000_003 + step * 97).collect();
        let admitted: Vec<Millis> = times
            .into_iter()
            .filter(|now| admit(&local, &plan, "", &[("request", 1)], *now) == Admitted::Local)
            .collect();
        for first in &admitted {
            let within = admitted.iter().filter(|at| (*first..first + 60_000).contains(at)).count();
            assert!(within <= 5, "{within} in the minute from {first}");
        }
        // Nor much less: one step late at most.
        assert!(admitted.len() >= 20, "{}", admitted.len());
    }

    #[test]
    fn a_calendar_window_has_its_share_again_in_the_next_period() {
        let window = Window::Calendar(CalendarUnit::Day, chrono_tz::UTC);
        let (local, plan) = (local(10), plan(&[("organization", "token", 100, window, OnFailure::Local)]));
        let day = 86_400_000;
        assert_eq!(admit(&local, &plan, "", &[("token", 11)], day), Admitted::No);
        assert_eq!(admit(&local, &plan, "", &[("token", 10)], day), Admitted::Local);
        assert_eq!(admit(&local, &plan, "", &[("token", 1)], 2 * day - 1), Admitted::No);
        assert_eq!(admit(&local, &plan, "", &[("token", 10)], 2 * day), Admitted::Local);
    }

    #[test]
    fn calls_under_way_count_until_their_lease_ends() {
        let plan = plan(&[("organization", "concurrent", 10, Window::Concurrent, OnFailure::Local)]);
        let local = local(10);
        assert_eq!(admit(&local, &plan, "", &[("concurrent", 1)], 0), Admitted::Local);
        assert_eq!(admit(&local, &plan, "", &[("concurrent", 1)], 29_999), Admitted::No);
        assert_eq!(admit(&local, &plan, "", &[("concurrent", 1)], 90_000), Admitted::Local);
    }

    #[test]
    fn one_closed_limit_closes_and_money_is_always_closed() {
        let window = Window::Rolling(60_000);
        let two = |second| {
            plan(&[
                ("organization", "request", 100, window.clone(), OnFailure::Local),
                ("organization", "token", 100, window.clone(), second),
            ])
        };
        let list = [("request", 1), ("token", 1)];
        assert_eq!(admit(&local(10), &two(OnFailure::Closed), "", &list, 0), Admitted::No);
        assert_eq!(admit(&local(10), &two(OnFailure::Open), "", &list, 0), Admitted::Local);
        // What is refused takes nothing.
        let (local, plan) = (local(10), two(OnFailure::Local));
        assert_eq!(admit(&local, &plan, "", &[("request", 10), ("token", 11)], 0), Admitted::No);
        assert_eq!(admit(&local, &plan, "", &[("request", 10), ("token", 10)], 0), Admitted::Local);
        let money = self::plan(&[("organization", "nano_usd", 100, Window::Lifetime, OnFailure::Local)]);
        assert_eq!(admit(&self::local(10), &money, "", &[("nano_usd", 1)], 0), Admitted::No);
        let open = self::plan(&[("organization", "request", 100, Window::Rolling(60_000), OnFailure::Open)]);
        assert_eq!(admit(&self::local(10), &open, "", &[("request", 1_000)], 0), Admitted::Open);
        assert_eq!(admit(&self::local(10), &open, "", &[("token", 1)], 0), Admitted::No, "no limit says anything");
    }

    #[test]
    fn memory_is_bounded_and_room_comes_back() {
        let plan = plan(&[("ip", "request", 100, Window::Rolling(1_000), OnFailure::Local)]);
        let local = local(3);
        let at = |ip: &str, now| admit(&local, &plan, ip, &[("request", 1)], now);
        for ip in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
            assert_eq!(at(ip, 0), Admitted::Local);
        }
        assert_eq!(at("10.0.0.4", 0), Admitted::No);
        assert_eq!(at("10.0.0.1", 0), Admitted::Local, "a counter that is there goes on");
        assert_eq!(at("10.0.0.4", 1_200), Admitted::Local);
        assert_eq!(local.counters.lock().len(), 1);
    }
}
