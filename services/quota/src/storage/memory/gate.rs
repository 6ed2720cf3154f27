//! Whether the store may act, and in which generation.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::storage::store::{Failure, Generation, Result};

/// Every operation passes it. It closes by itself when nobody has said for too long that it may be open.
#[derive(Debug)]
pub(super) struct Gate {
    /// What the other times are counted from.
    start: Instant,
    /// Never closes.
    always: bool,
    is_open: AtomicBool,
    /// In milliseconds after the start.
    open_until: AtomicU64,
    /// 0: none yet.
    number: AtomicU64,
    began: Mutex<(Instant, bool)>,
}

impl Gate {
    pub(super) fn new(always: bool) -> Self {
        let start = Instant::now();
        Self {
            start,
            always,
            is_open: AtomicBool::new(always),
            open_until: AtomicU64::new(0),
            number: AtomicU64::new(0),
            began: Mutex::new((start, false)),
        }
    }

    /// The number of the generation that was last begun; 0 if none.
    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    pub(super) fn generation(&self) -> Option<Generation> {
        let (began, rebuilds) = *self.began.lock();
        let number = self.number();
        let age = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        (number != 0).then(|| Generation { number, server: "memory".to_owned(), age, rebuilds })
    }

    /// Begins a generation after `last`, unless somebody else was faster; answers the one in force.
    pub(super) fn begin(&self, last: u64, number: u64, rebuilds: bool, until: Instant) -> Generation {
        {
            let mut began = self.began.lock();
            if self.number() == last {
                *began = (Instant::now(), rebuilds);
                self.number.store(number, Ordering::Release);
            }
        }
        self.open(until);
        self.generation().unwrap_or(Generation { number, server: "memory".to_owned(), age: 0, rebuilds })
    }

    pub(super) fn lose(&self) {
        self.number.store(0, Ordering::Release);
    }

    pub(super) fn open(&self, until: Instant) {
        let until = until.saturating_duration_since(self.start).as_millis();
        self.open_until.store(u64::try_from(until).unwrap_or(u64::MAX), Ordering::Release);
        self.is_open.store(true, Ordering::Release);
    }

    pub(super) fn close(&self) {
        self.is_open.store(self.always, Ordering::Release);
    }

    /// Lets an operation of a generation through, or of any.
    pub(super) fn pass(&self, generation: Option<u64>) -> Result<()> {
        let open = self.is_open.load(Ordering::Acquire)
            && (self.always || self.start.elapsed() < Duration::from_millis(self.open_until.load(Ordering::Acquire)));
        if !open {
            return Err(Failure::Closed);
        }
        match generation {
            Some(generation) if generation != self.number() => Err(Failure::OtherGeneration),
            _ => Ok(()),
        }
    }
}
