//! The jobs that this broker works on now.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::app::queue::Waiting;
use crate::storage::jobs::JobKey;
use crate::storage::jobs::beat::Beat;

/// By job. A job that was lost and taken again by the same broker has the later attempt here.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<JobKey, Arc<Flight>>>);

/// One job under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) key: JobKey,
    pub(super) attempt: i32,
    /// Its client asked for its end.
    pub(super) cancelled: CancellationToken,
    /// Another broker has it.
    pub(super) lost: CancellationToken,
    since: Instant,
    waiting: Mutex<Option<Arc<Waiting>>>,
}

impl Flights {
    /// It is under way, until what is answered is dropped.
    pub(super) fn begin(&self, key: JobKey, attempt: i32) -> Arc<Flight> {
        let flight = Arc::new(Flight {
            key,
            attempt,
            cancelled: CancellationToken::new(),
            lost: CancellationToken::new(),
            since: Instant::now(),
            waiting: Mutex::default(),
        });
        if let Some(before) = self.0.lock().insert(key, Arc::clone(&flight)) {
            before.lost.cancel();
        }
        flight
    }

    /// It is over.
    pub(super) fn end(&self, flight: &Flight) {
        let mut flights = self.0.lock();
        if flights.get(&flight.key).is_some_and(|known| known.attempt == flight.attempt) {
            flights.remove(&flight.key);
        }
    }

    /// Tells the job here, if it is here, that its client asked for its end.
    pub(super) fn cancel(&self, key: JobKey) {
        if let Some(flight) = self.0.lock().get(&key) {
            flight.cancelled.cancel();
        }
    }

    /// Those that have been under way for at least so long.
    pub(super) fn older_than(&self, age: Duration) -> Vec<Arc<Flight>> {
        self.0.lock().values().filter(|flight| flight.since.elapsed() >= age).map(Arc::clone).collect()
    }
}

impl Flight {
    /// From now on it stands where this says.
    pub(super) fn waits(&self, waiting: Option<Arc<Waiting>>) {
        *self.waiting.lock() = waiting;
    }

    /// Its sign of life.
    pub(super) fn beat(&self) -> Beat {
        let standing = self.waiting.lock().as_ref().and_then(|waiting| waiting.now());
        let eta_ms = standing.as_ref().and_then(|standing| standing.eta).map(|eta| eta.seconds * 1000);
        let position = standing.map(|standing| standing.position);
        Beat { key: self.key, attempt: self.attempt, position, eta_ms }
    }
}
