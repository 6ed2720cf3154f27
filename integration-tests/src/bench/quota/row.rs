//! What is measured of a load.

use std::time::Duration;

use serde::Serialize;

use crate::latency::{Quantiles, median};
use crate::process::{cpu_seconds, own_cpu_seconds};

/// The processes whose CPU time is told apart.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pids {
    /// Who answers the calls.
    pub(super) server: Option<u32>,
    /// Its Redis.
    pub(super) redis: Option<u32>,
}

/// One load's figures, or the medians of several rounds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Figures {
    /// Reservations (or whatever it is) a second.
    pub(super) per_second: f64,
    /// Milliseconds of one call, operation or group.
    pub(super) p50: f64,
    /// The same.
    pub(super) p99: f64,
    /// CPU seconds per 1,000.
    pub(super) server_cpu: f64,
    /// The same.
    pub(super) redis_cpu: f64,
    /// The same.
    pub(super) client_cpu: f64,
}

/// CPU seconds so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cpu([f64; 3]);

impl Pids {
    pub(super) fn cpu(self) -> Cpu {
        let of = |pid: Option<u32>| pid.map_or(0.0, cpu_seconds);
        Cpu([of(self.server), of(self.redis), own_cpu_seconds()])
    }
}

impl Figures {
    /// Of `count` in this time, with the processes' times before and after.
    pub(super) fn of(
        count: usize,
        took: Duration,
        times: impl IntoIterator<Item = Duration>,
        before: Cpu,
        after: Cpu,
    ) -> Self {
        let quantiles = Quantiles::of(times);
        let cpu = |which: usize| (after.0[which] - before.0[which]) * 1e3 / count as f64;
        Self {
            per_second: count as f64 / took.as_secs_f64(),
            p50: quantiles.p50,
            p99: quantiles.p99,
            server_cpu: cpu(0),
            redis_cpu: cpu(1),
            client_cpu: cpu(2),
        }
    }

    /// The median of each by itself.
    pub(super) fn middle(rounds: &[Self]) -> Self {
        let of = |figure: &dyn Fn(&Self) -> f64| median(rounds.iter().map(figure));
        Self {
            per_second: of(&|one| one.per_second),
            p50: of(&|one| one.p50),
            p99: of(&|one| one.p99),
            server_cpu: of(&|one| one.server_cpu),
            redis_cpu: of(&|one| one.redis_cpu),
            client_cpu: of(&|one| one.client_cpu),
        }
    }
}
