//! The scripts of one generation.
//!
//! The generation is a part of their text, and so of their hash. A server that was restarted or took over from another one knows
//! none of them, and nobody loads those of a generation that is over: a process that has not noticed yet can't touch a counter.

use std::sync::Arc;

use weir_redis::redis;

/// All scripts, by name.
#[derive(Debug)]
pub struct Scripts {
    /// The generation that they belong to.
    pub generation: u64,
    pub(super) reserve: Script,
    pub(super) read: Script,
    pub(super) settle: Script,
    pub(super) settle_held: Script,
    pub(super) extend: Script,
    pub(super) grow: Script,
    pub(super) announce: Script,
    pub(super) install: Script,
    pub(super) records: Script,
    pub(super) due: Script,
    pub(super) sweep: Script,
    pub(super) shared_round: Script,
    pub(super) shared_leases: Script,
    pub(super) shared_install: Script,
    pub(super) shared_sweep: Script,
    pub(super) shared_forget: Script,
}

/// One script; clones share its text.
#[derive(Clone)]
pub(super) struct Script(Arc<redis::Script>);

/// What several of them need.
const COUNTERS: &str = include_str!("lua/counters.lua");
const CONCURRENCY: &str = include_str!("lua/concurrency.lua");
const SHEETS: &str = include_str!("lua/sheets.lua");

impl Scripts {
    /// The scripts of a generation.
    #[must_use]
    pub fn new(generation: u64) -> Self {
        let script = |parts: &[&str]| {
            Script(Arc::new(redis::Script::new(&format!("-- generation {generation}\n{}", parts.concat()))))
        };
        Self {
            generation,
            reserve: script(&[CONCURRENCY, SHEETS, include_str!("lua/reserve.lua")]),
            read: script(&[CONCURRENCY, include_str!("lua/read.lua")]),
            settle: script(&[COUNTERS, CONCURRENCY, include_str!("lua/settle.lua")]),
            settle_held: script(&[CONCURRENCY, include_str!("lua/settle_held.lua")]),
            extend: script(&[CONCURRENCY, SHEETS, include_str!("lua/extend.lua")]),
            grow: script(&[COUNTERS, CONCURRENCY, SHEETS, include_str!("lua/grow.lua")]),
            announce: script(&[COUNTERS, CONCURRENCY, SHEETS, include_str!("lua/announce.lua")]),
            install: script(&[COUNTERS, include_str!("lua/install.lua")]),
            records: script(&[SHEETS, include_str!("lua/records.lua")]),
            due: script(&[CONCURRENCY, SHEETS, include_str!("lua/due.lua")]),
            sweep: script(&[include_str!("lua/sweep.lua")]),
            shared_round: script(&[include_str!("lua/shared_round.lua")]),
            shared_leases: script(&[include_str!("lua/shared_leases.lua")]),
            shared_install: script(&[include_str!("lua/shared_install.lua")]),
            shared_sweep: script(&[include_str!("lua/shared_sweep.lua")]),
            shared_forget: script(&[include_str!("lua/shared_forget.lua")]),
        }
    }

    pub(super) fn all(&self) -> [&Script; 16] {
        [
            &self.reserve,
            &self.read,
            &self.settle,
            &self.settle_held,
            &self.extend,
            &self.grow,
            &self.announce,
            &self.install,
            &self.records,
            &self.due,
            &self.sweep,
            &self.shared_round,
            &self.shared_leases,
            &self.shared_install,
            &self.shared_sweep,
            &self.shared_forget,
        ]
    }
}

impl Script {
    pub(super) fn hash(&self) -> &str {
        self.0.get_hash()
    }

    pub(super) fn inner(&self) -> &redis::Script {
        &self.0
    }
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.hash())
    }
}
