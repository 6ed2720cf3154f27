//! Signs of life: leases are prolonged, and clients' wishes heard.

use std::sync::Arc;

use super::Jobs;
use crate::storage::jobs::beat::{self, Beat};

/// The most in one statement.
const MOST: usize = 1000;

impl Jobs {
    /// Beats until nothing is under way after the shutdown.
    pub(super) async fn keep_beating(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.options.beat) => {}
                () = async { self.stop.cancelled().await; self.drained().await } => return,
            }
            // What ends within a beat needs none.
            let flights = self.flights.older_than(self.options.beat);
            for some in flights.chunks(MOST) {
                let beats: Vec<Beat> = some.iter().map(|flight| flight.beat()).collect();
                // While Postgres is away nobody else can take them either.
                let ours = beat::beat(self.database.pool(), &beats, self.options.lease);
                let Ok(ours) = self.database.bounded(ours).await else { continue };
                for flight in some {
                    match ours.get(&flight.key.job) {
                        Some(true) => flight.cancelled.cancel(),
                        Some(false) => {}
                        // It has ended meanwhile, or somebody else has it.
                        None => flight.lost.cancel(),
                    }
                }
            }
        }
    }
}
