//! Seats of concurrency limits across tenants: taken from the store, many requests in one message.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;
use weir_types::ReservationId;

use super::{Due, Known, Queued, Shared};
use crate::domain::Millis;
use crate::domain::shared::{AccountKey, LeaseReply, LeaseRound, Seat};
use crate::error::{Error, Result};
use crate::storage::store::Failure;

/// The seats of one limit and value, as this process deals with them.
#[derive(Debug)]
pub(super) struct Seats {
    pub(super) key: AccountKey,
    pub(super) known: ArcSwap<Known>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    queued: Queued,
    wanted: Vec<(ReservationId, Millis, oneshot::Sender<Result<Answer>>)>,
    ended: Vec<(ReservationId, oneshot::Sender<Result<()>>)>,
    extended: Vec<(ReservationId, Millis, oneshot::Sender<Result<()>>)>,
    read: Vec<oneshot::Sender<Result<i64>>>,
    decided: Vec<ReservationId>,
    given_back: Vec<ReservationId>,
    /// Seats that were taken when the last message was answered.
    live: i64,
}

/// What became of one wanted seat.
#[derive(Debug, Clone, Copy)]
struct Answer {
    seat: Seat,
    undecided: i64,
}

/// A seat that a request has.
#[derive(Debug)]
pub(super) struct TakenSeat {
    pub(super) seats: Arc<Seats>,
    /// Whether it was taken for this request, not before.
    pub(super) new: bool,
}

/// The most of each kind in one message.
const BATCH: usize = 500;
/// What could not be said beyond these is left to the ends of the leases.
const MOST_UNSAID: usize = 10_000;

impl Seats {
    pub(super) fn new(key: AccountKey, known: Arc<Known>) -> Self {
        let waiting = Waiting {
            queued: Queued::No,
            wanted: Vec::new(),
            ended: Vec::new(),
            extended: Vec::new(),
            read: Vec::new(),
            decided: Vec::new(),
            given_back: Vec::new(),
            live: 0,
        };
        Self { key, known: ArcSwap::new(known), waiting: Mutex::new(waiting) }
    }

    pub(super) fn known(&self) -> Arc<Known> {
        self.known.load_full()
    }

    /// Seats that were taken when that was last looked at.
    pub(super) fn live(&self) -> i64 {
        self.waiting.lock().live
    }

    /// After a message: whether there must be another.
    pub(super) fn is_due_again(&self) -> bool {
        let mut waiting = self.waiting.lock();
        let again = waiting.queued == Queued::Again || waiting.is_urgent();
        waiting.queued = if again { Queued::Yes } else { Queued::No };
        again
    }
}

impl Waiting {
    const fn is_urgent(&self) -> bool {
        !(self.wanted.is_empty() && self.ended.is_empty() && self.extended.is_empty() && self.read.is_empty())
    }

    const fn is_active(&self) -> bool {
        self.is_urgent() || !self.decided.is_empty() || !self.given_back.is_empty()
    }
}

fn some<T>(list: &mut Vec<T>) -> Vec<T> {
    list.drain(..list.len().min(BATCH)).collect()
}

impl Shared {
    /// Takes a seat; none if there is none, and none will be free in a moment.
    pub(super) async fn take_seat(
        &self,
        seats: &Arc<Seats>,
        id: ReservationId,
        lease: Duration,
        until: Instant,
    ) -> Result<Option<TakenSeat>> {
        let lease = Millis::try_from(lease.as_millis()).unwrap_or(Millis::MAX);
        loop {
            let (sender, receiver) = oneshot::channel();
            seats.waiting.lock().wanted.push((id, lease, sender));
            self.queue_seats(seats);
            let answer = self.until_gone(async { receiver.await.unwrap_or(Err(Error::Stopping)) }).await?;
            match answer.seat {
                Seat::Taken => return Ok(Some(TakenSeat { seats: Arc::clone(seats), new: true })),
                // Of an ended call the tenant's counters know more.
                Seat::Had | Seat::Ended => return Ok(Some(TakenSeat { seats: Arc::clone(seats), new: false })),
                // Some of those that have the seats may be refused by other limits and give them back.
                Seat::Full if answer.undecided > 0 && Instant::now() < until => super::take::pause().await,
                Seat::Full => return Ok(None),
            }
        }
    }

    /// The request that has the seat was admitted.
    pub(super) fn keep_seat(&self, seat: &TakenSeat, id: ReservationId) {
        if seat.new {
            seat.seats.waiting.lock().decided.push(id);
        }
    }

    /// The request was not admitted.
    pub(super) fn give_seat_back(&self, seats: &Arc<Seats>, id: ReservationId) {
        seats.waiting.lock().given_back.push(id);
        self.queue_seats(seats);
    }

    /// The call has ended; the answer comes when the store knows.
    pub(super) fn end_seat(&self, seats: &Arc<Seats>, id: ReservationId) -> oneshot::Receiver<Result<()>> {
        let (sender, receiver) = oneshot::channel();
        seats.waiting.lock().ended.push((id, sender));
        self.queue_seats(seats);
        receiver
    }

    /// The call is under way: its seat is kept, or taken again if it was lost.
    pub(super) fn extend_seat(
        &self,
        seats: &Arc<Seats>,
        id: ReservationId,
        lease: Duration,
    ) -> oneshot::Receiver<Result<()>> {
        let lease = Millis::try_from(lease.as_millis()).unwrap_or(Millis::MAX);
        let (sender, receiver) = oneshot::channel();
        seats.waiting.lock().extended.push((id, lease, sender));
        self.queue_seats(seats);
        receiver
    }

    /// How many seats are taken.
    pub(super) async fn read_seats(&self, seats: &Arc<Seats>) -> Result<i64> {
        let (sender, receiver) = oneshot::channel();
        seats.waiting.lock().read.push(sender);
        self.queue_seats(seats);
        self.until_gone(async { receiver.await.unwrap_or(Err(Error::Stopping)) }).await
    }

    fn queue_seats(&self, seats: &Arc<Seats>) {
        let mut waiting = seats.waiting.lock();
        match waiting.queued {
            Queued::No => {
                waiting.queued = Queued::Yes;
                let _ = self.due.send(Due::Seats(Arc::clone(seats)));
            }
            Queued::Yes => waiting.queued = Queued::Again,
            Queued::Again => {}
        }
    }

    /// Says what is to be said; answers whether there is anything.
    pub(super) fn report_seats(&self, seats: &Arc<Seats>) -> bool {
        let active = seats.waiting.lock().is_active();
        if active {
            self.queue_seats(seats);
        }
        active
    }

    /// One message and its answer.
    pub(super) async fn fly_seats(&self, seats: &Arc<Seats>) {
        let (wanted, ended, extended, read, decided, given_back) = {
            let mut waiting = seats.waiting.lock();
            waiting.queued = Queued::Yes;
            if !waiting.is_active() {
                return;
            }
            let Waiting { wanted, ended, extended, read, decided, given_back, .. } = &mut *waiting;
            (some(wanted), some(ended), some(extended), std::mem::take(read), some(decided), some(given_back))
        };
        let round = LeaseRound {
            cap: seats.known().limit.limit.cap,
            remember: self.remember,
            ended: ended.iter().map(|(id, _)| *id).collect(),
            given_back,
            decided,
            extended: extended.iter().map(|(id, lease, _)| (*id, *lease)).collect(),
            wanted: wanted.iter().map(|(id, lease, _)| (*id, *lease)).collect(),
        };
        // Whoever has left is not told.
        match self.exchange_seats(seats, &round).await {
            Ok(reply) => {
                seats.waiting.lock().live = reply.live;
                self.warn_of_seats(seats, false);
                for ((_, _, told), seat) in wanted.into_iter().zip(reply.seats) {
                    let _ = told.send(Ok(Answer { seat, undecided: reply.undecided }));
                }
                ended.into_iter().for_each(|(_, told)| drop(told.send(Ok(()))));
                extended.into_iter().for_each(|(.., told)| drop(told.send(Ok(()))));
                read.into_iter().for_each(|told| drop(told.send(Ok(reply.live))));
            }
            Err(error) => {
                wanted.into_iter().for_each(|(.., told)| drop(told.send(Err(error.clone()))));
                ended.into_iter().for_each(|(_, told)| drop(told.send(Err(error.clone()))));
                extended.into_iter().for_each(|(.., told)| drop(told.send(Err(error.clone()))));
                read.into_iter().for_each(|told| drop(told.send(Err(error.clone()))));
                let mut waiting = seats.waiting.lock();
                if waiting.decided.len() + waiting.given_back.len() < MOST_UNSAID {
                    // A wanted seat may have been taken although nobody was told.
                    waiting.given_back.extend(round.given_back);
                    waiting.given_back.extend(round.wanted.iter().map(|(id, _)| *id));
                    waiting.decided.extend(round.decided);
                }
            }
        }
    }

    async fn exchange_seats(&self, seats: &Seats, round: &LeaseRound) -> Result<LeaseReply> {
        for _ in 0..2 {
            let epoch = self.epochs.current().await?;
            match self.store.shared_leases(&epoch.store, &seats.key, round).await {
                Err(Failure::OtherGeneration) => drop(Box::pin(self.epochs.reload()).await?),
                result => return Ok(result?),
            }
        }
        Err(Error::Unsettled("too many attempts"))
    }
}
