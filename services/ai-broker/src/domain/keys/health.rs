//! How one key is doing: what it rests from, as a whole and with each model.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::room::{OwnLimits, Window};
use super::{KeyOutcome, Rests, Wanted};

/// Failures in a row before a key rests.
const PATIENCE: u32 = 3;

/// Why a key rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    RateLimited,
    Refused,
    Failed,
}

/// What others should hear of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    /// With which model; empty: whatever the model.
    pub(crate) model: String,
    /// It rests for so long from now; none: no more.
    pub(crate) rest: Option<(Duration, Kind)>,
}

/// One key.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) in_flight: u32,
    /// Quota had no room for it.
    pub(super) full_until: Option<Instant>,
    /// What the provider said was left, in thousandths, and until when that holds.
    pub(super) left: Option<(u16, Instant)>,
    whole: Health,
    /// Only models that something is the matter with.
    models: HashMap<Box<str>, Health>,
    window: Window,
}

#[derive(Debug, Default)]
struct Health {
    /// Stays until the end of a call that tried it, so that after a rest one call alone tries the key.
    rest: Option<Rest>,
    /// In a row.
    failures: u32,
}

#[derive(Debug, Clone, Copy)]
struct Rest {
    until: Instant,
    kind: Kind,
    /// One call alone tries it, and it rests meanwhile; until when it rested before.
    rested: Option<Instant>,
    /// The others know.
    said: bool,
}

/// What a call says about a key, or about a key with its model.
#[derive(Clone, Copy)]
enum Verdict {
    Well,
    Rest(Duration, Kind),
    Nothing,
}

impl Health {
    fn is_up(&self, now: Instant) -> bool {
        self.rest.is_none_or(|rest| rest.until <= now)
    }

    /// One call tries it alone, if it has rested.
    fn begin(&mut self, until: Instant) -> bool {
        let Some(rest) = &mut self.rest else { return false };
        rest.rested = Some(rest.until);
        rest.until = until;
        true
    }

    /// Takes the verdict of a call; answers what others should hear.
    fn end(&mut self, probe: bool, verdict: Verdict, now: Instant) -> Option<Option<(Duration, Kind)>> {
        match verdict {
            Verdict::Well if probe => self.rest.take().map(|_| None),
            Verdict::Rest(span, kind) => {
                let until = now + span;
                // The time for the try is over with it. Any other rest goes on, whatever a call says that began before it.
                let until = match self.rest {
                    Some(rest) if !(probe && rest.rested.is_some()) => rest.until.max(until),
                    _ => until,
                };
                self.rest = Some(Rest { until, kind, rested: None, said: false });
                Some(Some((until - now, kind)))
            }
            Verdict::Nothing if probe => {
                // Nothing was tried: the next call may.
                if let Some(rest) = &mut self.rest
                    && let Some(rested) = rest.rested.take()
                {
                    rest.until = rested;
                }
                None
            }
            Verdict::Well | Verdict::Nothing => None,
        }
    }

    fn is_blank(&self) -> bool {
        self.rest.is_none() && self.failures == 0
    }
}

impl State {
    /// Whether the key can serve `model` (empty: any).
    pub(super) fn is_up(&self, model: &str, now: Instant) -> bool {
        self.whole.is_up(now) && self.models.get(model).is_none_or(|health| health.is_up(now))
    }

    pub(super) fn is_full(&self, now: Instant) -> bool {
        self.full_until.is_some_and(|until| until > now)
    }

    /// Tenths of its limits that are left.
    pub(super) fn room(&self, limits: &OwnLimits, now: Instant) -> u16 {
        let said = self.left.filter(|(_, until)| *until > now).map_or(1000, |(left, _)| left);
        said.min(self.window.left(limits, self.in_flight, now)) / 100
    }

    /// A call begins; answers whether it is the one that tries a key that has rested. None: another one does already.
    pub(super) fn begin(&mut self, wanted: Wanted<'_>, now: Instant, probe: Duration) -> Option<bool> {
        if !self.is_up(wanted.model, now) {
            return None;
        }
        let until = now + probe;
        let whole = self.whole.begin(until);
        let of_model = self.models.get_mut(wanted.model).is_some_and(|health| health.begin(until));
        self.in_flight += 1;
        self.window.take(wanted.tokens, now);
        Some(whole || of_model)
    }

    /// A call ended.
    pub(super) fn end(
        &mut self,
        model: &str,
        probe: bool,
        outcome: KeyOutcome,
        is_last: bool,
        rests: &Rests,
        now: Instant,
    ) -> Vec<News> {
        self.in_flight = self.in_flight.saturating_sub(1);
        let (whole, of_model) = self.verdicts(model, probe, outcome, is_last, rests);
        let mut news = Vec::new();
        if let Some(rest) = self.whole.end(probe, whole, now) {
            news.push(News { model: String::new(), rest });
        }
        if matches!(of_model, Verdict::Rest(..)) && !self.models.contains_key(model) {
            self.models.insert(model.into(), Health::default());
        }
        if let Some(health) = self.models.get_mut(model) {
            if let Some(rest) = health.end(probe, of_model, now) {
                news.push(News { model: model.to_owned(), rest });
            }
            if health.is_blank() {
                self.models.remove(model);
            }
        }
        news
    }

    /// What `outcome` says about the key as a whole and about the key with this model.
    fn verdicts(
        &mut self,
        model: &str,
        probe: bool,
        outcome: KeyOutcome,
        is_last: bool,
        rests: &Rests,
    ) -> (Verdict, Verdict) {
        match outcome {
            KeyOutcome::Fine => {
                self.whole.failures = 0;
                if let Some(health) = self.models.get_mut(model) {
                    health.failures = 0;
                }
                (Verdict::Well, Verdict::Well)
            }
            KeyOutcome::RateLimited(stated) => {
                (Verdict::Well, Verdict::Rest(stated.unwrap_or(rests.rate_limited), Kind::RateLimited))
            }
            KeyOutcome::Denied => (Verdict::Well, Verdict::Rest(rests.refused, Kind::Refused)),
            KeyOutcome::Refused => {
                self.whole.failures += 1;
                let once = is_last && self.whole.failures == 1;
                let span = if once { rests.failed.min(rests.refused) } else { rests.refused };
                (Verdict::Rest(span, Kind::Refused), Verdict::Nothing)
            }
            KeyOutcome::Failed => {
                let health = self.models.entry(model.into()).or_default();
                health.failures += 1;
                let failed = Verdict::Rest(rests.failed, Kind::Failed);
                // What it rested for is not over yet, as far as anyone knows.
                let unknown = if probe { failed } else { Verdict::Nothing };
                let of_model = health.failures.checked_sub(PATIENCE).map_or(
                    if health.rest.is_some() { unknown } else { Verdict::Nothing },
                    |doublings| {
                        let span = rests.failed.saturating_mul(1 << doublings.min(16)).min(rests.failed_most);
                        Verdict::Rest(span, Kind::Failed)
                    },
                );
                (if self.whole.rest.is_some() { unknown } else { Verdict::Nothing }, of_model)
            }
            KeyOutcome::Unknown => (Verdict::Nothing, Verdict::Nothing),
        }
    }

    /// Somebody else tries what has rested: until then it rests on.
    pub(super) fn defer(&mut self, model: &str, until: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        for health in self.healths(model) {
            if let Some(rest) = &mut health.rest {
                (rest.until, rest.rested) = (until, None);
            }
        }
    }

    /// What others have found out. What they have not heard yet goes before it, and so does a try that is under way here.
    pub(super) fn hear(&mut self, model: &str, heard: Option<(Instant, Kind)>) {
        let health = if model.is_empty() { &mut self.whole } else { self.models.entry(model.into()).or_default() };
        match (&mut health.rest, heard) {
            (Some(rest), _) if !rest.said || rest.rested.is_some() => {}
            (rest, Some((until, kind))) => *rest = Some(Rest { until, kind, rested: None, said: true }),
            (rest, None) => {
                *rest = None;
                health.failures = 0;
            }
        }
        if !model.is_empty() && self.models.get(model).is_some_and(Health::is_blank) {
            self.models.remove(model);
        }
    }

    /// The others have heard.
    pub(super) fn said(&mut self, model: &str) {
        let health = if model.is_empty() { Some(&mut self.whole) } else { self.models.get_mut(model) };
        if let Some(rest) = health.and_then(|health| health.rest.as_mut()) {
            rest.said = true;
        }
    }

    /// Until when it rests with this model, why, and whether it is being tried.
    pub(super) fn rest(&self, model: &str, now: Instant) -> Option<(Instant, Kind, bool)> {
        let rests = [Some(&self.whole), self.models.get(model)].into_iter().flatten().filter_map(|health| health.rest);
        let rest = rests.filter(|rest| rest.until > now).max_by_key(|rest| rest.until)?;
        Some((rest.until, rest.kind, rest.rested.is_some()))
    }

    fn healths(&mut self, model: &str) -> impl Iterator<Item = &mut Health> {
        std::iter::once(&mut self.whole).chain(self.models.get_mut(model))
    }
}
