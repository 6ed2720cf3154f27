//! Reserve: everything is looked at before anything is changed.

use smallvec::SmallVec;

use super::subject::{Counter, Subject, Whose};
use super::tenant::{Held, Kept, State, Tenant};
use crate::domain::demand::bucket_end;
use crate::domain::{Decided, Demand, Millis, Part, PlanLimit, Touch, lease};
use crate::storage::store::{Admission, Reading, Reserve};

/// Where the counters of each part are.
type Places = SmallVec<[Option<u32>; 4]>;

/// What a counter says to an amount.
struct Room {
    /// Used and held, were it admitted.
    then: Decided,
    fits: bool,
}

impl Tenant {
    /// Reserves against all limits at once, or changes nothing.
    pub(super) fn reserve(&mut self, generation: u64, reserve: &Reserve<'_>, now: Millis) -> Admission {
        if let Some(state) = self.reservation(&reserve.id) {
            return match state {
                State::Settled(_) => Admission::Settled,
                State::Held(held)
                    if fingerprint(held.kept.parts().0, reserve) == fingerprint(&reserve.draft.tail, reserve) =>
                {
                    Admission::Duplicate(held.record())
                }
                State::Held(_) => Admission::Reused,
            };
        }
        let demand = reserve.demand;
        let places: Places = demand.parts.iter().map(|part| self.find(part.value)).collect();
        let mut decision = Vec::with_capacity(8);
        let mut refused = false;
        for (part, place) in demand.parts.iter().zip(&places) {
            let subject = place.and_then(|place| self.subjects.get(place));
            match look(part, subject, generation, now, reserve.check_clock, &mut decision) {
                Ok(fits) => refused |= !fits,
                Err(admission) => return admission,
            }
        }
        self.concurrency.advance(now);
        for (part, limit) in demand.concurrent() {
            let live = self.concurrency.live(limit.id, part.value);
            refused |= live >= limit.limit.cap;
            decision.push(Decided { used: live + 1, held: live + 1 });
        }
        if refused {
            return Admission::Refused(self.reading(demand, now));
        }
        for (part, place) in demand.parts.iter().zip(places) {
            let place = place.unwrap_or_else(|| self.add(part.value, fresh(part, generation)));
            let grown = self.subjects.get_mut(place).map_or(0, |subject| count(part, subject, generation, now));
            self.account(grown, 0);
        }
        let ends = lease::end(now, i64::try_from(reserve.lease.as_millis()).unwrap_or(i64::MAX));
        let places = demand.concurrent().map(|(part, limit)| self.concurrency.place(limit.id, part.value));
        let held = Held {
            generation,
            reserved_at: now,
            ends,
            live_until: ends,
            concurrent: places.collect(),
            kept: Kept::new(reserve.draft.version, &reserve.draft.tail, reserve.context, &decision),
        };
        self.hold(reserve.id, held);
        Admission::Admitted { at: now, decision }
    }

    /// What a demand would touch, as it stands.
    pub(super) fn reading(&mut self, demand: &Demand<'_>, now: Millis) -> Reading {
        self.concurrency.advance(now);
        let live = demand.concurrent().map(|(part, limit)| self.concurrency.live(limit.id, part.value)).collect();
        let state = |part: &Part<'_>| Some(self.subjects.get(self.find(part.value)?)?.state());
        Reading { at: now, live, states: demand.parts.iter().map(state).collect() }
    }
}

/// What a repeated request must repeat.
fn fingerprint<'a>(tail: &'a [u8], reserve: &Reserve<'_>) -> &'a [u8] {
    tail.get(..reserve.draft.fingerprint).unwrap_or(tail)
}

/// Counters of a subject that nothing has been counted of, in the plan's order.
fn fresh(part: &Part<'_>, generation: u64) -> Subject {
    let mut subject = Whose::new_subject(part.value, generation, part.scope.layout);
    subject.counters.extend(part.scope.windows.iter().map(Counter::empty));
    subject
}

impl Counter {
    fn empty(limit: &PlanLimit) -> Self {
        match limit.rolling() {
            Some(_) => {
                Self::Rolling { limit: limit.id, spent: 0, held: 0, buckets: super::buckets::Buckets::default() }
            }
            None => Self::Period { limit: limit.id, start: 0, spent: 0, held: 0, version: 0 },
        }
    }
}

/// Looks at the counters of a part. Appends used and held of each touched limit, were this admitted; answers whether all of it fits.
fn look(
    part: &Part<'_>,
    subject: Option<&Subject>,
    generation: u64,
    now: Millis,
    check_clock: bool,
    decision: &mut Vec<Decided>,
) -> Result<bool, Admission> {
    let windows = part.scope.windows.iter().zip(&part.touches);
    let Some(subject) = subject else {
        if part.scope.durable {
            return Err(Admission::Cold);
        }
        let mut fits = true;
        for (limit, touch) in windows {
            let Some(touch) = touch else { continue };
            in_period(limit, touch, now, check_clock)?;
            fits &= touch.amount == 0 || touch.amount <= limit.limit.cap;
            decision.push(Decided { used: touch.amount, held: touch.amount });
        }
        return Ok(fits);
    };
    let adopted = subject.generation != generation;
    if subject.layout != part.scope.layout || (adopted && part.scope.durable) {
        return Err(Admission::Cold);
    }
    let mut fits = true;
    for ((limit, touch), counter) in windows.zip(&subject.counters) {
        let Some(touch) = touch else { continue };
        in_period(limit, touch, now, check_clock)?;
        let room = counter.room(limit, touch, adopted, now)?;
        fits &= room.fits;
        decision.push(room.then);
    }
    Ok(fits)
}

/// Whether a period is the one that the clock is in.
fn in_period(limit: &PlanLimit, touch: &Touch, now: Millis, check_clock: bool) -> Result<(), Admission> {
    let out = now >= touch.period.end || (check_clock && now < touch.period.start);
    if out && limit.rolling().is_none() { Err(Admission::OutsidePeriod(now)) } else { Ok(()) }
}

impl Counter {
    /// What it says to an amount. `adopted`: it is of a former generation, and what it held is not known to this one.
    fn room(&self, limit: &PlanLimit, touch: &Touch, adopted: bool, now: Millis) -> Result<Room, Admission> {
        let amount = touch.amount;
        let kept = |held: i64| if adopted { 0 } else { held };
        match self {
            Self::Period { start, .. } if *start > touch.period.start => Err(Admission::LaterPeriod(*start)),
            Self::Period { start, spent, held, .. } => {
                let (spent, held) = if *start < touch.period.start { (0, 0) } else { (*spent, kept(*held)) };
                let fits = amount == 0 || amount <= limit.limit.cap - spent - held;
                Ok(Room { then: Decided { used: spent + held + amount, held: held + amount }, fits })
            }
            Self::Rolling { spent, held, buckets, .. } => {
                let spent = spent - buckets.gone(now - limit.rolling().unwrap_or(0));
                let fits = amount == 0 || amount <= limit.limit.cap - spent;
                let used = spent + amount;
                Ok(Room { then: Decided { used, held: (kept(*held) + amount).min(used) }, fits })
            }
        }
    }

    /// Counts an amount that fits; answers how much memory that took.
    fn take(&mut self, limit: &PlanLimit, touch: &Touch, now: Millis) -> usize {
        match self {
            Self::Period { start, spent, held, version, .. } => {
                if *start < touch.period.start {
                    (*start, *spent, *held, *version) = (touch.period.start, 0, 0, 0);
                }
                *held += touch.amount;
                0
            }
            Self::Rolling { spent, held, buckets, .. } => {
                *spent -= buckets.drop_gone(now - limit.rolling().unwrap_or(0));
                if touch.amount == 0 {
                    return 0;
                }
                let before = buckets.heap();
                buckets.add(bucket_end(now, limit.grain), touch.amount);
                *spent += touch.amount;
                *held += touch.amount;
                buckets.heap() - before
            }
        }
    }
}

/// Counts what a part asks for; answers how much memory that took.
fn count(part: &Part<'_>, subject: &mut Subject, generation: u64, now: Millis) -> usize {
    if subject.generation != generation {
        // Counters of a former plan: this generation doesn't know what they held.
        subject.counters.truncate(part.scope.windows.len());
        subject.adopt(generation);
    }
    let mut grown = 0;
    let windows = part.scope.windows.iter().zip(&part.touches);
    for ((limit, touch), counter) in windows.zip(&mut subject.counters) {
        if let Some(touch) = touch {
            grown += counter.take(limit, touch, now);
        }
    }
    subject.keep_until(sweep_after(part));
    if part.scope.rolling > 0 {
        subject.keep_until(now + 2 * part.scope.rolling);
    }
    grown
}

/// Counters are kept for so long after their period, for those who look at it late.
const GRACE: Millis = 3_600_000;

/// When nothing that is counted there matters any more; -1 if never. Rolling windows come on top.
fn sweep_after(part: &Part<'_>) -> Millis {
    if part.scope.lifetime {
        return -1;
    }
    let touched = part.scope.windows.iter().zip(&part.touches).filter(|(limit, _)| limit.rolling().is_none());
    let ends = touched.filter_map(|(_, touch)| Some(touch.as_ref()?.period.end));
    ends.max().map_or(0, |end| end.saturating_add(GRACE))
}

impl Subject {
    /// Keeps it until a time; -1: for ever.
    pub(super) const fn keep_until(&mut self, until: Millis) {
        if self.sweep_after >= 0 && (until < 0 || until > self.sweep_after) {
            self.sweep_after = until;
        }
    }
}
