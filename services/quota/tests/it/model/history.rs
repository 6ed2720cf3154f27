//! Random histories: plans, subjects, and what happens in which order.

use proptest::prelude::*;
use weir_proto::billing::v1::CalendarUnit;
use weir_quota::domain::Millis;

use super::reference::{Amounts, Limit, Scope, Who, Window};
use super::timed::Cut;

/// One history.
#[derive(Debug, Clone)]
pub(crate) struct History {
    /// Of all limits, and how far the clock of each engine is off.
    pub(crate) limits: Vec<(Limit, i64)>,
    pub(crate) begins: Millis,
    pub(crate) skew: [Millis; 2],
    pub(crate) steps: Vec<Step>,
}

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Call {
        call: Call,
        engine: usize,
        trouble: Option<Trouble>,
    },
    /// The store's clock; the engines' follow.
    Clock(Millis),
    /// A limit's cap: changed, or taken out of the plan.
    Cap {
        limit: usize,
        cap: Option<i64>,
    },
    /// The fast store's data is lost; live reservations are announced again, or some time later, or never.
    Lose {
        announce: bool,
    },
    /// An engine dies, another one starts in its place.
    Restart(usize),
}

/// What a client asks for. A slot stands for the reservation that was made in it last.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Reserve {
        slot: usize,
        who: Who,
        amounts: Amounts,
        lease: Millis,
    },
    /// The same request again.
    Repeat {
        slot: usize,
    },
    Commit {
        slot: usize,
        used: Used,
        estimated: bool,
        with: With,
    },
    Release {
        slot: usize,
        with: With,
    },
    Extend {
        slot: usize,
        lease: Millis,
    },
    /// An extension with amounts: so much more of each unit, or less of one.
    Grow {
        slot: usize,
        more: Amounts,
        less: bool,
        lease: Millis,
    },
    TakeOver {
        lease: Millis,
    },
    Check {
        who: Who,
        amounts: Amounts,
    },
}

/// What a settlement says about its reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum With {
    /// The handle that it has now, as far as its client knows.
    Handle,
    /// That from before it last grew.
    Former,
    Nothing,
}

/// What was used of what was reserved.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Used {
    Nothing,
    Half,
    All,
    /// So much more.
    More(i64),
}

/// The connection to the store breaks under a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trouble {
    pub(crate) cut: Cut,
    pub(crate) then: Then,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The client asks again until it knows.
    AskAgain,
    /// The engine dies, too; the client asks the other one.
    AskAnother,
    /// The client dies.
    GiveUp,
}

pub(crate) const SLOTS: usize = 8;
const ZONES: [&str; 4] = ["Europe/Paris", "UTC", "Australia/Lord_Howe", "Pacific/Apia"];
const HOUR: Millis = 3_600_000;
const DAY: Millis = 24 * HOUR;

/// Limits of every scope, unit and kind of window.
fn limit() -> impl Strategy<Value = (Limit, i64)> {
    let scope = prop::sample::select(vec![
        Scope::Organization,
        Scope::Organization,
        Scope::User,
        Scope::ApiKey,
        Scope::Ip,
        Scope::Feature,
    ]);
    let unit = prop::sample::select(vec!["request", "token", "nano_usd"]);
    let units =
        prop::sample::select(vec![CalendarUnit::Minute, CalendarUnit::Hour, CalendarUnit::Day, CalendarUnit::Month]);
    let zone = prop::sample::select(ZONES.to_vec());
    let length = prop::sample::select(vec![1, 700, 1_000, 60_000, 90_061, HOUR, DAY]);
    // On the last days of months.
    let anchor = prop::sample::select(vec![1_769_855_400_000, 1_769_702_400_000, 1_767_225_599_999, 1_709_164_800_000]);
    let window = prop_oneof![
        4 => length.prop_map(Window::Rolling),
        4 => (units, zone.clone()).prop_map(|(unit, zone)| Window::Calendar(unit, zone)),
        1 => (anchor, zone).prop_map(|(anchor, zone)| Window::Anchored(anchor, zone)),
        1 => Just(Window::Lifetime),
        2 => Just(Window::Concurrent),
    ];
    (scope, unit, window, cap()).prop_map(|(scope, unit, window, cap)| {
        let unit = if window == Window::Concurrent { "concurrent" } else { unit };
        let cap = if window == Window::Concurrent { cap % 4 } else { cap };
        (Limit { name: "", scope, unit, window }, cap)
    })
}

/// On both sides of what is counted exactly.
fn cap() -> impl Strategy<Value = i64> {
    prop_oneof![2 => 0_i64..=64, 3 => 65_i64..2_000]
}

const NAMES: [&str; 7] = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh"];

fn limits() -> impl Strategy<Value = Vec<(Limit, i64)>> {
    prop::collection::vec(limit(), 1..=NAMES.len()).prop_map(|limits| {
        limits.into_iter().zip(NAMES).map(|((limit, cap), name)| (Limit { name, ..limit }, cap)).collect()
    })
}

/// A visitor with everything, another user, the organisation itself.
pub(crate) const SUBJECTS: [Who; 3] = [
    Who { user: Some(1), key: Some(1), ip: Some(1), feature: Some(1) },
    Who { user: Some(2), key: None, ip: Some(2), feature: Some(1) },
    Who { user: None, key: None, ip: None, feature: None },
];

fn who() -> impl Strategy<Value = Who> {
    prop::sample::select(SUBJECTS.to_vec())
}

fn amounts() -> impl Strategy<Value = Amounts> {
    let amount = || prop_oneof![1 => Just(None), 1 => Just(Some(0)), 4 => (1_i64..40).prop_map(Some), 3 => (40_i64..900).prop_map(Some)];
    let concurrent = prop_oneof![1 => Just(None), 1 => Just(Some(0)), 4 => Just(Some(1))];
    (amount(), amount(), amount(), concurrent).prop_map(|(request, token, money, concurrent)| {
        let list = [("request", request), ("token", token), ("nano_usd", money), ("concurrent", concurrent)];
        list.into_iter().filter_map(|(unit, amount)| Some((unit, amount?))).collect()
    })
}

fn growth() -> impl Strategy<Value = Amounts> {
    let amount = || prop_oneof![4 => Just(None), 1 => Just(Some(0)), 6 => (1_i64..12).prop_map(Some), 1 => (40_i64..600).prop_map(Some)];
    (amount(), amount(), amount()).prop_map(|(request, token, money)| {
        let list = [("request", request), ("token", token), ("nano_usd", money)];
        list.into_iter().filter_map(|(unit, amount)| Some((unit, amount?))).collect()
    })
}

fn lease() -> impl Strategy<Value = Millis> {
    prop::sample::select(vec![1_000, 30_000, HOUR])
}

fn with() -> impl Strategy<Value = With> {
    prop_oneof![7 => Just(With::Handle), 2 => Just(With::Former), 1 => Just(With::Nothing)]
}

fn call() -> impl Strategy<Value = Call> {
    let slot = || 0..SLOTS;
    let used = prop_oneof![
        1 => Just(Used::Nothing),
        2 => Just(Used::Half),
        2 => Just(Used::All),
        1 => (1_i64..500).prop_map(Used::More)
    ];
    prop_oneof![
        12 => (slot(), who(), amounts(), lease()).prop_map(|(slot, who, amounts, lease)| Call::Reserve { slot, who, amounts, lease }),
        2 => slot().prop_map(|slot| Call::Repeat { slot }),
        10 => (slot(), used, any::<bool>(), with())
            .prop_map(|(slot, used, estimated, with)| Call::Commit { slot, used, estimated, with }),
        3 => (slot(), with()).prop_map(|(slot, with)| Call::Release { slot, with }),
        3 => (slot(), lease()).prop_map(|(slot, lease)| Call::Extend { slot, lease }),
        9 => (slot(), growth(), prop::bool::weighted(0.05), lease())
            .prop_map(|(slot, more, less, lease)| Call::Grow { slot, more, less, lease }),
        2 => lease().prop_map(|lease| Call::TakeOver { lease }),
        2 => (who(), amounts()).prop_map(|(who, amounts)| Call::Check { who, amounts }),
    ]
}

fn trouble() -> impl Strategy<Value = Option<Trouble>> {
    let then = prop::sample::select(vec![Then::AskAgain, Then::AskAnother, Then::GiveUp]);
    let some =
        (0_usize..3, any::<bool>(), then).prop_map(|(at, received, then)| Trouble { cut: Cut { at, received }, then });
    prop::option::weighted(0.12, some)
}

fn clock() -> impl Strategy<Value = Millis> {
    let forward = prop::sample::select(vec![
        1,
        11,
        400,
        999,
        1_000,
        29_000,
        60_000,
        61_000,
        600_000,
        HOUR,
        7 * HOUR,
        DAY,
        26 * HOUR,
        20 * DAY,
    ]);
    let back = prop::sample::select(vec![-1, -1_000, -61_000, -HOUR, -DAY, -33 * DAY]);
    prop_oneof![14 => forward, 1 => back]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (call(), 0_usize..2, trouble()).prop_map(|(call, engine, trouble)| Step::Call { call, engine, trouble }),
        12 => clock().prop_map(Step::Clock),
        2 => (0..NAMES.len(), prop::option::weighted(0.8, cap())).prop_map(|(limit, cap)| Step::Cap { limit, cap }),
        1 => any::<bool>().prop_map(|announce| Step::Lose { announce }),
        1 => (0_usize..2).prop_map(Step::Restart),
    ]
}

/// Moments shortly before something: a clock's change in Paris, Lord Howe and Apia, a leap day, a year's end, nothing at all.
fn begins() -> impl Strategy<Value = Millis> {
    let moments = vec![
        1_774_738_790_000_i64,
        1_792_886_370_000,
        1_775_314_770_000,
        1_325_239_170_000,
        1_835_308_770_000,
        1_798_761_570_000,
        1_790_000_000_123,
    ];
    (prop::sample::select(moments), 0_i64..40_000).prop_map(|(moment, later)| moment + later)
}

fn skew() -> impl Strategy<Value = Millis> {
    prop_oneof![6 => Just(0), 1 => Just(-3_000), 1 => Just(5_000), 1 => Just(40 * DAY), 1 => Just(-40 * DAY)]
}

pub(crate) fn history(length: usize) -> impl Strategy<Value = History> {
    (limits(), begins(), [skew(), skew()], prop::collection::vec(step(), length / 3..length))
        .prop_map(|(limits, begins, skew, steps)| History { limits, begins, skew, steps })
}
