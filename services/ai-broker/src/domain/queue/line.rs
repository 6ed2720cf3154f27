//! One line: everything that waits for the same provider.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::order::{Call, Class, Millis, Place, Ticket};

/// How a line behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// The most that wait; more are refused.
    pub(crate) capacity: usize,
    /// Waiting for so long is worth one step of priority.
    pub(crate) aging: Millis,
    /// A call that has the turn and says nothing for so long loses it, and goes back to its place.
    pub(crate) turn: Millis,
}

/// Calls that wait.
#[derive(Debug)]
pub(crate) struct Line {
    rules: Rules,
    calls: HashMap<Ticket, Waiting>,
    classes: BTreeMap<i32, Class>,
    /// By the time at which they are ready again: those that have the turn, and those that have gone on to the provider.
    aside: BTreeSet<(Millis, Ticket)>,
    deadlines: BTreeSet<(Millis, Ticket)>,
    /// Before this the provider has no room.
    blocked_until: Millis,
    arrivals: u64,
    /// How many have the turn.
    turns: usize,
    /// How many may have it.
    width: usize,
    /// How many have gone on to the provider, and take no place in the line.
    gone_on: usize,
    pace: Pace,
}

#[derive(Debug)]
struct Waiting {
    call: Call,
    place: Place,
    /// When it is ready again, if it is aside.
    aside: Option<Millis>,
    has_turn: bool,
    /// How many were said to be before it: it is never told more.
    ahead: usize,
}

/// What a waiting caller is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// How many go before it. Never grows while it waits.
    pub(crate) ahead: usize,
    /// How long it will take at the present pace; none before two have found room.
    pub(crate) eta: Option<Millis>,
}

impl Line {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            calls: HashMap::new(),
            classes: BTreeMap::new(),
            aside: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            blocked_until: 0,
            arrivals: 0,
            turns: 0,
            width: usize::MAX,
            gone_on: 0,
            pace: Pace::default(),
        }
    }

    /// Takes a call in; answers whether it waits now: if not, the line is full. The same ticket again keeps its place.
    pub(crate) fn join(&mut self, call: Call) -> bool {
        if self.calls.contains_key(&call.ticket) {
            return true;
        }
        if self.calls.len() - self.gone_on >= self.rules.capacity {
            return false;
        }
        self.arrivals += 1;
        let place = self.classes.entry(call.priority).or_default().join(&call, self.arrivals);
        self.deadlines.insert((call.deadline, call.ticket));
        let waiting = Waiting { call, place, aside: None, has_turn: false, ahead: usize::MAX };
        self.calls.insert(call.ticket, waiting);
        true
    }

    /// Gives the turn to those that go next, as long as fewer than `most` have it, and no more than the line is wide; answers who got
    /// it. Each then says [`admitted`](Self::admitted), [`served`](Self::served), [`blocked`](Self::blocked) or [`leave`](Self::leave).
    pub(crate) fn turns(&mut self, most: usize, now: Millis) -> Vec<Ticket> {
        self.recall(now);
        let mut turns = Vec::new();
        while now >= self.blocked_until && self.turns < most.min(self.width) {
            let Some(ticket) = self.next(now) else { break };
            self.set_aside(ticket, now + self.rules.turn, true);
            turns.push(ticket);
        }
        turns
    }

    /// There was room, and it has gone on to the provider: others have the turn. It keeps its place until it is served, for the
    /// provider may refuse it.
    pub(crate) fn admitted(&mut self, ticket: Ticket, now: Millis) {
        self.finds_room(ticket, now);
        let Some(deadline) = self.calls.get(&ticket).map(|waiting| waiting.call.deadline) else { return };
        self.put_back(ticket);
        self.set_aside(ticket, deadline, false);
        self.pause();
    }

    /// It was served.
    pub(crate) fn served(&mut self, ticket: Ticket, now: Millis) {
        self.finds_room(ticket, now);
        self.remove(ticket);
    }

    /// It found that the provider has no room before `until`: it goes back to its place, and nobody has a turn before then. After
    /// that one has.
    pub(crate) fn blocked(&mut self, ticket: Ticket, until: Millis) {
        self.width = 1;
        self.blocked_until = self.blocked_until.max(until);
        self.put_back(ticket);
    }

    /// The caller is gone.
    pub(crate) fn leave(&mut self, ticket: Ticket) {
        self.remove(ticket);
    }

    /// Forgets those whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Millis) {
        while let Some((deadline, ticket)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.remove(ticket);
        }
    }

    /// When [`turns`](Self::turns) or [`expire`](Self::expire) can next have something to say; none while nothing waits.
    pub(crate) fn wake_at(&self) -> Option<Millis> {
        let ready = self.classes.values().any(|class| class.first().is_some()).then_some(self.blocked_until);
        let aside = self.aside.first().map(|(until, _)| (*until).max(self.blocked_until));
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        [ready, aside, deadline].into_iter().flatten().min()
    }

    /// What a caller is told; none if it does not wait.
    pub(crate) fn standing(&mut self, ticket: Ticket, now: Millis) -> Option<Standing> {
        let ahead = self.count_ahead(ticket, now)?;
        self.tell(ticket, ahead, now)
    }

    /// Those that have the turn, by when they lose it.
    pub(crate) fn with_turn(&self) -> impl Iterator<Item = Ticket> {
        let has_turn = |ticket: &Ticket| self.calls.get(ticket).is_some_and(|waiting| waiting.has_turn);
        self.aside.iter().map(|(_, ticket)| *ticket).filter(has_turn)
    }

    /// How many wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    /// The line moves when there is room for a call, and not when its answer comes, which can take a minute.
    fn finds_room(&mut self, ticket: Ticket, now: Millis) {
        let Some(waiting) = self.calls.get(&ticket) else { return };
        if waiting.has_gone_on() {
            return;
        }
        if waiting.has_turn {
            self.width = self.width.saturating_add(1);
        }
        if let Some(class) = self.classes.get_mut(&waiting.call.priority) {
            class.moves(waiting.place);
        }
        self.pace.moves(now);
    }

    /// The time in which nobody waits says nothing of the pace.
    fn pause(&mut self) {
        if self.calls.len() == self.gone_on {
            self.pace.last = None;
        }
    }

    fn next(&self, now: Millis) -> Option<Ticket> {
        let class = self.by_rank(now).into_iter().next()?;
        self.classes.get(&class)?.first()
    }

    /// The classes with somebody ready, the one that goes first in front.
    fn by_rank(&self, now: Millis) -> Vec<i32> {
        let rank = |(priority, class): (&i32, &Class)| {
            let waited = now.saturating_sub(class.oldest()?);
            Some((i64::from(*priority).saturating_mul(self.rules.aging).saturating_add(waited), *priority))
        };
        let mut ranks: Vec<_> = self.classes.iter().filter_map(rank).collect();
        ranks.sort_unstable_by(|a, b| b.cmp(a));
        ranks.into_iter().map(|(_, priority)| priority).collect()
    }

    fn count_ahead(&self, ticket: Ticket, now: Millis) -> Option<usize> {
        let waiting = self.calls.get(&ticket)?;
        if waiting.has_turn {
            return Some(0);
        }
        let own = waiting.call.priority;
        let earlier = self.by_rank(now).into_iter().take_while(|class| *class != own);
        let earlier: usize = earlier.filter_map(|class| self.classes.get(&class)).map(Class::len).sum();
        Some(self.turns + earlier + self.classes.get(&own)?.before(waiting.place, ticket))
    }

    fn tell(&mut self, ticket: Ticket, ahead: usize, now: Millis) -> Option<Standing> {
        let waiting = self.calls.get_mut(&ticket)?;
        waiting.ahead = waiting.ahead.min(ahead);
        let blocked = self.blocked_until.max(waiting.aside.filter(|_| !waiting.has_turn).unwrap_or(0)) - now;
        let steps = i64::try_from(waiting.ahead).unwrap_or(i64::MAX);
        let eta = self.pace.interval().map(|interval| interval.saturating_mul(steps).max(blocked).max(0));
        Some(Standing { ahead: waiting.ahead, eta })
    }

    /// Those whose time aside is over are ready again.
    fn recall(&mut self, now: Millis) {
        while let Some((until, ticket)) = self.aside.first().copied()
            && until <= now
        {
            self.put_back(ticket);
        }
    }

    fn put_back(&mut self, ticket: Ticket) {
        let Some(waiting) = self.calls.get_mut(&ticket) else { return };
        if let Some(until) = waiting.aside.take() {
            self.aside.remove(&(until, ticket));
            let had_turn = std::mem::take(&mut waiting.has_turn);
            self.turns -= usize::from(had_turn);
            self.gone_on -= usize::from(!had_turn);
            let (place, call) = (waiting.place, waiting.call);
            self.classes.entry(call.priority).or_default().put_back(place, &call);
        }
    }

    fn set_aside(&mut self, ticket: Ticket, until: Millis, has_turn: bool) {
        let Some(waiting) = self.calls.get_mut(&ticket) else { return };
        waiting.aside = Some(until);
        waiting.has_turn = has_turn;
        self.turns += usize::from(has_turn);
        self.gone_on += usize::from(!has_turn);
        self.aside.insert((until, ticket));
        if let Some(class) = self.classes.get_mut(&waiting.call.priority) {
            class.set_aside(waiting.place, &waiting.call);
        }
    }

    fn remove(&mut self, ticket: Ticket) {
        let Some(Waiting { call, place, aside, has_turn, .. }) = self.calls.remove(&ticket) else { return };
        self.turns -= usize::from(has_turn);
        if let Some(until) = aside {
            self.aside.remove(&(until, ticket));
            self.gone_on -= usize::from(!has_turn);
        }
        self.deadlines.remove(&(call.deadline, ticket));
        if let Some(class) = self.classes.get_mut(&call.priority) {
            class.leave(place, &call);
            if class.is_empty() {
                self.classes.remove(&call.priority);
            }
        }
        self.pause();
    }
}

impl Waiting {
    /// Whether there was room for it, and the provider is asked.
    const fn has_gone_on(&self) -> bool {
        self.aside.is_some() && !self.has_turn
    }
}

/// How fast the line moves: an average of the time between two that find room, the later ones weighing more.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Millis>,
    /// In microseconds.
    interval: Option<i64>,
}

impl Pace {
    fn moves(&mut self, now: Millis) {
        if let Some(last) = self.last.replace(now) {
            let sample = now.saturating_sub(last).max(0).saturating_mul(1_000);
            self.interval = Some(self.interval.map_or(sample, |interval| interval + (sample - interval) / 8));
        }
    }

    fn interval(&self) -> Option<Millis> {
        self.interval.map(|micros| (micros + 999) / 1_000)
    }
}

#[cfg(test)]
mod tests;
