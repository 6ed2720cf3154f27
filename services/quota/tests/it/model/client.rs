//! Clients of one tenant: they ask, and hold each answer against every state that the engine may be in.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;
use weir_quota::domain::Millis;
use weir_rpc::Failure;
use weir_types::{OrganizationId, ReservationId};

use super::bench::Bench;
use super::growing::Asked;
use super::history::{Call, Then, Used};
use super::reference::{Amounts, Fate, Known, Reference, Who};

/// How often somebody asks again before it is a defect that nobody gets an answer.
pub(super) const ATTEMPTS: usize = 400;

pub(super) type Checked<T = ()> = Result<T, String>;

/// A client's part of a reservation.
pub(super) struct Slot {
    pub(super) id: u64,
    pub(super) who: Who,
    pub(super) amounts: Amounts,
    pub(super) lease: Millis,
    /// None if the client never heard of it.
    pub(super) handle: Option<Bytes>,
    /// From before it last grew.
    pub(super) former: Option<Bytes>,
    /// Whether it is known how much it holds if it is held.
    pub(super) is_known: bool,
}

impl Slot {
    fn new(id: u64, who: Who, amounts: &Amounts, lease: Millis) -> Self {
        Self { id, who, amounts: amounts.clone(), lease, handle: None, former: None, is_known: true }
    }
}

/// One tenant's history.
pub(crate) struct Play<'a> {
    pub(super) bench: &'a Bench,
    pub(super) tenant: OrganizationId,
    /// Every state that the engine may be in, by what was seen of it.
    worlds: Vec<Reference>,
    pub(super) slots: BTreeMap<usize, Slot>,
    /// Of all reservations ever asked for, by their number here.
    pub(super) ids: Vec<ReservationId>,
    pub(super) handles: BTreeMap<u64, Bytes>,
}

impl<'a> Play<'a> {
    pub(crate) fn new(bench: &'a Bench, tenant: OrganizationId, reference: Reference) -> Self {
        let worlds = vec![reference];
        Self { bench, tenant, worlds, slots: BTreeMap::new(), ids: Vec::new(), handles: BTreeMap::new() }
    }

    /// Any of the worlds: they have the same plan and time.
    pub(crate) fn reference(&self) -> &Reference {
        &self.worlds[0]
    }

    pub(super) fn worlds(&self) -> &[Reference] {
        &self.worlds
    }

    pub(super) async fn client(&self, engine: usize) -> crate::house::Client {
        self.bench.client(engine).await
    }

    pub(super) fn has(&self, slot: usize) -> bool {
        self.slots.contains_key(&slot)
    }

    /// What settles a reservation, as somebody knows.
    pub(super) fn handle(&self, id: u64) -> Option<Bytes> {
        self.handles.get(&id).cloned()
    }

    /// Of a slot: which reservation, what it holds and what settles it, if its client knows.
    pub(super) fn known(&self, slot: usize) -> Option<(u64, Amounts, Bytes)> {
        let slot = &self.slots[&slot];
        slot.handle.clone().filter(|_| slot.is_known).map(|handle| (slot.id, slot.amounts.clone(), handle))
    }

    /// It has grown.
    pub(super) fn learn(&mut self, slot: usize, whole: &Amounts, handle: Bytes) {
        let slot = self.slots.get_mut(&slot).unwrap();
        slot.amounts.clone_from(whole);
        slot.former = slot.handle.replace(handle.clone());
        self.handles.insert(slot.id, handle);
    }

    pub(crate) fn each(&mut self, change: impl Fn(&mut Reference)) {
        self.worlds.iter_mut().for_each(change);
    }

    /// Keeps the worlds that an answer is possible in, as they are after it.
    pub(super) fn observe(&mut self, next: impl Fn(&Reference) -> Checked<Vec<Reference>>) -> Checked {
        let (mut worlds, mut reasons): (Vec<Reference>, Vec<String>) = (Vec::new(), Vec::new());
        for world in &self.worlds {
            match next(world) {
                Ok(after) => after.into_iter().for_each(|world| {
                    if !worlds.contains(&world) {
                        worlds.push(world);
                    }
                }),
                Err(reason) => reasons.push(reason),
            }
        }
        if worlds.is_empty() {
            return Err(reasons.join(" | "));
        }
        self.worlds = worlds;
        Ok(())
    }

    /// One call, and what follows if its answer is lost.
    pub(crate) async fn call(&mut self, call: &Call, engine: usize, then: Then) -> Checked {
        let mut engine = engine;
        for attempt in 0..ATTEMPTS {
            if self.ask(call, engine, attempt == 0).await? {
                return Ok(());
            }
            match then {
                Then::GiveUp if attempt == 0 => {
                    self.give_up(call);
                    return Ok(());
                }
                Then::AskAnother if attempt == 0 => {
                    self.bench.restart(engine).await;
                    engine = 1 - engine;
                }
                _ => sleep(Duration::from_millis(5)).await,
            }
        }
        Err("nobody gets an answer".to_owned())
    }

    /// Nobody ever hears whether it has grown, and what settles it then.
    fn give_up(&mut self, call: &Call) {
        let Call::Grow { slot, .. } = call else { return };
        let Some(slot) = self.live(*slot).and_then(|slot| self.slots.get_mut(&slot)) else { return };
        // It may have been made with what is the handle of before now.
        (slot.handle, slot.former, slot.is_known) = (None, None, false);
        self.handles.remove(&slot.id);
    }

    /// The reservation that a number stands for, if there is one.
    pub(super) fn slot(&self, number: usize) -> Option<usize> {
        self.slots.keys().nth(number % self.slots.len().max(1)).copied()
    }

    /// Answers whether there was an answer.
    async fn ask(&mut self, call: &Call, engine: usize, first: bool) -> Checked<bool> {
        match call {
            Call::Reserve { slot, who, amounts, lease } => {
                if first {
                    let id = self.ids.len() as u64;
                    self.ids.push(ReservationId::new_v7());
                    let made = Slot::new(id, *who, amounts, *lease);
                    self.slots.insert(*slot, made);
                }
                self.reserve(*slot, engine).await
            }
            Call::Repeat { slot } => {
                let Some(slot) = self.slot(*slot).filter(|slot| self.slots[slot].is_known) else { return Ok(true) };
                let id = self.slots[&slot].id;
                // What has ended and was forgotten is remembered by the books, which Reserve does not ask.
                let forgotten = |world: &Reference| {
                    world
                        .made
                        .get(&id)
                        .is_some_and(|made| matches!(made.known, Known::Lost(_)) && made.fate != Fate::Held)
                };
                if self.worlds.iter().any(forgotten) { Ok(true) } else { self.reserve(slot, engine).await }
            }
            Call::Commit { slot, used, estimated, with } => {
                let Some(slot) = self.slot(*slot).map(|slot| &self.slots[&slot]) else { return Ok(true) };
                let amount = |(unit, reserved): (&&'static str, &i64)| {
                    let amount = match used {
                        Used::Nothing => return None,
                        Used::Half => reserved / 2,
                        Used::All => *reserved,
                        Used::More(_) if *unit == "concurrent" => *reserved,
                        Used::More(more) => reserved + more,
                    };
                    Some((*unit, amount))
                };
                let amounts = slot.amounts.iter().filter_map(amount).collect();
                let (id, handle) = (slot.id, self.says(slot, *with));
                self.settle(id, handle, &Fate::Committed { amounts, estimated: *estimated }, engine).await
            }
            Call::Release { slot, with } => {
                let Some(slot) = self.slot(*slot).map(|slot| &self.slots[&slot]) else { return Ok(true) };
                let (id, handle) = (slot.id, self.says(slot, *with));
                self.settle(id, handle, &Fate::Released, engine).await
            }
            Call::Extend { slot, lease } => {
                let Some(slot) = self.slot(*slot).map(|slot| &self.slots[&slot]) else { return Ok(true) };
                let Some(handle) = slot.handle.clone() else { return Ok(true) };
                let id = slot.id;
                self.extend(id, handle, *lease, engine).await
            }
            Call::Grow { slot, more, less, lease } => {
                let asked = Asked { slot: *slot, more, less: *less, lease: *lease };
                self.grow(asked, engine, first).await
            }
            Call::TakeOver { lease } => self.take_over(*lease, engine).await,
            Call::Check { who, amounts } => self.check(*who, amounts, engine).await,
        }
    }

    pub(super) async fn wait(&self, failure: &Failure) -> Checked<bool> {
        sleep(failure.retry_after().unwrap_or_default()).await;
        Ok(false)
    }

    pub(super) fn name(&self, id: u64) -> String {
        self.ids[usize::try_from(id).unwrap()].to_string()
    }
}
