//! Taking from slices: all that a request asks for, or nothing.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::select_all;
use tokio::time::{Instant, sleep, timeout_at};
use weir_types::{OrganizationId, ReservationId};

use super::seats::{Seats, TakenSeat};
use super::slice::{Origin, Verdict};
use super::{Account, Ask, Asks, Shared};
use crate::domain::demand::bucket_end;
use crate::domain::handle::{HandleShared, SharedCounter, entry};
use crate::domain::period::FOREVER;
use crate::domain::shared::{Ended, Ending};
use crate::domain::{Handle, Millis, OnFailure, Period};
use crate::error::{Error, Result};
use crate::storage::store::Record;

/// What became of a request.
#[derive(Debug)]
pub(in crate::app) enum Took {
    /// It has what it asked for.
    All(Taken),
    /// These refuse, by their place among what was asked: windows, then seats.
    Short(Vec<usize>),
    /// The store is in another generation than the request thought.
    Moved,
}

/// What a request has taken. Dropped before the request was sent to the tenant's counters it goes back; after that nobody knows
/// what became of the request, so it counts as used until the store says otherwise.
#[derive(Debug)]
pub(in crate::app) struct Taken {
    shared: Arc<Shared>,
    taker: Taker,
    items: Vec<Item>,
    seats: Vec<TakenSeat>,
    sent: bool,
}

/// For which reservation something is taken, and for which growth of it.
#[derive(Debug, Clone, Copy)]
pub(in crate::app) struct Taker {
    pub(in crate::app) organization: OrganizationId,
    pub(in crate::app) reservation: ReservationId,
    pub(in crate::app) growth: u8,
}

impl Taker {
    /// The id under which it is counted.
    fn entry(&self) -> ReservationId {
        entry(self.reservation, self.growth)
    }
}

#[derive(Debug)]
struct Item {
    account: Arc<Account>,
    amount: i64,
    origin: Origin,
}

/// A request of which nobody knows whether it was carried out.
#[derive(Debug)]
pub(super) struct Doubt {
    taker: Taker,
    since: Instant,
    at: Millis,
    items: Vec<(Arc<Account>, i64, Millis)>,
    seats: Vec<Arc<Seats>>,
}

/// Between two looks at whether what is missing has come back.
const PAUSE: Duration = Duration::from_millis(10);
/// After so long a command that was not answered has been carried out or never will be.
const DOUBT: Duration = Duration::from_secs(3);
/// Doubts beyond these are not resolved: what they took counts as used.
const MOST_DOUBTS: usize = 10_000;

/// Registers what a request waits for, and takes it off again.
struct Waiting<'a> {
    ask: &'a Ask,
    round: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.ask.account.slice.lock().stop_waiting(self.ask.amount);
    }
}

impl Shared {
    /// Takes everything that is asked for, or nothing. What is short is drawn, and asked back from other processes, for as long as
    /// that may help and the configured wait allows.
    pub(in crate::app) async fn take(
        self: &Arc<Self>,
        asks: &Asks,
        generation: u64,
        taker: Taker,
        lease: Duration,
    ) -> Result<Took> {
        let until = Instant::now() + self.wait();
        let items = match self.take_now(&asks.windows, generation) {
            Some(items) => items,
            None => match self.take_later(&asks.windows, generation, until).await? {
                Waited::Items(items) => items,
                Waited::Short(short) => return Ok(Took::Short(short)),
                Waited::Moved => return Ok(Took::Moved),
            },
        };
        let mut taken = Taken { shared: Arc::clone(self), taker, items, seats: Vec::new(), sent: false };
        let mut short = Vec::new();
        for (place, seats) in asks.seats.iter().enumerate() {
            match self.take_seat(seats, taker.reservation, lease, until).await? {
                Some(seat) => taken.seats.push(seat),
                None => short.push(asks.windows.len() + place),
            }
        }
        Ok(if short.is_empty() { Took::All(taken) } else { Took::Short(short) })
    }

    /// While the store is away: whether limits admit, and what the handle then says. From limits that say `local` it is taken what
    /// this process has; it counts as given out.
    pub(in crate::app) fn take_without_store(
        self: &Arc<Self>,
        asks: &Asks,
        generation: u64,
        taker: Taker,
    ) -> Option<HandleShared> {
        let on_failure = |known: &super::Known| known.limit.limit.on_failure;
        let limits =
            asks.windows.iter().map(|ask| &ask.account.known).chain(asks.seats.iter().map(|seats| &seats.known));
        let mut limits = limits.map(|known| on_failure(known));
        if limits.any(|on_failure| on_failure == OnFailure::Closed) {
            return None;
        }
        // What it took before the store turned out to be away it has.
        let doubt = {
            let mut doubts = self.doubts.lock();
            doubts.iter().position(|doubt| doubt.taker.entry() == taker.entry()).map(|place| doubts.remove(place))
        };
        let had = doubt.map(|doubt| doubt.items).unwrap_or_default();
        let has = |account: &Arc<Account>| had.iter().find(|(had, ..)| Arc::ptr_eq(had, account));
        let local = |ask: &&Ask| on_failure(&ask.account.known) == OnFailure::Local && has(&ask.account).is_none();
        let windows: Vec<&Ask> = asks.windows.iter().filter(local).collect();
        let items = self.take_all(&windows, generation)?;
        let taken = Taken { shared: Arc::clone(self), taker, items, seats: Vec::new(), sent: false };
        let now = self.now();
        let windows = asks.windows.iter().map(|ask| {
            let item = taken.items.iter().find(|item| Arc::ptr_eq(&item.account, &ask.account));
            let before = || has(&ask.account).map(|(_, _, start)| Period { start: *start, end: *start });
            let period = item.map(|item| item.origin.period).or_else(before);
            window(&ask.account, ask.amount, period.unwrap_or_else(|| ask.account.known.limit.period(now)))
        });
        let counters = windows.chain(asks.seats.iter().map(|seats| seat(seats))).collect();
        taken.confirm(now);
        Some(HandleShared { growth: taker.growth, taken_at: now, holder: self.holder, counters })
    }

    fn take_now(&self, asks: &[Ask], generation: u64) -> Option<Vec<Item>> {
        self.take_all(&asks.iter().collect::<Vec<_>>(), generation)
    }

    /// In one step, with all slices locked in the order of their accounts.
    fn take_all(&self, asks: &[&Ask], generation: u64) -> Option<Vec<Item>> {
        let now = Instant::now();
        let mut slices: Vec<_> = asks.iter().map(|ask| ask.account.slice.lock()).collect();
        if !slices.iter().zip(asks).all(|(slice, ask)| slice.would_take(ask.amount, generation, now)) {
            return None;
        }
        slices.iter_mut().zip(asks).for_each(|(slice, ask)| slice.take(ask.amount));
        let item = |(slice, ask): (&parking_lot::MutexGuard<'_, super::Slice>, &&Ask)| Item {
            account: Arc::clone(&ask.account),
            amount: ask.amount,
            origin: slice.origin(),
        };
        let items = slices.iter().zip(asks).map(item).collect();
        let low: Vec<bool> = slices.iter().map(|slice| slice.is_low()).collect();
        drop(slices);
        for (ask, _) in asks.iter().zip(low).filter(|(_, low)| *low) {
            self.queue(&ask.account);
        }
        Some(items)
    }

    /// Waits for what is short; answers which asks are refused if that does not help.
    async fn take_later(&self, asks: &[Ask], generation: u64, until: Instant) -> Result<Waited> {
        let mut waiting: Vec<Option<Waiting<'_>>> = asks.iter().map(|_| None).collect();
        loop {
            let mut news: Vec<_> = asks.iter().map(|ask| ask.account.news.subscribe()).collect();
            if let Some(items) = self.take_now(asks, generation) {
                return Ok(Waited::Items(items));
            }
            let mut refused = Vec::new();
            let (mut pending, mut unknown) = (false, false);
            for (place, ask) in asks.iter().enumerate() {
                match self.look(ask, &mut waiting[place], generation)? {
                    Look::Fits => {}
                    Look::Never => refused.push(place),
                    Look::Later => pending = true,
                    Look::Unknown => unknown = true,
                    Look::Moved => return Ok(Waited::Moved),
                }
            }
            // Nothing is refused before its account has said how it stands; that has deadlines of its own.
            let out_of_time = Instant::now() >= until && !unknown;
            pending |= unknown;
            // A refusal names all that refuse, so each is waited for that is not known yet.
            if !refused.is_empty() && (!pending || out_of_time) {
                return Ok(Waited::Short(refused));
            }
            if out_of_time {
                let short = (0..asks.len()).filter(|place| waiting[*place].is_some()).collect();
                return Ok(Waited::Short(short));
            }
            let changed = select_all(news.iter_mut().map(|one| one.changed().map(drop).boxed()));
            let pause = Instant::now() + PAUSE;
            // Whether there was news or not: it looks again.
            let _ = timeout_at(pause, changed).await;
        }
    }

    fn look<'a>(&self, ask: &'a Ask, waiting: &mut Option<Waiting<'a>>, generation: u64) -> Result<Look> {
        let account = &ask.account;
        let mut slice = account.slice.lock();
        let Some(Waiting { round, .. }) = waiting else {
            if slice.would_take(ask.amount, generation, Instant::now()) {
                return Ok(Look::Fits);
            }
            let round = slice.wait(ask.amount);
            drop(slice);
            *waiting = Some(Waiting { ask, round });
            self.queue(account);
            return Ok(Look::Unknown);
        };
        if slice.is_closed() {
            return Err(Error::Stopping);
        }
        if slice.over < *round {
            return Ok(Look::Unknown);
        }
        if slice.would_take(ask.amount, generation, Instant::now()) {
            return Ok(Look::Fits);
        }
        match slice.last() {
            Some(Err(error)) => return Err(error.clone()),
            Some(Ok(_)) if slice.origin().generation != generation => return Ok(Look::Moved),
            // Its period is over: another round finds the next.
            Some(Ok(_)) if !slice.is_of(generation, Instant::now()) => {
                *round = slice.ask();
                drop(slice);
                self.queue(account);
                return Ok(Look::Unknown);
            }
            _ => {}
        }
        match slice.verdict(ask.amount, account.known.limit.limit.cap) {
            Verdict::Never => Ok(Look::Never),
            Verdict::Maybe(elsewhere) => {
                if elsewhere && slice.poll(Instant::now()) {
                    drop(slice);
                    self.queue(account);
                }
                Ok(Look::Later)
            }
        }
    }

    pub(super) fn has_doubts(&self) -> bool {
        self.doubts.lock().first().is_some_and(|doubt| doubt.since.elapsed() >= DOUBT)
    }

    /// Finds out what became of requests that were not answered. What was not carried out is given back.
    pub(super) async fn resolve_doubts(&self) {
        let due: Vec<Doubt> = {
            let mut doubts = self.doubts.lock();
            let count = doubts.iter().take_while(|doubt| doubt.since.elapsed() >= DOUBT).take(100).count();
            doubts.drain(..count).collect()
        };
        for doubt in due {
            match self.store.find(&doubt.taker.organization, &doubt.taker.reservation).await {
                Ok(Some(record)) if doubt.is_held_by(&record) => {}
                // Settled, then the accounts know or are told by whoever settles; or it never was.
                Ok(_) => self.withdraw(&doubt),
                Err(_) => self.doubts.lock().push(Doubt { since: Instant::now(), ..doubt }),
            }
        }
    }

    fn withdraw(&self, doubt: &Doubt) {
        for (account, amount, place) in &doubt.items {
            let ended = Ended {
                id: doubt.taker.entry(),
                holder: self.holder,
                reserved: *amount,
                actual: 0,
                before: 0,
                ending: Ending::Released,
                applied: true,
                place: *place,
                reserved_at: doubt.at,
                total: (0, 0),
            };
            drop(account.slice.lock().end(ended));
            self.queue(account);
        }
        for seats in &doubt.seats {
            self.give_seat_back(seats, doubt.taker.reservation);
        }
    }
}

impl Doubt {
    /// Whether a reservation has what its request took.
    fn is_held_by(&self, record: &Record) -> bool {
        let handle = Handle::decode(&record.handle());
        self.taker.growth == 0
            || handle.is_ok_and(|handle| handle.shared.iter().any(|part| part.growth == self.taker.growth))
    }
}

/// How an ask looks at the moment.
enum Look {
    Fits,
    /// The account has not said yet.
    Unknown,
    /// What is missing may come back.
    Later,
    Never,
    Moved,
}

/// What waiting came to.
enum Waited {
    Items(Vec<Item>),
    Short(Vec<usize>),
    Moved,
}

fn window(account: &Account, amount: i64, period: Period) -> SharedCounter {
    let limit = &account.known.limit;
    let at = if limit.rolling().is_some() { limit.grain } else { period.start };
    SharedCounter { account: account.key.clone(), at: Some(at), amount, cap: limit.limit.cap }
}

fn seat(seats: &Seats) -> SharedCounter {
    SharedCounter { account: seats.key.clone(), at: None, amount: 1, cap: seats.known.limit.limit.cap }
}

impl Taken {
    /// What the handle says.
    pub(in crate::app) fn handle(&self) -> HandleShared {
        let windows = self.items.iter().map(|item| window(&item.account, item.amount, item.origin.period));
        let counters = windows.chain(self.seats.iter().map(|taken| seat(&taken.seats))).collect();
        HandleShared { growth: self.taker.growth, taken_at: 0, holder: self.shared.holder, counters }
    }

    /// From here on nobody knows what becomes of the request until the store answers.
    pub(in crate::app) const fn send(&mut self) {
        self.sent = true;
    }

    /// The request was admitted.
    pub(in crate::app) fn confirm(mut self, at: Millis) {
        self.use_up(at);
    }

    /// The store has answered that it was not carried out; it may be sent again.
    pub(in crate::app) const fn returned(&mut self) {
        self.sent = false;
    }

    /// The request had been admitted before: what it holds since then is enough, and its seats are its own.
    pub(in crate::app) fn repeat(mut self) {
        self.sent = false;
        for seat in self.seats.drain(..) {
            self.shared.keep_seat(&seat, self.taker.reservation);
        }
    }

    fn use_up(&mut self, at: Millis) {
        for item in self.items.drain(..) {
            let mut slice = item.account.slice.lock();
            slice.confirm(self.taker.entry(), item.amount, item.origin, self.shared.holder, at);
            let settled = slice.is_awaited() && slice.kept().1 == 0;
            drop(slice);
            if settled {
                item.account.news();
            }
        }
        for seat in self.seats.drain(..) {
            self.shared.keep_seat(&seat, self.taker.reservation);
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if !self.sent {
            for item in self.items.drain(..) {
                let mut slice = item.account.slice.lock();
                slice.give_back(item.amount, item.origin);
                let awaited = slice.is_awaited();
                drop(slice);
                if awaited {
                    item.account.news();
                }
            }
            for seat in self.seats.drain(..) {
                // One that it had before belongs to the reservation that exists.
                if seat.new {
                    self.shared.give_seat_back(&seat.seats, self.taker.reservation);
                }
            }
            return;
        }
        if self.items.is_empty() && self.seats.is_empty() {
            return;
        }
        let at = self.shared.now();
        let place = |item: &Item| {
            if item.origin.period == FOREVER {
                bucket_end(at, item.account.known.limit.grain)
            } else {
                item.origin.period.start
            }
        };
        let doubt = Doubt {
            taker: self.taker,
            since: Instant::now(),
            at,
            items: self.items.iter().map(|item| (Arc::clone(&item.account), item.amount, place(item))).collect(),
            seats: self.seats.iter().filter(|seat| seat.new).map(|seat| Arc::clone(&seat.seats)).collect(),
        };
        self.use_up(at);
        let mut doubts = self.shared.doubts.lock();
        if doubts.len() < MOST_DOUBTS {
            doubts.push(doubt);
        }
    }
}

/// Nothing sleeps longer than this between two looks.
pub(super) async fn pause() {
    sleep(PAUSE).await;
}
