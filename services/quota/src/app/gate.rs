//! How much this process takes on at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};

/// What keeps reservations alive gets this much more room than what makes them.
const ESSENTIAL_SHARE: usize = 4;

/// Counts what is under way, whichever way it came: by itself, in a batch or on a stream.
#[derive(Debug)]
pub(super) struct Gate {
    under_way: AtomicUsize,
    room: usize,
}

/// Taken until it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a>(&'a AtomicUsize);

impl Gate {
    pub(super) const fn new(room: usize) -> Self {
        Self { under_way: AtomicUsize::new(0), room }
    }

    /// Room for what begins work.
    pub(super) fn begin(&self) -> Result<Place<'_>> {
        self.enter(self.room)
    }

    /// Room for what goes on with work that has begun.
    pub(super) fn go_on(&self) -> Result<Place<'_>> {
        self.enter(self.room + self.room.div_ceil(ESSENTIAL_SHARE))
    }

    fn enter(&self, room: usize) -> Result<Place<'_>> {
        let place = Place(&self.under_way);
        if self.under_way.fetch_add(1, Ordering::Relaxed) < room { Ok(place) } else { Err(Error::Full) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_taken_when_what_begins_is_not() {
        let gate = Gate::new(4);
        let places: Vec<_> = (0..4).map(|_| gate.begin().expect("room")).collect();
        assert!(matches!(gate.begin(), Err(Error::Full)));
        let last = gate.go_on().expect("room for what goes on");
        assert!(gate.go_on().is_err());
        drop((places, last));
        assert!(gate.begin().is_ok());
    }
}
