//! The reference: what the answers must be, computed from all reservations ever made.
//!
//! It keeps no counter. What a limit has used is the sum, over the whole history, of what each reservation counts in it at this
//! moment, by the definitions of docs/limits.md. Where a definition leaves room (after a clock went back, after a rolling limit's
//! buckets changed their width, while a settlement is on the books but nobody has told the fast store) it answers the range.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use weir_proto::billing::v1::CalendarUnit;
use weir_quota::domain::{Millis, lease};

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

/// What a counter may say.
#[derive(Debug, Clone, PartialEq)]
struct Expected {
    used: RangeInclusive<i64>,
    held: RangeInclusive<i64>,
    /// The start of the period.
    place: Millis,
    /// When it resets; of a rolling window only if that is certain.
    reset: Reset,
}

#[derive(Debug, Clone, PartialEq)]
enum Reset {
    At(Option<Millis>),
    /// When each bucket leaves, and what leaves with it.
    Buckets(Vec<(Millis, i64)>),
    Any,
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

macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err(format!($($text)+));
        }
    };
}

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

    /// Every reservation's share of a counter.
    fn shares(&self, limit: usize, whose: u8) -> impl Iterator<Item = (&Made, &Touch)> {
        let touches = self.made.values().flat_map(|made| made.touches.iter().map(move |touch| (made, touch)));
        touches.filter(move |(_, touch)| touch.limit == limit && touch.whose == whose)
    }

    /// What a reservation counts in a counter: committed, and held. Two values where it is on the books and the store was not told.
    fn counts(&self, made: &Made, touch: &Touch) -> (RangeInclusive<i64>, i64) {
        let unit = self.limits[touch.limit].unit;
        let of = |fate: &Fate| match fate {
            Fate::Committed { amounts, .. } => amounts.get(unit).copied().unwrap_or(0),
            Fate::Held | Fate::Released => 0,
        };
        let books = of(&made.fate);
        let reserved = made.amounts.get(unit).copied().unwrap_or(0);
        if !self.is_durable(touch.limit) {
            return match &made.known {
                _ if !touch.counted => (0..=0, 0),
                Known::Lost(_) => (0..=0, 0),
                Known::Held => (0..=0, reserved),
                Known::Ended { fate, .. } => (of(fate)..=of(fate), 0),
            };
        }
        match &made.known {
            Known::Held if made.fate == Fate::Held => (0..=0, reserved),
            Known::Held => (0..=books, reserved),
            // Settled on the books alone it counts once the store reads them, at the latest when it is told.
            Known::Lost(fate) | Known::Ended { fate, .. } => (of(fate).min(books)..=of(fate).max(books), 0),
        }
    }

    /// What a counter may say; more than one only after the clock went back over the end of a period.
    fn expected(&self, limit: usize, whose: u8) -> Vec<Expected> {
        match &self.limits[limit].window {
            Window::Concurrent => {
                let live = self.shares(limit, whose);
                let live = live.filter(|(made, _)| made.known == Known::Held && made.under_way_until > self.now);
                let live = i64::try_from(live.count()).unwrap();
                vec![Expected { used: live..=live, held: live..=live, place: 0, reset: Reset::At(None) }]
            }
            Window::Rolling(length) => vec![self.rolling(limit, whose, *length)],
            _ => {
                let mut periods = vec![self.period(limit, self.now)];
                // What has begun may stay begun, and what else is asked for at once then is in that time, too.
                periods.extend(self.begun().into_iter().map(|at| self.period(limit, at)));
                periods.sort_unstable();
                periods.dedup();
                periods.into_iter().map(|(start, end)| self.in_period(limit, whose, start, end)).collect()
            }
        }
    }

    /// All times after now in which a period may have begun.
    fn begun(&self) -> Vec<Millis> {
        let seen = self.seen.iter().filter(|at| **at > self.now);
        let calendars = (0..self.limits.len())
            .filter(|limit| matches!(self.limits[*limit].window, Window::Calendar(..) | Window::Anchored(..)));
        let calendars: Vec<usize> = calendars.collect();
        seen.flat_map(|at| {
            let starts = calendars.iter().map(|limit| self.period(*limit, *at).0).filter(|start| *start > self.now);
            starts.chain([*at]).collect::<Vec<_>>()
        })
        .collect()
    }

    fn in_period(&self, limit: usize, whose: u8, start: Millis, end: Millis) -> Expected {
        let (mut used, mut held) = ((0, 0), (0, 0));
        for (made, touch) in self.shares(limit, whose).filter(|(_, touch)| touch.place == start) {
            let (committed, holds) = self.counts(made, touch);
            // A counter that went to another period and back forgot what was held in it, and if nobody else has it, all.
            let forgets = self.went_back || self.absent[limit];
            let keeps = !forgets || self.is_durable(limit);
            used.0 += if keeps { *committed.start() } else { 0 } + if forgets { 0 } else { holds };
            used.1 += committed.end() + holds;
            held.0 += if forgets { 0 } else { holds };
            held.1 += holds;
        }
        let reset = Reset::At((end != Millis::MAX).then_some(end));
        Expected { used: used.0..=used.1, held: held.0..=held.1, place: start, reset }
    }

    fn rolling(&self, limit: usize, whose: u8, length: Millis) -> Expected {
        let loose = self.went_back || self.mixed[limit];
        let forgets = self.absent[limit] && !self.is_durable(limit);
        let mut buckets: BTreeMap<Millis, i64> = BTreeMap::new();
        let (mut low, mut high, mut holds) = (0, 0, 0);
        for (made, touch) in self.shares(limit, whose) {
            let (committed, held) = self.counts(made, touch);
            holds += held;
            // Told or not, a bucket has one or the other, never both.
            let least = if held > 0 { held } else { *committed.start() };
            let most = if made.known == Known::Held { held } else { *committed.end() };
            if !loose && touch.place + length > self.now {
                low += least;
                high += most;
                *buckets.entry(touch.place).or_default() += least;
            } else if loose {
                let reserved = made.amounts.get(self.limits[limit].unit).copied().unwrap_or(0);
                if touch.place + length > self.latest && !forgets {
                    low += least;
                }
                // What was returned too late to matter is not returned, and what was charged instead is charged beside it.
                if self.bucket(limit, made.latest, true) + length > self.now {
                    high += most + reserved;
                }
            }
        }
        if loose {
            high += self.formerly(limit, whose, length);
        }
        buckets.retain(|_, amount| *amount > 0);
        let certain = !loose && !forgets && low == high;
        if forgets {
            low = 0;
        }
        let held = if certain { holds.min(low)..=holds.min(low) } else { 0..=high };
        let leaves = buckets.into_iter().map(|(end, amount)| (end + length, amount)).collect();
        let reset = if certain { Reset::Buckets(leaves) } else { Reset::Any };
        Expected { used: low..=high, held, place: 0, reset }
    }

    /// What reservations have held in a counter before they grew, and may not have given back.
    fn formerly(&self, limit: usize, whose: u8, length: Millis) -> i64 {
        let unit = self.limits[limit].unit;
        let former = self.made.values().flat_map(|made| &made.former);
        let here = former.filter(|(_, latest, touches)| {
            let counted = touches.iter().any(|touch| touch.limit == limit && touch.whose == whose);
            counted && self.bucket(limit, *latest, true) + length > self.now
        });
        here.map(|(amounts, ..)| amounts.get(unit).copied().unwrap_or(0)).sum()
    }

    /// The limits that a request touches, and whose counters they are.
    fn touched(&self, who: Who, amounts: Option<&Amounts>) -> Vec<(usize, u8)> {
        let touched = self.limits.iter().enumerate().filter_map(|(limit, spec)| {
            self.caps[limit]?;
            let whose = who.value(spec.scope)?;
            let asked = amounts.map(|amounts| amounts.get(spec.unit).copied());
            match (asked, &spec.window) {
                (None, _) => {}
                (Some(asked), Window::Concurrent) => {
                    asked.filter(|asked| *asked > 0)?;
                }
                (Some(asked), _) => {
                    asked?;
                }
            }
            Some((limit, whose))
        });
        touched.collect()
    }

    /// Whether an answer's figures are a counter's; answers the period that they are about.
    fn matches(&self, limit: usize, whose: u8, state: &State, after: bool) -> Checked<Millis> {
        let spec = &self.limits[limit];
        let cap = self.caps[limit].unwrap_or(0);
        ensure!(state.cap == cap, "{}: a cap of {} instead of {cap}", spec.name, state.cap);
        let added = if after { state.requested } else { 0 };
        let all = self.expected(limit, whose);
        let fits = |expected: &&Expected| {
            let (used, held) = (state.used - added, state.held - added);
            expected.used.contains(&used) && expected.held.contains(&held) && self.resets(limit, expected, state, after)
        };
        let found = all.iter().find(fits).map(|expected| expected.place);
        found.ok_or_else(|| format!("{} ({whose}): {state:?} is none of {all:?}", spec.name))
    }

    fn resets(&self, limit: usize, expected: &Expected, state: &State, after: bool) -> bool {
        let until = |then: Millis| then - self.now;
        let refuses = Self::refuses(state) && state.requested <= state.cap;
        match &expected.reset {
            Reset::Any => true,
            Reset::At(end) => {
                let reset = end.map(until);
                let retry = match self.limits[limit].window {
                    // Whatever ends next: a guess.
                    Window::Concurrent => (refuses && state.cap > 0).then_some(1_000),
                    _ => reset.filter(|_| refuses),
                };
                state.reset == reset && (after || state.retry == retry)
            }
            // After a reservation of something the newest bucket is its own; it says nothing else.
            Reset::Buckets(_) if after => true,
            Reset::Buckets(leaves) => {
                let mut left: i64 = leaves.iter().map(|(_, amount)| amount).sum();
                let fits = leaves.iter().find(|(_, amount)| {
                    left -= amount;
                    state.requested <= state.cap - left
                });
                let retry = fits.filter(|_| refuses).map(|(then, _)| until(*then));
                state.reset == leaves.last().map(|(then, _)| until(*then)) && state.retry == retry
            }
        }
    }

    fn refuses(state: &State) -> bool {
        state.requested > 0 && state.used + state.requested > state.cap
    }

    /// Every limit of a subject.
    pub(crate) fn balance(&self, who: Who, states: &[State]) -> Checked {
        self.states(&self.touched(who, None), states, false).map(drop)
    }

    fn states(&self, touched: &[(usize, u8)], states: &[State], after: bool) -> Checked<Vec<Millis>> {
        ensure!(states.len() == touched.len(), "{} limits instead of {}: {states:?}", states.len(), touched.len());
        let place = |(limit, whose): &(usize, u8)| {
            let name = self.limits[*limit].name;
            let state = states.iter().find(|state| state.limit == name).ok_or_else(|| format!("{name} is missing"))?;
            self.matches(*limit, *whose, state, after)
        };
        touched.iter().map(place).collect()
    }

    pub(crate) fn check(&self, who: Who, amounts: &Amounts, states: &[State], refused_by: &[String]) -> Checked {
        self.states(&self.touched(who, Some(amounts)), states, false)?;
        let refusing: Vec<&String> =
            states.iter().filter(|state| Self::refuses(state)).map(|state| &state.limit).collect();
        ensure!(refused_by.iter().collect::<Vec<_>>() == refusing, "{refused_by:?} instead of {refusing:?}");
        for state in states {
            let asked = self.asked(state, amounts);
            ensure!(state.requested == asked, "{state:?} instead of {asked}");
        }
        Ok(())
    }

    fn asked(&self, state: &State, amounts: &Amounts) -> i64 {
        let limit = self.limits.iter().find(|limit| limit.name == state.limit).unwrap();
        amounts.get(limit.unit).copied().unwrap_or(0)
    }

    /// A reservation that was admitted: nothing refused it, and what it says is what there was and the reservation.
    pub(crate) fn admit(&mut self, id: u64, who: Who, amounts: &Amounts, lease: Millis, states: &[State]) -> Checked {
        let touched = self.touched(who, Some(amounts));
        let places = self.states(&touched, states, true)?;
        for state in states {
            let (before, asked) = (state.used - state.requested, self.asked(state, amounts));
            ensure!(state.requested == asked, "{state:?} instead of {asked}");
            ensure!(asked == 0 || before + asked <= state.cap, "{state:?} was admitted");
        }
        let touches = touched.iter().zip(places).map(|((limit, whose), place)| {
            let place = match self.limits[*limit].window {
                Window::Rolling(_) => self.bucket(*limit, self.now, false),
                _ => place,
            };
            Touch { limit: *limit, whose: *whose, place, counted: true }
        });
        let made = Made {
            who,
            amounts: amounts.clone(),
            fate: Fate::Held,
            known: Known::Held,
            lease_ends: lease::end(self.now, lease),
            under_way_until: lease::end(self.now, lease),
            at: self.now,
            latest: self.latest,
            touches: touches.collect(),
            former: Vec::new(),
        };
        self.made.insert(id, made);
        Ok(())
    }

    /// As if it held nothing: so a reservation that grows is decided.
    fn without(&self, id: u64) -> (Self, Made) {
        let mut other = self.clone();
        let made = other.made.remove(&id).unwrap();
        (other, made)
    }

    fn again(mut self, id: u64, before: &Made) -> Self {
        let made = self.made.get_mut(&id).unwrap();
        made.former.clone_from(&before.former);
        made.former.push((before.amounts.clone(), before.latest, before.touches.clone()));
        self
    }

    /// A reservation that grew: nothing else refused the whole of it.
    pub(crate) fn grow(&self, id: u64, whole: &Amounts, lease: Millis, states: &[State]) -> Checked<Self> {
        let (mut other, made) = self.without(id);
        other.admit(id, made.who, whole, lease, states)?;
        Ok(other.again(id, &made))
    }

    /// One that did not.
    pub(crate) fn refuse_growth(&self, id: u64, whole: &Amounts, states: &[State]) -> Checked {
        let (other, made) = self.without(id);
        other.refuse(made.who, whole, states)
    }

    /// What a growth may have done whose answer nobody has seen, beside nothing.
    pub(crate) fn grow_unseen(&self, id: u64, whole: &Amounts, lease: Millis) -> Vec<Self> {
        let (other, made) = self.without(id);
        let grown = other.admit_unseen(id, made.who, whole, lease);
        grown.into_iter().map(|world| world.again(id, &made)).collect()
    }

    /// A refusal names every limit that refuses, and no other.
    pub(crate) fn refuse(&self, who: Who, amounts: &Amounts, states: &[State]) -> Checked {
        let touched = self.touched(who, Some(amounts));
        ensure!(!states.is_empty(), "refused by nothing");
        for (limit, whose) in touched {
            let spec = &self.limits[limit];
            let asked = amounts.get(spec.unit).copied().unwrap_or(0);
            match states.iter().find(|state| state.limit == spec.name) {
                Some(state) => {
                    self.matches(limit, whose, state, false)?;
                    ensure!(state.requested == asked && Self::refuses(state), "{state:?} refuses nothing");
                }
                None => {
                    let cap = self.caps[limit].unwrap_or(0);
                    let fits = |expected: &Expected| asked == 0 || expected.used.start() + asked <= cap;
                    ensure!(self.expected(limit, whose).iter().any(fits), "{} refuses and is not named", spec.name);
                }
            }
        }
        Ok(())
    }

    /// What a reservation may have done whose answer nobody has seen, beside nothing: more than one thing if the clock went back.
    pub(crate) fn admit_unseen(&self, id: u64, who: Who, amounts: &Amounts, lease: Millis) -> Vec<Self> {
        let moments = [self.now].into_iter().chain(self.begun());
        moments.filter_map(|moment| self.admit_unseen_at(moment, id, who, amounts, lease)).collect()
    }

    /// In the periods of one moment.
    fn admit_unseen_at(&self, at: Millis, id: u64, who: Who, amounts: &Amounts, lease: Millis) -> Option<Self> {
        let touched = self.touched(who, Some(amounts));
        let mut states = Vec::new();
        for (limit, whose) in &touched {
            let requested = amounts.get(self.limits[*limit].unit).copied().unwrap_or(0);
            let cap = self.caps[*limit].unwrap_or(0);
            let mut all = self.expected(*limit, *whose).into_iter();
            let expected = match self.limits[*limit].window {
                Window::Rolling(_) | Window::Concurrent => all.next(),
                _ => all.find(|expected| expected.place == self.period(*limit, at).0),
            }?;
            let used = *expected.used.start();
            if requested > 0 && used + requested > cap {
                return None;
            }
            let reset = match expected.reset {
                Reset::At(end) => end.map(|end| end - self.now),
                Reset::Buckets(_) | Reset::Any => None,
            };
            states.push(State {
                limit: self.limits[*limit].name.to_owned(),
                cap,
                used: used + requested,
                held: expected.held.start() + requested,
                requested,
                reset,
                retry: None,
            });
        }
        let mut other = self.clone();
        other.admit(id, who, amounts, lease, &states).ok()?;
        Some(other)
    }

    /// Whether a settlement is taken: with a handle always; a release of anything, so that it can't be reserved later; a commit of
    /// what the store or the books know.
    pub(crate) fn is_findable(&self, id: u64, bare: bool, asked: &Fate) -> bool {
        let made = self.made.get(&id);
        let known = made.is_some_and(|made| made.known == Known::Held || made.fate != Fate::Held);
        !bare || *asked == Fate::Released || known
    }

    /// How a settlement is answered.
    pub(crate) fn settled(&self, id: u64, asked: &Fate) -> Settled {
        let Some(made) = self.made.get(&id) else {
            return Settled::Done { fate: asked.clone(), duplicate: false, late: false };
        };
        let late = match &made.known {
            Known::Lost(_) => false,
            Known::Held => made.lease_ends <= self.now,
            Known::Ended { late, .. } => *late,
        };
        match (&made.fate, asked) {
            (Fate::Held, _) => Settled::Done { fate: asked.clone(), duplicate: false, late },
            (Fate::Committed { estimated: true, .. }, Fate::Committed { estimated: false, .. }) => {
                Settled::Done { fate: asked.clone(), duplicate: false, late }
            }
            (Fate::Committed { .. }, Fate::Released) => Settled::WasCommitted,
            (Fate::Released, Fate::Committed { .. }) => Settled::WasReleased,
            (stands, _) => Settled::Done { fate: stands.clone(), duplicate: true, late },
        }
    }

    /// The books say it, and if `told` the fast store knows.
    pub(crate) fn settle(&mut self, id: u64, asked: &Fate, told: bool) {
        self.made.entry(id).or_insert_with(|| Made {
            who: Who { user: None, key: None, ip: None, feature: None },
            amounts: Amounts::new(),
            fate: Fate::Held,
            known: Known::Lost(Fate::Held),
            lease_ends: 0,
            under_way_until: 0,
            at: 0,
            latest: 0,
            touches: Vec::new(),
            former: Vec::new(),
        });
        let late = match self.settled(id, asked) {
            Settled::Done { fate, late, .. } => {
                self.made.get_mut(&id).unwrap().fate = fate;
                late
            }
            // The store is told what the books say, whatever was asked.
            _ => match &self.made[&id].known {
                Known::Ended { late, .. } => *late,
                Known::Held => self.made[&id].lease_ends <= self.now,
                Known::Lost(_) => false,
            },
        };
        let made = self.made.get_mut(&id).unwrap();
        if told {
            made.known = Known::Ended { fate: made.fate.clone(), late };
        }
    }

    pub(crate) fn extend(&mut self, id: u64, lease: Millis) -> &'static str {
        let ends = lease::end(self.now, lease);
        let made = self.made.get_mut(&id).unwrap();
        match (&made.known, &made.fate) {
            (Known::Held, _) => {
                (made.lease_ends, made.under_way_until) = (ends, ends);
                "extended"
            }
            (Known::Lost(_), Fate::Held) => {
                made.known = Known::Held;
                (made.lease_ends, made.under_way_until) = (ends, ends);
                made.touches.iter_mut().for_each(|touch| touch.counted = true);
                "announced"
            }
            _ => "settled",
        }
    }

    /// Those whose lease has ended.
    pub(crate) fn expired(&self) -> Vec<u64> {
        let expired = self.made.iter().filter(|(_, made)| made.known == Known::Held && made.lease_ends <= self.now);
        expired.map(|(id, _)| *id).collect()
    }

    /// They are leased to somebody else.
    pub(crate) fn take_over(&mut self, lease: Millis) {
        for id in self.expired() {
            self.made.get_mut(&id).unwrap().lease_ends = lease::end(self.now, lease);
        }
    }
}

/// The answer to a settlement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Settled {
    Done { fate: Fate, duplicate: bool, late: bool },
    WasCommitted,
    WasReleased,
}
