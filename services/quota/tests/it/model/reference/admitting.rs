//! Reservations that were made, or grew, and what may have been made without an answer.

use weir_quota::domain::{Millis, lease};

use super::counting::Reset;
use super::{Amounts, Checked, Fate, Known, Made, Reference, State, Touch, Who, Window};

impl Reference {
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
        let taken_over = self.made.get(&id).is_some_and(|made| made.taken_over);
        let made = Made {
            taken_over,
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
        // It may be settled on the books, and the store was not told.
        made.fate.clone_from(&before.fate);
        made.taken_over = before.taken_over;
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
}
