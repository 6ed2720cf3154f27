//! Whether an answer is what the counters may say.

use weir_quota::domain::Millis;

use super::counting::{Expected, Reset};
use super::{Amounts, Checked, Reference, State, Who, Window};

impl Reference {
    /// Whether an answer's figures are a counter's; answers the period that they are about.
    pub(super) fn matches(&self, limit: usize, whose: u8, state: &State, after: bool) -> Checked<Millis> {
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

    pub(super) fn resets(&self, limit: usize, expected: &Expected, state: &State, after: bool) -> bool {
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

    pub(super) fn refuses(state: &State) -> bool {
        state.requested > 0 && state.used + state.requested > state.cap
    }

    /// Every limit of a subject.
    pub(crate) fn balance(&self, who: Who, states: &[State]) -> Checked {
        self.states(&self.touched(who, None), states, false).map(drop)
    }

    pub(super) fn states(&self, touched: &[(usize, u8)], states: &[State], after: bool) -> Checked<Vec<Millis>> {
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

    pub(super) fn asked(&self, state: &State, amounts: &Amounts) -> i64 {
        let limit = self.limits.iter().find(|limit| limit.name == state.limit).unwrap();
        amounts.get(limit.unit).copied().unwrap_or(0)
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
}
