//! How much a service works on at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use weir_proto::common::v1::ErrorReason;

use crate::Error;

/// Calls that end work get this much more room than those that begin it: a full service must be able to empty itself.
const ESSENTIAL_SHARE: usize = 4;

/// Counts the calls in work, and refuses more than there is room for.
pub(super) struct Load {
    in_flight: Arc<AtomicUsize>,
    limit: usize,
    gauge: metrics::Gauge,
    refused: metrics::Counter,
}

/// A call in work, until it is dropped.
pub(super) struct Working {
    in_flight: Arc<AtomicUsize>,
    gauge: metrics::Gauge,
}

impl Load {
    pub(super) fn new(service: &'static str, limit: usize) -> Self {
        Self {
            in_flight: Arc::default(),
            limit,
            gauge: metrics::gauge!("weir_rpc_server_in_flight", "service" => service),
            refused: metrics::counter!("weir_rpc_server_shed_total", "service" => service),
        }
    }

    pub(super) fn enter(&self, essential: bool) -> Result<Working, Error> {
        let limit = if essential { self.limit + self.limit.div_ceil(ESSENTIAL_SHARE) } else { self.limit };
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= limit {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            self.refused.increment(1);
            return Err(Error::new(ErrorReason::Overloaded, "too many calls are in work")
                .retry_after(Duration::from_millis(250)));
        }
        self.gauge.increment(1.0);
        Ok(Working { in_flight: Arc::clone(&self.in_flight), gauge: self.gauge.clone() })
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.gauge.decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_end_work_are_taken_when_those_that_begin_it_are_not() {
        let load = Load::new("test", 4);
        let working: Vec<_> = (0..4).map(|_| load.enter(false).expect("room")).collect();
        assert_eq!(load.enter(false).err().map(|error| error.reason()), Some(ErrorReason::Overloaded));
        let essential = load.enter(true).expect("room for what ends work");
        assert!(load.enter(true).is_err());
        drop((working, essential));
        assert!(load.enter(false).is_ok());
    }
}
