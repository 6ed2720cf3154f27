//! Quantiles of measured times.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// The quantiles that a report shows, in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Quantiles {
    /// The median.
    pub p50: f64,
    /// One in twenty takes longer.
    pub p95: f64,
    /// One in a hundred takes longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Quantiles {
    /// Of these times, in any order; all zero if there are none.
    #[must_use]
    pub fn of(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort_unstable();
        Self { p50: at(&times, 50), p95: at(&times, 95), p99: at(&times, 99), max: at(&times, 100) }
    }
}

/// The smallest time that at least `percent` of all are not above (nearest rank).
fn at(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(rank).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {:.2} ms  p95 {:.2} ms  p99 {:.2} ms  max {:.2} ms", self.p50, self.p95, self.p99, self.max)
    }
}

/// The median of some measurements; 0 if there are none.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[odd / 2],
        even => f64::midpoint(values[even / 2 - 1], values[even / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_nearest_ranks() {
        let times = (1..=100).rev().map(Duration::from_millis);
        let quantiles = Quantiles::of(times);
        assert_eq!((quantiles.p50, quantiles.p95, quantiles.p99, quantiles.max), (50.0, 95.0, 99.0, 100.0));
        assert_eq!(Quantiles::of([]).p99, 0.0);
    }

    #[test]
    fn a_median_of_an_even_number_lies_between() {
        assert_eq!(median([4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
    }
}
