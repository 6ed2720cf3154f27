use proptest::prelude::*;
use weir_quota::domain::handle::Draft;
use weir_quota::domain::{
    Amounts, CalendarUnit, Demand, Handle, Limit, OnFailure, Plan, Scope, Subject, Tuning, Unit, Window,
};
use weir_types::{ApiKeyId, OrganizationId, ReservationId, UserId, names};

fn limit(name: &str, scope: Scope, unit: &str, window: Window) -> Limit {
    Limit { name: name.to_owned(), scope, unit: Unit::parse(unit), cap: 1_000, window, on_failure: OnFailure::Closed }
}

const TUNING: Tuning = Tuning { exact_up_to: 64, buckets: 60 };

fn six() -> (Plan, Subject, Amounts) {
    let month = Window::Calendar(CalendarUnit::Month, chrono_tz::UTC);
    let limits = [
        limit("requests-per-minute", Scope::Organization, "request", Window::Rolling(60_000)),
        limit("tokens-per-minute", Scope::Organization, "token", Window::Rolling(60_000)),
        limit("budget", Scope::Organization, "nano_usd", month.clone()),
        limit("user-requests", Scope::User, "request", Window::Rolling(60_000)),
        limit("user-budget", Scope::User, "nano_usd", month),
        limit("key-budget", Scope::ApiKey, "nano_usd", Window::Lifetime),
        limit("at-once", Scope::Organization, "concurrent", Window::Concurrent),
    ];
    let organization = OrganizationId::new_v7();
    let user = names::user(&organization, &UserId::new_v7());
    let key = names::api_key(&organization, &ApiKeyId::new_v7());
    let subject = Subject::new(organization, &user, &key, "", []).unwrap();
    let amounts = [
        ("request", 1),
        ("input_token", 3_000),
        ("output_token", 1_000),
        ("token", 4_000),
        ("nano_usd", 40_000_000),
        ("concurrent", 1),
    ];
    (Plan::new(1, (1_000..).zip(limits), TUNING), subject, Amounts::new(amounts).unwrap())
}

#[test]
fn a_handle_of_six_limits_is_small_and_says_what_it_holds() {
    let (plan, subject, amounts) = six();
    let id = ReservationId::new_v7();
    let now = 1_790_000_000_000;
    let demand = Demand::new(&plan, &subject, &amounts, now);
    let bytes = Draft::new(id, &subject, &amounts, &demand).at(now);
    assert!(bytes.len() < 200, "{} bytes", bytes.len());
    let handle = Handle::decode(&bytes).unwrap();
    assert_eq!((handle.reservation, handle.organization, handle.reserved_at), (id, subject.organization, now));
    assert_eq!(handle.amounts, amounts);
    assert_eq!(handle.counters.len(), 6);
    assert_eq!(handle.concurrent, [(1_006, 0)]);
    let budget = handle.counters.iter().find(|counter| counter.limit == 1_002).unwrap();
    assert_eq!(
        (budget.amount, budget.value, budget.at),
        (40_000_000, 0, demand.windows().find(|w| w.1.id == 1_002).unwrap().2.period.start)
    );
}

proptest! {
    /// Handles come back from clients: any bytes must be refused or read, and read to the end.
    #[test]
    fn bytes_that_are_no_handle_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0_usize..300, bit in 0_u8..8) {
        let _ = Handle::decode(&bytes);
        let (plan, subject, amounts) = six();
        let demand = Demand::new(&plan, &subject, &amounts, 1_790_000_000_000);
        let mut handle = Draft::new(ReservationId::new_v7(), &subject, &amounts, &demand).at(5).to_vec();
        let at = at % handle.len();
        prop_assert!(Handle::decode(&handle[..at]).is_err());
        handle[at] ^= 1 << bit;
        let _ = Handle::decode(&handle);
    }
}
