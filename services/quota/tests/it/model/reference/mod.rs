//! The reference: what the answers must be, computed from all reservations ever made.
//!
//! It keeps no counter. What a limit has used is the sum, over the whole history, of what each reservation counts in it at this
//! moment, by the definitions of docs/limits.md. Where a definition leaves room (after a clock went back, after a rolling limit's
//! buckets changed their width, while a settlement is on the books but nobody has told the fast store) it answers the range.

macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err(format!($($text)+));
        }
    };
}

mod admitting;
mod answers;
mod counting;
mod settling;

use std::collections::BTreeMap;

use weir_proto::billing::v1::CalendarUnit;
use weir_quota::domain::Millis;

pub(crate) use self::settling::Settled;
use crate::oracle;

/// Up to this cap a rolling limit is exact; above it counts in so many buckets: the defaults.
const EXACT_UP_TO: i64 = 64;
const BUCKETS: Millis = 60;
const HOUR: Millis = 3_600_000;

/// By what a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Organization,
    User,
    ApiKey,
    Ip,
    Feature,
}

/// Over what time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Window {
    Rolling(Millis),
    Calendar(CalendarUnit, &'static str),
    Anchored(Millis, &'static str),
    Lifetime,
    Concurrent,
}

/// A limit but for its cap, which changes.
#[derive(Debug, Clone)]
pub(crate) struct Limit {
    pub(crate) name: &'static str,
    pub(crate) scope: Scope,
    pub(crate) unit: &'static str,
    pub(crate) window: Window,
}

/// The scopes that a request has beside the organisation's; each value is one letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) user: Option<u8>,
    pub(crate) key: Option<u8>,
    pub(crate) ip: Option<u8>,
    pub(crate) feature: Option<u8>,
}

impl Who {
    /// Whose counter of a scope it is; none if the request does not have the scope.
    fn value(self, scope: Scope) -> Option<u8> {
        match scope {
            Scope::Organization => Some(0),
            Scope::User => self.user,
            Scope::ApiKey => self.key,
            Scope::Ip => self.ip,
            Scope::Feature => self.feature,
        }
    }
}

pub(crate) type Amounts = BTreeMap<&'static str, i64>;

/// The books: how a reservation ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fate {
    Held,
    Committed { amounts: Amounts, estimated: bool },
    Released,
}

/// What the fast store knows of a reservation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Known {
    /// Lost, when the books said this.
    Lost(Fate),
    Held,
    /// That it ended so, and whether its lease had ended.
    Ended {
        fate: Fate,
        late: bool,
    },
}

/// A reservation's share of one counter.
#[derive(Debug, Clone, PartialEq)]
struct Touch {
    limit: usize,
    whose: u8,
    /// A period's start, or a bucket's end.
    place: Millis,
    /// Whether a counter that only the fast store has still has it.
    counted: bool,
}

/// A reservation that was made once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Made {
    pub(crate) who: Who,
    pub(crate) amounts: Amounts,
    pub(crate) fate: Fate,
    pub(crate) known: Known,
    /// Whether it was handed over: then it can't be released.
    taken_over: bool,
    /// When its lease ends, and when it stops counting as under way: a take-over lengthens only the first.
    lease_ends: Millis,
    under_way_until: Millis,
    /// When it was made, or last grew, and the latest time that the store had seen then.
    pub(crate) at: Millis,
    latest: Millis,
    touches: Vec<Touch>,
    /// What it held before it grew, and the latest time that the store had seen when it began to.
    former: Vec<(Amounts, Millis, Vec<Touch>)>,
}

/// One limit of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    pub(crate) limit: String,
    pub(crate) cap: i64,
    pub(crate) used: i64,
    pub(crate) held: i64,
    pub(crate) requested: i64,
    pub(crate) reset: Option<Millis>,
    pub(crate) retry: Option<Millis>,
}

/// The reference.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    limits: Vec<Limit>,
    /// By limit; none while it is not in the plan.
    caps: Vec<Option<i64>>,
    /// Rolling limits whose buckets have not always had one width.
    mixed: Vec<bool>,
    /// Limits that have been out of the plan.
    absent: Vec<bool>,
    now: Millis,
    latest: Millis,
    went_back: bool,
    /// All times that the clock has shown.
    seen: Vec<Millis>,
    pub(crate) made: BTreeMap<u64, Made>,
}

impl PartialEq for Reference {
    fn eq(&self, other: &Self) -> bool {
        self.made == other.made
    }
}

type Checked<T = ()> = Result<T, String>;

impl Reference {
    pub(crate) fn new(limits: Vec<Limit>, caps: Vec<i64>, now: Millis) -> Self {
        let count = limits.len();
        Self {
            limits,
            caps: caps.into_iter().map(Some).collect(),
            mixed: vec![false; count],
            absent: vec![false; count],
            now,
            latest: now,
            went_back: false,
            seen: vec![now],
            made: BTreeMap::new(),
        }
    }

    pub(crate) fn set_clock(&mut self, now: Millis) {
        self.went_back |= now < self.latest;
        self.now = now;
        self.seen.push(now);
        self.latest = self.latest.max(now);
    }

    pub(crate) fn set_cap(&mut self, limit: usize, cap: Option<i64>) {
        if let (Some(before), Some(after)) = (self.caps[limit], cap) {
            self.mixed[limit] |= (before > EXACT_UP_TO) != (after > EXACT_UP_TO);
        }
        self.absent[limit] |= cap.is_none();
        self.caps[limit] = cap;
    }

    pub(crate) const fn now(&self) -> Millis {
        self.now
    }

    pub(crate) fn plan(&self) -> Vec<(&Limit, i64)> {
        self.limits.iter().zip(&self.caps).filter_map(|(limit, cap)| Some((limit, (*cap)?))).collect()
    }

    /// The fast store's data is gone.
    pub(crate) fn lose(&mut self) {
        for made in self.made.values_mut() {
            made.known = Known::Lost(made.fate.clone());
            made.touches.iter_mut().for_each(|touch| touch.counted = false);
        }
    }

    /// Whether what has left a limit's window is inside it again, by a clock that went back: in the books, which know no clock.
    pub(crate) fn may_drift(&self, name: &str) -> bool {
        let is_rolling = |limit: &Limit| limit.name == name && matches!(limit.window, Window::Rolling(_));
        self.went_back && self.limits.iter().any(is_rolling)
    }

    /// Money, and what is too long to be forgotten.
    fn is_durable(&self, limit: usize) -> bool {
        let Limit { window, unit, .. } = &self.limits[limit];
        match window {
            Window::Concurrent => false,
            Window::Lifetime | Window::Anchored(..) => true,
            Window::Calendar(CalendarUnit::Day | CalendarUnit::Month, _) => true,
            Window::Rolling(length) if *length >= HOUR => true,
            Window::Calendar(..) | Window::Rolling(_) => *unit == "nano_usd",
        }
    }

    fn period(&self, limit: usize, at: Millis) -> (Millis, Millis) {
        match &self.limits[limit].window {
            Window::Calendar(unit, zone) => oracle::calendar(*unit, &oracle::zone(zone), at),
            Window::Anchored(anchor, zone) => oracle::anchored(*anchor, &oracle::zone(zone), at),
            Window::Lifetime => (0, Millis::MAX),
            Window::Rolling(_) | Window::Concurrent => unreachable!(),
        }
    }

    /// The end of the bucket that a time is in, as wide as the cap says, or as wide as it can be.
    fn bucket(&self, limit: usize, at: Millis, widest: bool) -> Millis {
        let Window::Rolling(length) = self.limits[limit].window else { unreachable!() };
        let wide = widest || self.caps[limit].is_some_and(|cap| cap > EXACT_UP_TO);
        let width = if wide { (length / BUCKETS).max(1) } else { 1 };
        (at.div_euclid(width) + 1) * width
    }
}
