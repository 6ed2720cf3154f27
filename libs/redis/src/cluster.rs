//! The connections to a cluster, which the driver keeps; and what to do when it has lost them all.
//!
//! After the loss of every connection, as when all masters are restarted one after the other, the driver may stay without any for
//! ever, and let calls wait. So when no call has been answered for a while, it is replaced by a new one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use redis::{
    cluster::{ClusterClient, ClusterConfig},
    cluster_async::ClusterConnection,
};
use tokio::time::Instant;
use tracing::warn;

/// Without an answer for so long, in spite of calls, the driver is replaced; and not again before as long has passed.
const SILENCE_MAX: Duration = Duration::from_secs(1);

pub(crate) struct Cluster {
    client: ClusterClient,
    connection: ArcSwap<ClusterConnection>,
    started: Instant,
    /// When a call was last answered, or the driver replaced, in milliseconds since the start.
    answered: AtomicU64,
}

impl Cluster {
    /// Connects in the background. Must be called within a tokio runtime.
    pub(crate) fn new(client: ClusterClient) -> Self {
        let connection = client.get_pending_async_connection_with_config(ClusterConfig::new());
        let connection = ArcSwap::from_pointee(connection);
        Self { client, connection, started: Instant::now(), answered: AtomicU64::new(0) }
    }

    pub(crate) fn connection(&self) -> ClusterConnection {
        ClusterConnection::clone(&self.connection.load())
    }

    pub(crate) fn answered(&self) {
        self.answered.store(self.millis(), Ordering::Relaxed);
    }

    /// A call had no answer.
    pub(crate) fn silent(&self) {
        let (now, before) = (self.millis(), self.answered.load(Ordering::Relaxed));
        let long = now.saturating_sub(before) > u64::try_from(SILENCE_MAX.as_millis()).unwrap_or(u64::MAX);
        // Of all who find it silent, one replaces it.
        if long && self.answered.compare_exchange(before, now, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            warn!("no node of the redis cluster answers, connecting anew");
            self.connection.store(Arc::new(self.client.get_pending_async_connection_with_config(ClusterConfig::new())));
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
