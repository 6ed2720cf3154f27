//! Room for jobs under way.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room that is taken.
#[derive(Debug)]
pub(super) struct Slot(OwnedSemaphorePermit);

impl Slot {
    pub(super) const fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(permit)
    }

    /// What is free, up to so much; none if nothing is.
    pub(super) fn free(slots: &Arc<Semaphore>, most: usize) -> Option<Self> {
        let first = Arc::clone(slots).try_acquire_owned().ok()?;
        let mut slot = Self(first);
        slot.grow(slots, most);
        Some(slot)
    }

    /// How many jobs it is for.
    pub(super) fn permits(&self) -> usize {
        self.0.num_permits()
    }

    /// Takes what else is free, up to so much in all.
    pub(super) fn grow(&mut self, slots: &Arc<Semaphore>, most: usize) {
        let more = slots.available_permits().min(most.saturating_sub(self.permits()));
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        if let Ok(more) = Arc::clone(slots).try_acquire_many_owned(more) {
            self.0.merge(more);
        }
    }

    /// What of these is room among `slots`, in one piece; the rest is free.
    pub(super) fn joined(all: impl IntoIterator<Item = Self>, slots: &Arc<Semaphore>) -> Option<Self> {
        let of_them = all.into_iter().filter(|slot| Arc::ptr_eq(slot.0.semaphore(), slots));
        of_them.reduce(|mut one, other| {
            one.0.merge(other.0);
            one
        })
    }

    /// The room for one job of it.
    pub(super) fn split(&mut self) -> Option<Self> {
        self.0.split(1).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_of_other_kinds_is_not_mixed_and_none_is_lost() {
        let (work, lines) = (Arc::new(Semaphore::new(3)), Arc::new(Semaphore::new(1)));
        let mut taken = Slot::free(&work, 2).expect("there is room");
        assert_eq!((taken.permits(), work.available_permits()), (2, 1));
        let parts = [taken.split(), Slot::free(&lines, 1), taken.split()].into_iter().flatten();
        let joined = Slot::joined(parts, &work).expect("two are");
        assert_eq!((joined.permits(), lines.available_permits()), (2, 1));
        drop((joined, taken));
        assert_eq!(work.available_permits(), 3);
    }
}
