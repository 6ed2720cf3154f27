use proptest::prelude::*;
use weir_quota::domain::handle::{Body, Draft, HandleShared, SharedCounter};
use weir_quota::domain::shared::AccountKey;
use weir_quota::domain::{
    Amounts, CalendarUnit, Decided, Demand, Handle, HandleConcurrent, HandleCounter, Limit, OnFailure, Plan, Scope,
    Subject, Tuning, Unit, Value, Window,
};
use weir_types::{ApiKeyId, OrganizationId, ReservationId, UserId, names};

fn limit(name: &str, scope: Scope, unit: &str, window: Window) -> Limit {
    Limit {
        name: name.to_owned(),
        scope,
        unit: Unit::parse(unit),
        cap: 1_000,
        window,
        on_failure: OnFailure::Closed,
        alert_percents: Vec::new(),
    }
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
    let subject = Subject::new(organization, &user, &key, "", "", []).unwrap();
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

/// Of six windows and a concurrency limit.
fn decision() -> Vec<Decided> {
    (0..7).map(|place| Decided { used: 40_000_000 << place, held: 300 << place }).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|place| u8::from_str_radix(&hex[2 * place..2 * place + 2], 16).unwrap()).collect()
}

#[test]
fn a_handle_of_version_1_is_still_read() {
    let hex = "017b6c50c4a00100000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f200211752122232425262728292a2b2c2d2e\
               2f30126c6665617475726500696e746572766965770405010480b489130001ff05696d616765030307000180f88fd28534ac020102e807ad02\
               020301010900";
    let bytes = bytes(hex);
    let handle = Handle::decode(&bytes).unwrap();
    assert_eq!(handle.reserved_at, 1_790_000_000_123);
    assert_eq!((handle.reservation.as_uuid().as_bytes()[0], handle.organization.as_uuid().as_bytes()[0]), (1, 17));
    assert_eq!(handle.values[2], Value::Label("feature".to_owned(), "interview".to_owned()));
    let amounts = [("concurrent", 1), ("nano_usd", 40_000_000), ("request", 1), ("image", 3)];
    assert_eq!(handle.amounts, Amounts::new(amounts).unwrap());
    let counter = |limit, value, at, amount| HandleCounter { limit, value, at, amount, cap: None, brought: true };
    let counters = [counter(7, 0, 1_788_220_800_000, 40_000_000), counter(300, 1, 1_000, 1), counter(301, 2, 1, 3)];
    assert_eq!(handle.counters, counters);
    assert_eq!(handle.concurrent, [HandleConcurrent { limit: 9, value: 0, cap: None }]);
    assert_eq!(handle.decision, []);
    // It is announced again after a loss, and found again as it was.
    assert_eq!(Body::of(&bytes).unwrap().at(handle.reserved_at), bytes);
}

/// Nobody has said which of their limits were brought: any of them may have been.
#[test]
fn handles_of_versions_2_and_3_are_still_read() {
    let ids = "7b6c50c4a00100000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20000200010105";
    let counters = "0207000080f88fd2853464ac020001e8070a";
    let account = "01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa2a026b3100030a";
    let decision = "0207030101";
    let first = bytes(&format!("02{ids}{counters}00{account}{decision}"));
    let grown = bytes(&format!("03{ids}{counters}00020000{account}0507{account}{decision}"));
    let part = |growth, taken_at| {
        let account = AccountKey { limit: 42, value: "k1".into() };
        let counter = SharedCounter { account, at: None, amount: 3, cap: 10, brought: true };
        HandleShared { growth, taken_at, holder: [0xaa; 16], counters: vec![counter] }
    };
    let at = 1_790_000_000_123;
    for (bytes, shared) in [(first, vec![part(0, at)]), (grown, vec![part(0, at), part(5, 7)])] {
        let handle = Handle::decode(&bytes).unwrap();
        let counter = |limit, at, amount, cap| HandleCounter { limit, value: 0, at, amount, cap, brought: true };
        let counters = [counter(7, 1_788_220_800_000, 1, Some(100)), counter(300, 1_000, 5, Some(10))];
        assert_eq!(handle.counters, counters);
        assert_eq!(handle.shared, shared);
        assert_eq!(handle.decision, [Decided { used: 7, held: 3 }, Decided { used: 1, held: 1 }]);
        assert_eq!(Body::of(&bytes).unwrap().at(at), bytes);
    }
}

#[test]
fn a_handle_says_which_limits_its_reservation_has_brought() {
    let (plan, _, amounts) = six();
    let label = limit("own", Scope::Label("own_key".to_owned()), "request", Window::Rolling(60_000));
    let plan = plan.beside([(77, label)], TUNING);
    let subject = Subject::new(OrganizationId::new_v7(), "", "", "", "", [("own_key", "k")]).unwrap();
    let account = |limit| AccountKey { limit, value: "k".into() };
    let counter = |limit, brought| SharedCounter { account: account(limit), at: Some(5), amount: 3, cap: 10, brought };
    let part = HandleShared { taken_at: 5, counters: vec![counter(8, false), counter(9, true)], ..Default::default() };
    let demand = Demand::new(&plan, &subject, &amounts, 5);
    let draft = Draft::new(ReservationId::new_v7(), &subject, &amounts, &demand);
    let handle = Handle::decode(&draft.with_shared(&[part.clone(), HandleShared::default()]).at(5, &[])).unwrap();
    let brought = |counter: &&HandleCounter| counter.brought;
    assert_eq!(handle.counters.iter().filter(brought).map(|counter| counter.limit).collect::<Vec<_>>(), [77]);
    assert_eq!(handle.counters.len(), 4, "and the three of the organisation");
    assert_eq!(handle.shared, [part]);
}

#[test]
fn a_handle_without_a_decision_is_one_too() {
    let (plan, subject, amounts) = six();
    let demand = Demand::new(&plan, &subject, &amounts, 5);
    let bytes = Draft::new(ReservationId::new_v7(), &subject, &amounts, &demand).at(5, &[]);
    assert_eq!(Handle::decode(&bytes).unwrap().decision, []);
    assert_eq!(Body::of(&bytes).unwrap().at(5), bytes);
}

#[test]
fn a_handle_of_six_limits_is_small_and_says_what_it_holds() {
    let (plan, subject, amounts) = six();
    let id = ReservationId::new_v7();
    let now = 1_790_000_000_000;
    let demand = Demand::new(&plan, &subject, &amounts, now);
    let decision = decision();
    let bytes = Draft::new(id, &subject, &amounts, &demand).at(now, &decision);
    assert!(bytes.len() < 270, "{} bytes", bytes.len());
    let handle = Handle::decode(&bytes).unwrap();
    assert_eq!(handle.decision, decision);
    assert!(handle.counters.iter().all(|counter| counter.cap == Some(1_000)));
    assert_eq!((handle.reservation, handle.organization, handle.reserved_at), (id, subject.organization, now));
    assert_eq!(handle.amounts, amounts);
    assert_eq!(handle.counters.len(), 6);
    assert_eq!(handle.concurrent, [HandleConcurrent { limit: 1_006, value: 0, cap: Some(1_000) }]);
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
        let mut handle = Draft::new(ReservationId::new_v7(), &subject, &amounts, &demand).at(5, &decision()).to_vec();
        let at = at % handle.len();
        prop_assert!(Handle::decode(&handle[..at]).is_err());
        handle[at] ^= 1 << bit;
        let _ = Handle::decode(&handle);
    }
}

#[test]
fn what_was_taken_is_told_from_what_was_taken_otherwise_for_the_same_growth() {
    let counter = SharedCounter {
        account: AccountKey { limit: 7, value: "".into() },
        at: Some(5),
        amount: 3,
        cap: 10,
        brought: false,
    };
    let part = HandleShared { growth: 2, taken_at: 0, holder: [1; 16], counters: vec![counter.clone()] };
    assert!(HandleShared { taken_at: 77, ..part.clone() }.is_what_was_taken(&part), "whenever the store did it");
    let more = vec![SharedCounter { amount: 4, ..counter.clone() }];
    let others = [
        HandleShared { growth: 1, ..part.clone() },
        HandleShared { holder: [2; 16], ..part.clone() },
        HandleShared { counters: more, ..part.clone() },
        HandleShared { counters: Vec::new(), ..part.clone() },
    ];
    for other in others {
        assert!(!other.is_what_was_taken(&part), "{other:?}");
    }
}
