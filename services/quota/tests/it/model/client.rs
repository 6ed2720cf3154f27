//! Clients of one tenant: they ask, and hold each answer against every state that the engine may be in.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::*;
use weir_quota::domain::Millis;
use weir_rpc::Failure;
use weir_types::{OrganizationId, ReservationId, names};

use super::bench::Bench;
use super::history::{Call, Then, Used};
use super::reference::{Amounts, Fate, Known, Reference, Settled, Who};
use super::wire::{context, duration, is_lost, list, outcome, refusing, states, subject};
use crate::house::open;

/// How often somebody asks again before it is a defect that nobody gets an answer.
const ATTEMPTS: usize = 400;

pub(super) type Checked<T = ()> = Result<T, String>;

/// A client's part of a reservation.
struct Slot {
    id: u64,
    who: Who,
    amounts: Amounts,
    lease: Millis,
    /// None if the client never heard of it.
    handle: Option<Bytes>,
    /// Whether it is known how much it holds if it is held.
    is_known: bool,
}

/// One tenant's history.
pub(crate) struct Play<'a> {
    bench: &'a Bench,
    tenant: OrganizationId,
    /// Every state that the engine may be in, by what was seen of it.
    worlds: Vec<Reference>,
    slots: BTreeMap<usize, Slot>,
    /// Of all reservations ever asked for, by their number here.
    ids: Vec<ReservationId>,
    handles: BTreeMap<u64, Bytes>,
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
        slot.handle = Some(handle.clone());
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
        let Some(slot) = self.slot(*slot).and_then(|slot| self.slots.get_mut(&slot)) else { return };
        (slot.handle, slot.is_known) = (None, false);
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
                    let made =
                        Slot { id, who: *who, amounts: amounts.clone(), lease: *lease, handle: None, is_known: true };
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
            Call::Commit { slot, used, estimated, bare } => {
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
                let handle = slot.handle.clone().filter(|_| !bare);
                let id = slot.id;
                self.settle(id, handle, &Fate::Committed { amounts, estimated: *estimated }, engine).await
            }
            Call::Release { slot, bare } => {
                let Some(slot) = self.slot(*slot).map(|slot| &self.slots[&slot]) else { return Ok(true) };
                let (id, handle) = (slot.id, slot.handle.clone().filter(|_| !bare));
                self.settle(id, handle, &Fate::Released, engine).await
            }
            Call::Extend { slot, lease } => {
                let Some(slot) = self.slot(*slot).map(|slot| &self.slots[&slot]) else { return Ok(true) };
                let Some(handle) = slot.handle.clone() else { return Ok(true) };
                let id = slot.id;
                self.extend(id, handle, *lease, engine).await
            }
            Call::Grow { slot, more, less, lease } => self.grow(*slot, more, *less, *lease, engine).await,
            Call::TakeOver { lease } => self.take_over(*lease, engine).await,
            Call::Check { who, amounts } => self.check(*who, amounts, engine).await,
        }
    }

    async fn reserve(&mut self, slot: usize, engine: usize) -> Checked<bool> {
        let Slot { id, who, amounts, lease, .. } = &self.slots[&slot];
        let (id, who, amounts, lease) = (*id, *who, amounts.clone(), *lease);
        let request = ReserveRequest {
            reservation_id: self.name(id),
            subject: Some(subject(self.tenant, who)),
            amounts: list(&amounts),
            lease: duration(lease),
            context: context(id),
            limits: Vec::new(),
        };
        let again = |world: &Reference| world.made.get(&id).map(|made| made.known.clone());
        match open(self.bench.client(engine).await.reserve(request).await) {
            Ok(answer) => {
                let states = states(&answer.limits);
                let known = self.handles.get(&id).cloned();
                self.observe(|world| {
                    let mut after = world.clone();
                    match again(world) {
                        None | Some(Known::Lost(_)) => after.admit(id, who, &amounts, lease, &states)?,
                        Some(Known::Held) if known.as_ref().is_some_and(|known| *known != answer.handle) => {
                            return Err("another handle for the same reservation".to_owned());
                        }
                        Some(Known::Held) => {}
                        Some(Known::Ended { .. }) => return Err("admitted although it has ended".to_owned()),
                    }
                    Ok(vec![after])
                })?;
                self.handles.insert(id, answer.handle.clone());
                self.slots.get_mut(&slot).unwrap().handle = Some(answer.handle);
                Ok(true)
            }
            Err(failure) if is_lost(&failure) => {
                self.observe(|world| {
                    let landed = match again(world) {
                        None | Some(Known::Lost(_)) => world.admit_unseen(id, who, &amounts, lease),
                        _ => Vec::new(),
                    };
                    Ok([vec![world.clone()], landed].concat())
                })?;
                Ok(false)
            }
            Err(failure) => match failure.reason() {
                ErrorReason::Rebuilding => self.wait(&failure).await,
                ErrorReason::BudgetExhausted | ErrorReason::QuotaExceeded => {
                    let names: Vec<&str> = self.reference().plan().iter().map(|(limit, _)| limit.name).collect();
                    let states = refusing(&failure, &names);
                    self.observe(|world| match again(world) {
                        None | Some(Known::Lost(_)) => {
                            world.refuse(who, &amounts, &states).map(|()| vec![world.clone()])
                        }
                        _ => Err("refused although it is held".to_owned()),
                    })?;
                    Ok(true)
                }
                ErrorReason::IdReused => {
                    self.observe(|world| match again(world) {
                        Some(Known::Ended { .. }) => Ok(vec![world.clone()]),
                        known => Err(format!("{known:?}: {failure}")),
                    })?;
                    Ok(true)
                }
                _ => Err(failure.to_string()),
            },
        }
    }

    /// A settlement; without a handle as by somebody who knows no more than the id.
    async fn settle(&mut self, id: u64, handle: Option<Bytes>, asked: &Fate, engine: usize) -> Checked<bool> {
        let bare = handle.is_none();
        let mut client = self.bench.client(engine).await;
        let (reservation_id, organization) = (self.name(id), names::organization(&self.tenant));
        let handle = handle.unwrap_or_default();
        let answer = match asked {
            Fate::Committed { amounts, estimated } => {
                let (actuals, estimated) = (list(amounts), *estimated);
                let request = CommitRequest { reservation_id, organization, handle, actuals, estimated };
                open(client.commit(request).await).map(|answer| (answer.duplicate, Some((answer.amounts, answer.late))))
            }
            _ => {
                let request = ReleaseRequest { reservation_id, organization, handle, reason: String::new() };
                open(client.release(request).await).map(|answer| (answer.duplicate, None))
            }
        };
        match answer {
            Ok((duplicate, committed)) => self.observe(|world| {
                let mut after = world.clone();
                if !world.is_findable(id, bare, asked) {
                    return Err("settled although nobody knows it".to_owned());
                }
                let Settled::Done { fate, duplicate: was, late } = after.settled(id, asked) else {
                    return Err("settled although it has ended otherwise".to_owned());
                };
                if was != duplicate {
                    return Err(format!("duplicate: {duplicate} instead of {was}"));
                }
                if let (Some((amounts, was_late)), Fate::Committed { amounts: charged, .. }) = (&committed, &fate)
                    && (*amounts != list(charged) || *was_late != late)
                {
                    return Err(format!("{amounts:?}, late: {was_late} instead of {charged:?}, {late}"));
                }
                after.settle(id, asked, true);
                Ok(vec![after])
            })?,
            Err(failure) if is_lost(&failure) => {
                self.observe(|world| {
                    let mut worlds = vec![world.clone()];
                    if world.is_findable(id, bare, asked) {
                        for told in [false, true] {
                            let mut after = world.clone();
                            after.settle(id, asked, told);
                            worlds.push(after);
                        }
                    }
                    Ok(worlds)
                })?;
                return Ok(false);
            }
            Err(failure) => match failure.reason() {
                ErrorReason::Rebuilding => return self.wait(&failure).await,
                reason @ (ErrorReason::ReservationReleased | ErrorReason::AlreadyExists) => self.observe(|world| {
                    let expected = match world.settled(id, asked) {
                        Settled::WasReleased => ErrorReason::ReservationReleased,
                        Settled::WasCommitted => ErrorReason::AlreadyExists,
                        Settled::Done { .. } => return Err(format!("{reason:?} although nothing stands against it")),
                    };
                    if reason != expected {
                        return Err(format!("{reason:?} instead of {expected:?}"));
                    }
                    let mut after = world.clone();
                    after.settle(id, asked, true);
                    Ok(vec![after])
                })?,
                ErrorReason::ReservationNotFound => self.observe(|world| {
                    if world.is_findable(id, bare, asked) {
                        Err("not found".to_owned())
                    } else {
                        Ok(vec![world.clone()])
                    }
                })?,
                _ => return Err(failure.to_string()),
            },
        }
        Ok(true)
    }

    async fn extend(&mut self, id: u64, handle: Bytes, lease: Millis, engine: usize) -> Checked<bool> {
        let extension = LeaseExtension {
            reservation_id: self.name(id),
            handle,
            lease: duration(lease),
            context: context(id),
            amounts: Vec::new(),
        };
        let request = ExtendRequest { leases: vec![extension] };
        match open(self.bench.client(engine).await.extend(request).await) {
            Ok(answer) => self.observe(|world| {
                let mut after = world.clone();
                let expected = after.extend(id, lease);
                let outcome = outcome(&answer.outcomes);
                if outcome == expected { Ok(vec![after]) } else { Err(format!("{outcome} instead of {expected}")) }
            })?,
            Err(failure) if is_lost(&failure) => {
                self.observe(|world| {
                    let mut after = world.clone();
                    after.extend(id, lease);
                    Ok(vec![world.clone(), after])
                })?;
                return Ok(false);
            }
            Err(failure) => return Err(failure.to_string()),
        }
        Ok(true)
    }

    async fn take_over(&mut self, lease: Millis, engine: usize) -> Checked<bool> {
        let request = TakeOverRequest { max: 1_000, lease: duration(lease) };
        match open(self.bench.client(engine).await.take_over(request).await) {
            Ok(answer) => {
                let mut taken = BTreeMap::new();
                for one in answer.reservations {
                    let id = self.ids.iter().position(|id| id.to_string() == one.reservation_id);
                    let id = id.ok_or("took over what nobody has reserved")? as u64;
                    taken.insert(id, one);
                }
                self.observe(|world| {
                    let mut after = world.clone();
                    let (expected, found) = (world.expired(), taken.keys().copied().collect::<Vec<_>>());
                    if expected != found {
                        return Err(format!("took over {found:?} instead of {expected:?}"));
                    }
                    for (id, one) in &taken {
                        if one.amounts != list(&world.made[id].amounts) || one.context != context(*id) {
                            return Err(format!("took over {one:?}"));
                        }
                    }
                    after.take_over(lease);
                    Ok(vec![after])
                })?;
                for (id, one) in taken {
                    let known = self.handles.insert(id, one.handle.clone());
                    if known.is_some_and(|known| known != one.handle) {
                        return Err("took over with another handle".to_owned());
                    }
                    for slot in self.slots.values_mut().filter(|slot| slot.id == id) {
                        slot.handle = Some(one.handle.clone());
                    }
                }
                Ok(true)
            }
            Err(failure) if is_lost(&failure) => {
                self.observe(|world| {
                    let mut after = world.clone();
                    after.take_over(lease);
                    Ok(vec![world.clone(), after])
                })?;
                Ok(false)
            }
            Err(failure) => Err(failure.to_string()),
        }
    }

    async fn check(&mut self, who: Who, amounts: &Amounts, engine: usize) -> Checked<bool> {
        let request = CheckRequest { subject: Some(subject(self.tenant, who)), amounts: list(amounts) };
        match open(self.bench.client(engine).await.check(request).await) {
            Ok(answer) => {
                if answer.allowed != answer.refused_by.is_empty() {
                    return Err(format!("{answer:?}"));
                }
                let states = states(&answer.limits);
                self.observe(|world| {
                    world.check(who, amounts, &states, &answer.refused_by).map(|()| vec![world.clone()])
                })?;
                Ok(true)
            }
            Err(failure) if failure.reason() == ErrorReason::Rebuilding => self.wait(&failure).await,
            Err(failure) if is_lost(&failure) => Ok(false),
            Err(failure) => Err(failure.to_string()),
        }
    }

    /// Every counter of a subject.
    pub(crate) async fn compare(&mut self, who: Who, engine: usize) -> Checked {
        for _ in 0..ATTEMPTS {
            let request = GetBalanceRequest { subject: Some(subject(self.tenant, who)) };
            match open(self.bench.client(engine).await.get_balance(request).await) {
                Ok(answer) => {
                    let states = states(&answer.limits);
                    return self.observe(|world| world.balance(who, &states).map(|()| vec![world.clone()]));
                }
                Err(failure) if is_lost(&failure) => sleep(Duration::from_millis(5)).await,
                Err(failure) => return Err(failure.to_string()),
            }
        }
        Err("nobody gets a balance".to_owned())
    }

    /// What was lost is announced by those who have a handle of it.
    pub(crate) async fn announce(&mut self) -> Checked {
        let known: Vec<(u64, Bytes)> = self.handles.iter().map(|(id, handle)| (*id, handle.clone())).collect();
        for (id, handle) in known {
            let live = |world: &Reference| world.made.get(&id).is_some_and(|made| made.fate == Fate::Held);
            if self.worlds.iter().all(live) {
                let mut attempts = 0;
                while !self.extend(id, handle.clone(), 30_000, 0).await? {
                    again(&mut attempts).await?;
                }
            }
        }
        Ok(())
    }

    /// Everything that may still be held is settled, by whoever takes it over where nobody else knows of it.
    pub(crate) async fn settle_all(&mut self) -> Checked {
        let mut attempts = 0;
        while !self.take_over(30_000, 0).await? {
            again(&mut attempts).await?;
        }
        for (id, handle) in self.handles.clone() {
            let over = |world: &Reference| {
                world.made.get(&id).is_none_or(|made| made.fate != Fate::Held && made.known != Known::Held)
            };
            if self.worlds.iter().all(over) {
                continue;
            }
            // Half of it was released by somebody, say.
            let amounts = self.worlds[0].made.get(&id).map(|made| made.amounts.clone()).unwrap_or_default();
            let fates = [Fate::Committed { amounts, estimated: false }, Fate::Released];
            for fate in fates {
                while !self.settle(id, Some(handle.clone()), &fate, 1).await? {
                    again(&mut attempts).await?;
                }
            }
        }
        for who in super::history::SUBJECTS {
            self.compare(who, 0).await?;
        }
        Ok(())
    }

    pub(super) async fn wait(&self, failure: &Failure) -> Checked<bool> {
        sleep(failure.retry_after().unwrap_or_default()).await;
        Ok(false)
    }

    pub(super) fn name(&self, id: u64) -> String {
        self.ids[usize::try_from(id).unwrap()].to_string()
    }
}

/// A moment later, but not for ever.
async fn again(attempts: &mut usize) -> Checked {
    *attempts += 1;
    sleep(Duration::from_millis(5)).await;
    if *attempts < ATTEMPTS { Ok(()) } else { Err("nobody gets an answer".to_owned()) }
}
