//! Calls under way that others may wait for.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{Shared, WeakShared};
use parking_lot::Mutex;
use weir_proto::broker::v1::InvokeResponse;
use weir_rpc::Error;

use crate::domain::sealing::Name;

type Answer = Result<InvokeResponse, Error>;
type Work = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A call that any number wait for. It ends as one that nobody waits for when the last of them has left.
pub(super) type Flight = Shared<Work>;

/// Calls under way, by what they ask.
#[derive(Default)]
pub(super) struct Flights {
    under_way: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    flights: HashMap<Name, (u64, WeakShared<Work>)>,
    begun: u64,
}

/// Takes a flight off the list when it has landed or nobody waits any more.
struct Landing {
    flights: Arc<Flights>,
    name: Name,
    number: u64,
}

impl Flights {
    /// Joins the flight of this name; else begins it with what `begin` makes. Answers whether it was begun.
    pub(super) fn join<F>(self: &Arc<Self>, name: Name, begin: impl FnOnce() -> Option<F>) -> (Flight, bool)
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let mut known = self.under_way.lock();
        if let Some(flight) = known.flights.get(&name).and_then(|(_, flight)| flight.upgrade()) {
            return (flight, false);
        }
        known.begun += 1;
        let number = known.begun;
        let landing = Landing { flights: Arc::clone(self), name, number };
        let work = begin();
        let work: Work = Box::pin(async move {
            let _landing = landing;
            match work {
                Some(work) => work.await,
                None => Err(Error::defect("a call was made twice")),
            }
        });
        let flight = work.shared();
        if let Some(weak) = flight.downgrade() {
            known.flights.insert(name, (number, weak));
        }
        (flight, true)
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut known = self.flights.under_way.lock();
        if known.flights.get(&self.name).is_some_and(|(number, _)| *number == self.number) {
            known.flights.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const NAME: Name = [7; 32];

    fn answer() -> Answer {
        Ok(InvokeResponse { content_type: "x".into(), ..InvokeResponse::default() })
    }

    #[tokio::test]
    async fn all_who_ask_meanwhile_get_the_one_answer_even_if_the_first_leaves() {
        let flights = Arc::<Flights>::default();
        let made = Arc::new(AtomicUsize::new(0));
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let counter = Arc::clone(&made);
        let (first, leads) = flights.join(NAME, move || {
            Some(async move {
                counter.fetch_add(1, Ordering::Relaxed);
                gone.await.ok();
                answer()
            })
        });
        let (second, follows) = flights.join(NAME, || None::<Work>);
        assert!(leads && !follows);
        let left = tokio::time::timeout(std::time::Duration::from_millis(10), first).await;
        assert!(left.is_err());
        go.send(()).ok();
        assert_eq!(second.await.map(|answer| answer.content_type).ok().as_deref(), Some("x"));
        assert_eq!(made.load(Ordering::Relaxed), 1);
        assert!(flights.under_way.lock().flights.is_empty());
        let (_, anew) = flights.join(NAME, || Some(async { answer() }));
        assert!(anew, "what has landed is not joined");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_leaves_nothing_behind() {
        let flights = Arc::<Flights>::default();
        let (flight, _) = flights.join(NAME, || Some(std::future::pending()));
        assert!(flight.clone().now_or_never().is_none());
        assert_eq!(flights.under_way.lock().flights.len(), 1);
        drop(flight);
        assert!(flights.under_way.lock().flights.is_empty());
    }
}
