//! One piece of work at a time for each key; whoever wants the same waits for it.

use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::{Error, Result};

/// Work under way.
#[derive(Debug)]
pub(super) struct Flights<K: Eq + Hash>(Mutex<HashMap<K, watch::Receiver<Option<Result<()>>>>>);

impl<K: Eq + Hash + Clone> Flights<K> {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Does the work, or waits for the one who does and answers the same.
    pub(super) async fn run(&self, key: K, work: impl Future<Output = Result<()>>) -> Result<()> {
        let (sender, receiver) = watch::channel(None);
        let mut ours = false;
        let mut flight = {
            let mut flights = self.0.lock();
            flights
                .entry(key.clone())
                .or_insert_with(|| {
                    ours = true;
                    receiver
                })
                .clone()
        };
        if ours {
            let landing = Landing { flights: self, key: Some(key) };
            let result = work.await;
            drop(landing);
            // Nobody waits: nothing to tell.
            let _ = sender.send(Some(result.clone()));
            return result;
        }
        drop(sender);
        match flight.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Ok(())),
            // Whoever did it gave up, perhaps because its caller did; this one looks for itself.
            Err(_) => Err(Error::Unsettled("loading was given up")),
        }
    }
}

/// Takes the flight off the list, also when its future is dropped.
struct Landing<'a, K: Eq + Hash> {
    flights: &'a Flights<K>,
    key: Option<K>,
}

impl<K: Eq + Hash> Drop for Landing<'_, K> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.flights.0.lock().remove(&key);
        }
    }
}
