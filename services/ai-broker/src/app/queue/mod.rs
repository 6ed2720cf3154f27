//! Calls that wait for a provider that has no room: in one line for all brokers, told where they stand.

mod line;
mod place;
#[cfg(test)]
mod rate;

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use weir_proto::broker::v1::QueueStanding;

use crate::domain::queue::Standing;

pub(crate) use line::{Line, Newcomer};
pub(crate) use place::{Place, Turn, TurnedAway};

/// Where one call stands, for whoever wants to know.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    heard: Mutex<Heard>,
    changed: Notify,
}

#[derive(Debug, Default, Clone, Copy)]
struct Heard {
    first: Option<Standing>,
    now: Option<Standing>,
    waited: Duration,
    /// Since when it waits, while it does.
    since: Option<Instant>,
}

impl Waiting {
    /// It stands here now.
    pub(crate) fn tell(&self, standing: Standing) {
        let mut heard = self.heard.lock();
        heard.first.get_or_insert(standing);
        heard.now = Some(standing);
        heard.since.get_or_insert_with(Instant::now);
        drop(heard);
        self.changed.notify_one();
    }

    /// It has waited so much longer.
    pub(crate) fn waited(&self, time: Duration) {
        let mut heard = self.heard.lock();
        heard.waited += time;
        heard.now = None;
        heard.since = None;
    }

    /// How long it has waited so far.
    pub(crate) fn waited_so_far(&self) -> Duration {
        let heard = self.heard.lock();
        heard.waited + heard.since.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Where it stands now; none if it does not wait.
    pub(crate) fn now(&self) -> Option<QueueStanding> {
        self.heard.lock().now.map(queue_standing)
    }

    /// Until it stands elsewhere than at the last time.
    pub(crate) async fn changed(&self) -> Option<QueueStanding> {
        self.changed.notified().await;
        self.now()
    }

    /// Where it stood when it began to wait (0: it did not), and how long it waited.
    pub(crate) fn summary(&self) -> (i32, Option<prost_types::Duration>) {
        let Heard { first, waited, .. } = *self.heard.lock();
        (first.map_or(0, position), (!waited.is_zero()).then(|| waited.try_into().ok()).flatten())
    }
}

fn queue_standing(standing: Standing) -> QueueStanding {
    let eta = standing.eta.and_then(|eta| Duration::from_millis(eta.try_into().unwrap_or(0)).try_into().ok());
    QueueStanding { position: position(standing), eta }
}

/// People count from 1.
fn position(standing: Standing) -> i32 {
    i32::try_from(standing.ahead.saturating_add(1)).unwrap_or(i32::MAX)
}

/// How waiting goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueOptions {
    /// How many, of all brokers, may try at once.
    pub(crate) turns: usize,
    /// For how long one may try before the next is let forward.
    pub(crate) turn: Duration,
    /// How often a broker with waiting calls looks whether one of them has the turn.
    pub(crate) look: Duration,
    /// How often waiting callers are told where they stand. Also the broker's sign of life.
    pub(crate) beat: Duration,
}
