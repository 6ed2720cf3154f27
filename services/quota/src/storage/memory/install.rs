//! Putting counters in place that were read from Postgres, and laying out anew those of another plan.

use smallvec::SmallVec;

use super::buckets::Buckets;
use super::subject::{Counter, Subject, Whose};
use super::tenant::Tenant;
use crate::domain::LimitId;
use crate::storage::store::{InstallEntry, InstallSubject};

impl Tenant {
    /// Puts counters in place.
    pub(super) fn install(&mut self, generation: u64, subjects: &[InstallSubject]) {
        for install in subjects {
            let slot = self.find(&install.value);
            let slot = slot.unwrap_or_else(|| {
                // Of no generation: nothing of it is taken over.
                let empty = Whose::new_subject(&install.value, u64::MAX, install.layout);
                self.add(&install.value, empty)
            });
            let Some(subject) = self.subjects.get_mut(slot) else { continue };
            let before = subject.heap();
            subject.install(generation, install);
            let after = subject.heap();
            self.account(after, before);
        }
    }
}

impl Subject {
    fn install(&mut self, generation: u64, install: &InstallSubject) {
        let same = self.generation == generation;
        let mut old = std::mem::take(&mut self.counters);
        let mut take = |limit: LimitId| {
            let place = old.iter().position(|counter| counter.limit() == limit)?;
            Some(old.remove(place))
        };
        let mut counters: SmallVec<[Counter; 2]> = SmallVec::with_capacity(install.entries.len());
        for (limit, durable, entry) in &install.entries {
            counters.push(place(*limit, take(*limit), same, !durable, entry));
        }
        // Counters of a former plan stay as long as something is held in them.
        if same {
            counters.extend(old.into_iter().filter_map(|mut counter| (*counter.held() > 0).then_some(counter)));
        }
        self.counters = counters;
        self.generation = generation;
        self.layout = install.layout;
        self.keep_until(install.sweep_after);
    }
}

/// A counter as Postgres has it, or as it is known where that is newer: by its version, whatever the generation, because a
/// settlement may have come after Postgres was read; of what has none in the same generation, or if only this store has it.
fn place(limit: LimitId, known: Option<Counter>, same: bool, only_here: bool, entry: &InstallEntry) -> Counter {
    match (entry, known) {
        (InstallEntry::Rolling(_), Some(Counter::Rolling { spent, held, buckets, .. })) if same || only_here => {
            Counter::Rolling { limit, spent, held: if same { held } else { 0 }, buckets }
        }
        (InstallEntry::Rolling(read), _) => {
            let (buckets, spent) = Buckets::new(read.iter().copied().collect());
            Counter::Rolling { limit, spent, held: 0, buckets }
        }
        (
            InstallEntry::Period(start, total, version),
            Some(Counter::Period { start: at, spent, held, version: newer, .. }),
        ) if at == *start => {
            let is_newer = newer > *version || (newer == *version && (same || only_here));
            let (spent, version) = if is_newer { (spent, newer) } else { (*total, *version) };
            Counter::Period { limit, start: *start, spent, held: if same { held } else { 0 }, version }
        }
        (InstallEntry::Period(start, total, version), _) => {
            Counter::Period { limit, start: *start, spent: *total, held: 0, version: *version }
        }
    }
}
