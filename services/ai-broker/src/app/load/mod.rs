//! How much this broker has to do, and what it does about it: calls are refused, go to cheaper models, or are let in by their
//! share, and jobs wait. What each level does is configuration.

mod measure;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use parking_lot::Mutex;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;

pub(crate) use measure::run;

use crate::config::load::{LevelConfig, LoadConfig};
use crate::domain::catalogue::is_allowed;
use crate::domain::load::{Figures, Group, Shares};

/// The load of this broker.
pub(crate) struct Load {
    levels: Vec<LevelConfig>,
    core: Vec<String>,
    /// When it may be better again, for who is refused.
    hold: Duration,
    level: AtomicUsize,
    shares: Mutex<Shares>,
    waits: Waits,
    metrics: Metrics,
}

/// Since when calls wait for a provider.
#[derive(Default)]
struct Waits {
    next: AtomicU64,
    since: Mutex<BTreeSet<(Instant, u64)>>,
}

struct Metrics {
    level: Gauge,
    in_flight: Gauge,
    refused: Counter,
    downgraded: Counter,
}

impl Load {
    pub(crate) fn new(config: &LoadConfig) -> Self {
        describe_gauge!("weir_broker_load_level", "The load level: 0 is normal, 1 the first that is configured.");
        describe_gauge!("weir_broker_in_flight", "Calls under way, without those of jobs.");
        describe_counter!("weir_broker_load_total", "What the load level did to calls: refused or downgraded.");
        let done = |result: &'static str| counter!("weir_broker_load_total", "result" => result);
        Self {
            levels: config.levels.clone(),
            core: config.core.clone(),
            hold: config.hold,
            level: AtomicUsize::new(0),
            shares: Mutex::default(),
            waits: Waits::default(),
            metrics: Metrics {
                level: gauge!("weir_broker_load_level"),
                in_flight: gauge!("weir_broker_in_flight"),
                refused: done("refused"),
                downgraded: done("downgraded"),
            },
        }
    }

    /// Lets a call in, as the level has it: what it is, which model it asks for, and whose it is.
    pub(crate) fn admit(self: &Arc<Self>, operation: &str, model: &str, group: Group) -> Result<Admitted, Error> {
        let level = self.level();
        let is_of = |patterns: &[String]| is_allowed(patterns, operation) || is_allowed(patterns, model);
        if let Some(level) = level.filter(|level| is_of(&level.refuse)) {
            let message = format!("{operation} with `{model}` is refused while the load is `{}`", level.name);
            return Err(self.refused(&level.name, message));
        }
        let most = level.and_then(|level| level.max_in_flight);
        if !self.shares.lock().enter(group, most, is_of(&self.core)) {
            let name = level.map(|level| level.name.as_str()).unwrap_or_default();
            let message = format!("too many calls are under way while the load is `{name}`");
            return Err(self.refused(name, message));
        }
        Ok(Admitted {
            load: Arc::clone(self),
            group,
            level: level.map(|level| level.name.clone()).unwrap_or_default(),
            cheaper: level.is_some_and(|level| is_of(&level.cheaper)),
            downgraded: false,
        })
    }

    fn refused(&self, level: &str, message: String) -> Error {
        self.metrics.refused.increment(1);
        Error::new(ErrorReason::Overloaded, message).metadata("load_level", level).retry_after(self.hold)
    }

    /// The name of the level; none if it is normal.
    pub(crate) fn level_name(&self) -> Option<&str> {
        self.level().map(|level| level.name.as_str())
    }

    /// Whether jobs are to wait.
    pub(crate) fn defers_jobs(&self) -> bool {
        self.level().is_some_and(|level| level.defer_jobs)
    }

    fn level(&self) -> Option<&LevelConfig> {
        self.level.load(Ordering::Relaxed).checked_sub(1).and_then(|at| self.levels.get(at))
    }

    /// A call waits for a provider, since then, until this is dropped.
    pub(crate) fn waits(&self, since: Instant) -> WaitingCall<'_> {
        let entry = (since, self.waits.next.fetch_add(1, Ordering::Relaxed));
        self.waits.since.lock().insert(entry);
        WaitingCall { waits: &self.waits, entry }
    }

    /// What there is to do now, at so much use of the processors.
    fn figures(&self, cpu_percent: u32) -> Figures {
        let in_flight = self.shares.lock().total();
        let oldest = self.waits.since.lock().first().copied();
        Figures { in_flight, cpu_percent, queue_wait: oldest.map(|(since, _)| since.elapsed()).unwrap_or_default() }
    }
}

/// A call that was let in. It is under way until this is dropped.
pub(crate) struct Admitted {
    load: Arc<Load>,
    group: Group,
    /// The level's name; empty if it is normal.
    pub(crate) level: String,
    /// It is to go to a cheaper model, where its route has one.
    pub(crate) cheaper: bool,
    /// It goes to a cheaper one than it asked for.
    pub(crate) downgraded: bool,
}

impl Admitted {
    /// It goes to a cheaper model than it asked for.
    pub(crate) fn downgrade(&mut self) {
        self.downgraded = true;
        self.load.metrics.downgraded.increment(1);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.load.shares.lock().leave(self.group);
    }
}

/// A call that waits.
pub(crate) struct WaitingCall<'a> {
    waits: &'a Waits,
    entry: (Instant, u64),
}

impl Drop for WaitingCall<'_> {
    fn drop(&mut self) {
        self.waits.since.lock().remove(&self.entry);
    }
}
