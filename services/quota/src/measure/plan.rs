//! The six limits, and who they are for.

use uuid::Uuid;
use weir_types::OrganizationId;

use crate::domain::{
    CalendarUnit, Demand, Limit, LimitId, Millis, OnFailure, Plan, Scope, Subject, Tuning, Unit, Value, Window,
};
use crate::storage::store::{InstallEntry, InstallSubject};

const ENOUGH: i64 = 1 << 50;

/// A user of an organisation, with an API key, by its number.
pub(super) fn subject_of(organization: OrganizationId, user: usize) -> Subject {
    // Spread like random ones.
    let number = user as u64;
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let id = |kind: u64| Uuid::from_u64_pair(spread ^ kind, number.rotate_left(32) ^ spread.swap_bytes());
    Subject { organization, values: vec![Value::User(id(1).into()), Value::ApiKey(id(2).into())] }
}

/// The number of the concurrency limit.
pub(super) const AT_ONCE: LimitId = 4;

pub(super) fn plan() -> Plan {
    let month = || Window::Calendar(CalendarUnit::Month, chrono_tz::UTC);
    let minute = || Window::Rolling(60_000);
    let limit = |name: &str, scope, unit: &str, window| Limit {
        name: name.to_owned(),
        scope,
        unit: Unit::parse(unit),
        cap: ENOUGH,
        window,
        on_failure: OnFailure::Closed,
        alert_percents: Vec::new(),
    };
    let limits = [
        limit("requests-per-minute", Scope::Organization, "request", minute()),
        limit("tokens-per-minute", Scope::Organization, "token", minute()),
        limit("budget", Scope::Organization, "nano_usd", month()),
        limit("at-once", Scope::Organization, "concurrent", Window::Concurrent),
        limit("user-budget", Scope::User, "nano_usd", month()),
        limit("key-requests-per-minute", Scope::ApiKey, "request", minute()),
    ];
    Plan::new(1, (1..).zip(limits), Tuning { exact_up_to: 64, buckets: 60 })
}

/// The counters of a user and its organisation, nothing counted.
pub(super) fn counters(plan: &Plan, subject: &Subject, now: Millis) -> Vec<InstallSubject> {
    let demand = Demand::nothing(plan, subject, now);
    let counters = demand.parts.iter().map(|part| {
        let entries = part.scope.windows.iter().map(|limit| {
            let entry = match limit.rolling() {
                Some(_) => InstallEntry::Rolling(Vec::new()),
                None => InstallEntry::Period(limit.period(now).start, 0, 0),
            };
            (limit.id, limit.durable, entry)
        });
        let entries = entries.collect();
        InstallSubject { value: part.value.clone(), layout: part.scope.layout, sweep_after: -1, entries }
    });
    counters.collect()
}
