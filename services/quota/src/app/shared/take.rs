//! Taking from slices: all that a request asks for, or nothing.

mod doubts;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::select_all;
use tokio::time::{Instant, sleep, timeout_at};
use weir_types::{OrganizationId, ReservationId};

use super::seats::{Seats, TakenSeat};
use super::slice::{Origin, Verdict};
use super::{Account, Ask, Asks, Shared};
use crate::domain::handle::{HandleShared, SharedCounter, entry};
use crate::domain::{Millis, OnFailure, Period};
use crate::error::{Error, Result};
pub(super) use doubts::Doubt;

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
/// what became of the request, so it stays taken until the store says.
#[derive(Debug)]
pub(in crate::app) struct Taken {
    shared: Arc<Shared>,
    taker: Taker,
    items: Vec<Item>,
    seats: Vec<TakenSeat>,
    sent: bool,
}

/// For which reservation something is taken, and for which growth of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// Between two looks at whether what is missing has come back.
const PAUSE: Duration = Duration::from_millis(10);
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
                Waited::Short(short) => return Ok(self.short(asks, short)),
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
        Ok(if short.is_empty() { Took::All(taken) } else { self.short(asks, short) })
    }

    fn short(&self, asks: &Asks, short: Vec<usize>) -> Took {
        self.warn_refused(asks, &short);
        Took::Short(short)
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
            asks.windows.iter().map(|ask| ask.account.known()).chain(asks.seats.iter().map(|seats| seats.known()));
        let mut limits = limits.map(|known| on_failure(&known));
        if limits.any(|on_failure| on_failure == OnFailure::Closed) {
            return None;
        }
        // What it took before the store turned out to be away it has.
        let doubt = self.take_doubt(taker);
        let has = |ask: &Ask| {
            let items = doubt.iter().flat_map(|doubt| &doubt.items);
            items.filter(|item| item.amount == ask.amount).find(|item| Arc::ptr_eq(&item.account, &ask.account))
        };
        let local = |ask: &&Ask| on_failure(&ask.account.known()) == OnFailure::Local && has(ask).is_none();
        let windows: Vec<&Ask> = asks.windows.iter().filter(local).collect();
        let Some(items) = self.take_all(&windows, generation) else {
            self.doubts.lock().extend(doubt);
            return None;
        };
        let now = self.now();
        let windows = asks.windows.iter().map(|ask| {
            let item = items.iter().find(|item| Arc::ptr_eq(&item.account, &ask.account)).or_else(|| has(ask));
            let period = item.map_or_else(|| ask.account.known().limit.period(now), |item| item.origin.period);
            window(&ask.account, ask.amount, period)
        });
        let counters = windows.chain(asks.seats.iter().map(|seats| seat(seats))).collect();
        for items in [items, doubt.map(|doubt| doubt.items).unwrap_or_default()] {
            self.use_up(items, taker.entry(), now);
        }
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
        match slice.verdict(ask.amount, account.known().limit.limit.cap) {
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

    /// What was taken was given out, and counts under this id.
    fn use_up(&self, items: Vec<Item>, entry: ReservationId, at: Millis) {
        for item in items {
            let mut slice = item.account.slice.lock();
            slice.confirm(entry, item.amount, item.origin, self.holder, at);
            let settled = slice.is_awaited() && slice.kept().1 == 0;
            drop(slice);
            if settled {
                item.account.news();
            }
        }
    }
}

/// What was taken was not needed.
fn give_back(items: Vec<Item>) {
    for item in items {
        let mut slice = item.account.slice.lock();
        slice.give_back(item.amount, item.origin);
        let awaited = slice.is_awaited();
        drop(slice);
        if awaited {
            item.account.news();
        }
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
    let known = account.known();
    let limit = &known.limit;
    let at = if limit.rolling().is_some() { limit.grain } else { period.start };
    SharedCounter { account: account.key.clone(), at: Some(at), amount, cap: limit.limit.cap, brought: known.brought }
}

fn seat(seats: &Seats) -> SharedCounter {
    let known = seats.known();
    let cap = known.limit.limit.cap;
    SharedCounter { account: seats.key.clone(), at: None, amount: 1, cap, brought: known.brought }
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
        self.shared.use_up(std::mem::take(&mut self.items), self.taker.entry(), at);
        self.keep_seats();
    }

    /// The store has answered that it was not carried out; it may be sent again.
    pub(in crate::app) const fn returned(&mut self) {
        self.sent = false;
    }

    /// The request had been admitted before: what it holds since then is enough, and its seats are its own.
    pub(in crate::app) fn repeat(mut self) {
        self.sent = false;
        self.keep_seats();
    }

    fn keep_seats(&mut self) {
        for seat in self.seats.drain(..) {
            self.shared.keep_seat(&seat, self.taker.reservation);
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.sent && !(self.items.is_empty() && self.seats.is_empty()) {
            return self.doubt();
        }
        give_back(std::mem::take(&mut self.items));
        for seat in self.seats.drain(..) {
            // One that it had before belongs to the reservation that exists.
            if seat.new {
                self.shared.give_seat_back(&seat.seats, self.taker.reservation);
            }
        }
    }
}

/// Nothing sleeps longer than this between two looks.
pub(super) async fn pause() {
    sleep(PAUSE).await;
}
