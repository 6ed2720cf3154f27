//! Calls that wait while others are under way go together.
//!
//! A call that finds room goes at once, with whatever else is ready in the same turn of the scheduler; the others wait and leave
//! together as soon as one of those under way is back. There is no task behind it: whoever is on a flight drives it, so it goes on
//! as long as one of its passengers is left, and ends with the last.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use weir_redis::Error as RedisError;

use crate::storage::store::{Failure, Result};

/// How many flights of one lane are under way at once: while one is answered, the next one is worked on.
const FLIGHTS: usize = 2;
/// The most of one flight.
pub(super) const PASSENGERS: usize = 64;
/// What a flight may weigh in all; a single item may be heavier.
const WEIGHT: usize = 256 << 10;
/// How many may wait in all lanes together.
const WAITING: usize = 16_384;

/// What is done for many at once.
pub(super) trait Operation: Send + Sync + 'static {
    /// What goes together: items of different lanes never do.
    type Lane: Eq + Hash + Clone + Send + Sync;
    /// One call.
    type Item: Send + 'static;
    /// What it answers.
    type Outcome: Send + 'static;

    /// About how many bytes are sent.
    fn weight(item: &Self::Item) -> usize;

    /// Does it for all of them; answers in their order. What is not sent at once is not to be sent for those who have left by then:
    /// they may have asked again, and been told otherwise.
    fn run(&self, items: Vec<Self::Item>, left: &[Left]) -> impl Future<Output = Vec<Result<Self::Outcome>>> + Send;
}

/// Whether a caller has left without an answer.
#[derive(Clone, Default)]
pub(super) struct Left(Arc<AtomicBool>);

impl Left {
    /// Whether nobody waits for it any more.
    pub(super) fn is_so(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Says so when it is dropped.
struct Leaving(Left);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Release);
    }
}

/// Where calls of one operation are handed in.
pub(super) struct Combiner<O: Operation>(Arc<Inner<O>>);

struct Inner<O: Operation> {
    operation: O,
    deadline: Duration,
    lanes: Mutex<Lanes<O>>,
}

struct Lanes<O: Operation> {
    lanes: HashMap<O::Lane, Lane<O>>,
    waiting: usize,
}

struct Lane<O: Operation> {
    flights: usize,
    waiting: VecDeque<Waiting<O>>,
}

struct Waiting<O: Operation> {
    item: O::Item,
    left: Left,
    ticket: oneshot::Sender<Ticket<O>>,
}

type Outcomes<O> = Arc<[Mutex<Option<Result<<O as Operation>::Outcome>>>]>;
type Flight<O> = Shared<BoxFuture<'static, Outcomes<O>>>;

struct Ticket<O: Operation> {
    flight: Flight<O>,
    seat: usize,
}

impl<O: Operation> Combiner<O> {
    /// Every call is answered within `deadline`.
    pub(super) fn new(operation: O, deadline: Duration) -> Self {
        let lanes = Mutex::new(Lanes { lanes: HashMap::new(), waiting: 0 });
        Self(Arc::new(Inner { operation, deadline, lanes }))
    }

    /// Does it, together with others of the lane.
    ///
    /// # Errors
    /// The operation's; a timeout, after which it may have been done or not; [`Failure::Busy`] if too many wait, and then it was
    /// not done.
    pub(super) async fn call(&self, lane: O::Lane, item: O::Item) -> Result<O::Outcome> {
        let until = Instant::now() + self.0.deadline;
        let (ticket, boarding) = oneshot::channel();
        let leaving = Leaving(Left::default());
        if self.0.enqueue(&lane, Waiting { item, left: leaving.0.clone(), ticket })? {
            let start = Start { inner: Arc::clone(&self.0), lane };
            // Others that are ready come along.
            tokio::task::yield_now().await;
            drop(start);
        }
        let fly = async move {
            let Ok(Ticket { flight, seat }) = boarding.await else {
                return Err(Failure::Redis(RedisError::Internal("a flight was cancelled".to_owned())));
            };
            let outcomes = flight.await;
            let outcome = outcomes.get(seat).and_then(|outcome| outcome.lock().take());
            outcome.unwrap_or_else(|| Err(Failure::answer("a batch")))
        };
        timeout_at(until, fly).await.unwrap_or(Err(Failure::Redis(RedisError::Timeout)))
    }
}

impl<O: Operation> Inner<O> {
    /// True if the caller must start a flight.
    fn enqueue(&self, lane: &O::Lane, waiting: Waiting<O>) -> Result<bool> {
        let mut lanes = self.lanes.lock();
        if lanes.waiting >= WAITING {
            return Err(Failure::Busy);
        }
        lanes.waiting += 1;
        let lane = lanes
            .lanes
            .entry(lane.clone())
            .or_insert_with(|| Lane { flights: 0, waiting: VecDeque::with_capacity(PASSENGERS) });
        lane.waiting.push_back(waiting);
        let room = lane.flights < FLIGHTS;
        if room {
            lane.flights += 1;
        }
        Ok(room)
    }

    /// Puts those who have waited longest on a flight; if nobody waits any more, the lane has one flight less.
    fn start(self: &Arc<Self>, lane: &O::Lane) {
        let boarding = self.board(lane);
        if boarding.is_empty() {
            return;
        }
        let cargo = Arc::new(Mutex::new(Cargo { items: Vec::with_capacity(boarding.len()), left: Vec::new() }));
        // From now on the next flight starts when this one has landed, or is given up.
        let landing = Start { inner: Arc::clone(self), lane: lane.clone() };
        let flight = fly(Arc::clone(&cargo), landing).boxed().shared();
        // Who has a ticket may want to fly before all are on board.
        let mut loading = cargo.lock();
        for Waiting { item, left, ticket } in boarding {
            // What nobody waits for any more is not done.
            if ticket.send(Ticket { flight: flight.clone(), seat: loading.items.len() }).is_ok() {
                loading.items.push(item);
                loading.left.push(left);
            }
        }
    }

    fn board(&self, lane: &O::Lane) -> Vec<Waiting<O>> {
        let mut lanes = self.lanes.lock();
        let Some(this) = lanes.lanes.get_mut(lane) else { return Vec::new() };
        let mut weight = 0;
        let mut boarding = Vec::with_capacity(this.waiting.len().min(PASSENGERS));
        let mut gone = 0;
        while boarding.len() < PASSENGERS
            && let Some(next) =
                this.waiting.pop_front_if(|next| boarding.is_empty() || weight + O::weight(&next.item) <= WEIGHT)
        {
            gone += 1;
            if !next.ticket.is_closed() {
                weight += O::weight(&next.item);
                boarding.push(next);
            }
        }
        if boarding.is_empty() {
            this.flights -= 1;
            if this.flights == 0 {
                lanes.lanes.remove(lane);
            }
        }
        lanes.waiting -= gone;
        boarding
    }
}

/// Starts the next flight when it is dropped.
struct Start<O: Operation> {
    inner: Arc<Inner<O>>,
    lane: O::Lane,
}

impl<O: Operation> Drop for Start<O> {
    fn drop(&mut self) {
        self.inner.start(&self.lane);
    }
}

/// What is on a flight.
struct Cargo<I> {
    items: Vec<I>,
    left: Vec<Left>,
}

async fn fly<O: Operation>(cargo: Arc<Mutex<Cargo<O::Item>>>, landing: Start<O>) -> Outcomes<O> {
    let Cargo { items, left } = std::mem::replace(&mut *cargo.lock(), Cargo { items: Vec::new(), left: Vec::new() });
    let outcomes = landing.inner.operation.run(items, &left).await;
    drop(landing);
    outcomes.into_iter().map(|outcome| Mutex::new(Some(outcome))).collect()
}

impl<O: Operation> std::fmt::Debug for Combiner<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Combiner").field("waiting", &self.0.lanes.lock().waiting).finish_non_exhaustive()
    }
}
