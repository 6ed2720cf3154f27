//! Removing what can't matter any more, and reading all that a tenant has: both in steps, so that neither holds a tenant for long.

use std::fmt;

use super::tenant::{State, Tenant};
use crate::domain::Millis;
use crate::storage::store::Contents;

/// How far a walk through a tenant has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cursor {
    /// From this subject on.
    Subjects(u32),
    /// From this reservation on.
    Reservations(u32),
    /// Through.
    End,
}

impl Cursor {
    pub(super) const START: Self = Self::Subjects(0);

    /// As callers keep it; `0` is both ends.
    pub(super) fn parse(text: &str) -> Self {
        let number = |text: &str| text.parse().ok();
        let reservations = text.strip_prefix('r').and_then(number).map(Self::Reservations);
        reservations.or_else(|| number(text).map(Self::Subjects)).unwrap_or(Self::START)
    }

    fn next(self, step: u32, tenant: &Tenant) -> Self {
        match self {
            Self::Subjects(from) if from.saturating_add(step) < tenant.subjects.end() => {
                Self::Subjects(from.saturating_add(step))
            }
            Self::Subjects(_) if tenant.reservations.end() > 0 => Self::Reservations(0),
            Self::Reservations(from) if from.saturating_add(step) < tenant.reservations.end() => {
                Self::Reservations(from.saturating_add(step))
            }
            _ => Self::End,
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subjects(from) => write!(f, "{from}"),
            Self::Reservations(from) => write!(f, "r{from}"),
            Self::End => f.write_str("0"),
        }
    }
}

impl Tenant {
    /// Removes subjects whose windows have all passed and marks older than `keep_marks`, in the next part of so many.
    pub(super) fn sweep(&mut self, cursor: Cursor, step: u32, keep_marks: Millis, now: Millis) -> Cursor {
        match cursor {
            Cursor::Subjects(from) => {
                for slot in from..from.saturating_add(step).min(self.subjects.end()) {
                    let Some(subject) = self.subjects.get_mut(slot) else { continue };
                    if (0..=now).contains(&subject.sweep_after) {
                        self.drop_subject(slot);
                        continue;
                    }
                    let before = subject.heap();
                    subject.shrink();
                    let after = subject.heap();
                    self.account(after, before);
                }
            }
            Cursor::Reservations(from) => {
                for slot in from..from.saturating_add(step).min(self.reservations.end()) {
                    let state = self.reservations.get(slot).map(|reservation| &reservation.state);
                    if let Some(State::Settled(mark)) = state
                        && mark.at.saturating_add(keep_marks) <= now
                    {
                        self.let_go(slot);
                    }
                }
            }
            Cursor::End => {}
        }
        cursor.next(step, self)
    }

    /// Adds the next part of so many to what was read.
    pub(super) fn read_on(&self, cursor: Cursor, step: u32, contents: &mut Contents) -> Cursor {
        match cursor {
            Cursor::Subjects(from) => {
                let slots = from..from.saturating_add(step).min(self.subjects.end());
                let subjects = slots.filter_map(|slot| self.subjects.get(slot));
                contents.subjects.extend(subjects.filter_map(|one| Some((one.whose.value()?, one.state()))));
            }
            Cursor::Reservations(from) => {
                let slots = from..from.saturating_add(step).min(self.reservations.end());
                for reservation in slots.filter_map(|slot| self.reservations.get(slot)) {
                    if let State::Held(held) = &reservation.state {
                        contents.held.push((reservation.id, held.record()));
                    }
                }
            }
            Cursor::End => {}
        }
        cursor.next(step, self)
    }
}
