//! Measures the load, again and again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio_util::sync::CancellationToken;

use super::Load;
use crate::config::load::{LevelConfig, LoadConfig};
use crate::domain::load::Ladder;

/// Measures until `stop`.
pub(crate) async fn run(load: Arc<Load>, config: LoadConfig, stop: CancellationToken) {
    let thresholds = config.levels.iter().map(LevelConfig::threshold).collect();
    let mut ladder = Ladder::new(thresholds, config.leave_percent, config.hold);
    let mut processors = Processors::new();
    let mut level = 0;
    while stop.run_until_cancelled(tokio::time::sleep(config.measure)).await.is_some() {
        let figures = load.figures(processors.percent());
        let now = ladder.observe(&figures, Instant::now());
        load.level.store(now, Ordering::Relaxed);
        load.metrics.in_flight.set(figures.in_flight as f64);
        load.metrics.level.set(now as f64);
        if now != level {
            let name = load.level_name().unwrap_or("normal");
            tracing::warn!(level = name, ?figures, "the load level is another one");
            level = now;
        }
    }
}

/// How busy this process keeps the processors that it may use.
struct Processors {
    count: f64,
    /// When was looked, and how much had been used by then.
    last: (Instant, Duration),
}

impl Processors {
    fn new() -> Self {
        // In a container this is what its quota allows.
        let count = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
        Self { count, last: (Instant::now(), used()) }
    }

    /// Since the last time.
    fn percent(&mut self) -> u32 {
        let (now, used) = (Instant::now(), used());
        let (then, before) = std::mem::replace(&mut self.last, (now, used));
        let span = (now - then).as_secs_f64() * self.count;
        let busy = used.saturating_sub(before).as_secs_f64();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to some hundreds")]
        let percent = if span > 0.0 { (busy / span * 100.0).round() as u32 } else { 0 };
        percent
    }
}

/// The time that all processors have worked for this process.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen() {
        let mut processors = Processors { count: 1.0, ..Processors::new() };
        let began = used();
        let mut sum = 0_u64;
        while used() - began < Duration::from_millis(100) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        processors.last.0 = Instant::now() - Duration::from_millis(200);
        assert!(processors.percent() >= 49, "half of one processor, at least");
        processors.last.0 = Instant::now() - Duration::from_secs(3600);
        assert_eq!(processors.percent(), 0);
    }
}
