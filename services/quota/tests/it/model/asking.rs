//! What a client asks for but growth, and which answers it takes.

use std::collections::BTreeMap;

use bytes::Bytes;
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::*;
use weir_quota::domain::Millis;
use weir_types::names;

use super::client::{Checked, Play, Slot};
use super::history::With;
use super::reference::{Amounts, Fate, Known, Reference, Settled, Who};
use super::wire::{context, duration, is_lost, list, outcome, refusing, states, subject};
use crate::house::open;

impl Play<'_> {
    pub(super) async fn reserve(&mut self, slot: usize, engine: usize) -> Checked<bool> {
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

    /// What a client sends to settle its reservation. Of what the store has lost nobody but the handle says that it has grown.
    pub(super) fn says(&self, slot: &Slot, with: With) -> Option<Bytes> {
        let is_lost = |world: &Reference| {
            let made = world.made.get(&slot.id);
            made.is_some_and(|made| matches!(made.known, Known::Lost(_)))
        };
        match with {
            With::Nothing => None,
            With::Former if !self.worlds().iter().any(is_lost) => slot.former.clone().or_else(|| slot.handle.clone()),
            With::Former | With::Handle => slot.handle.clone(),
        }
    }

    /// A settlement; without a handle as by somebody who knows no more than the id.
    pub(super) async fn settle(
        &mut self,
        id: u64,
        handle: Option<Bytes>,
        asked: &Fate,
        engine: usize,
    ) -> Checked<bool> {
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
                let mut after = world.counted_to_settle(id, bare);
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
                        let counted = world.counted_to_settle(id, bare);
                        for told in [false, true] {
                            let mut after = counted.clone();
                            after.settle(id, asked, told);
                            worlds.push(after);
                        }
                        worlds.push(counted);
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
                        Settled::WasCommitted | Settled::WasTakenOver => ErrorReason::AlreadyExists,
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

    pub(super) async fn extend(&mut self, id: u64, handle: Bytes, lease: Millis, engine: usize) -> Checked<bool> {
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

    pub(super) async fn take_over(&mut self, lease: Millis, engine: usize) -> Checked<bool> {
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
                    let (expected, found) = (world.handed_over(), taken.keys().copied().collect::<Vec<_>>());
                    if expected != found {
                        return Err(format!("took over {found:?} instead of {expected:?}"));
                    }
                    for (id, one) in &taken {
                        if one.amounts != list(&world.made[id].amounts) || one.context != context(*id) {
                            return Err(format!("took over {one:?}"));
                        }
                    }
                    Ok(worlds(world, lease, &[(true, true), (true, false)]))
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
                    let mut all = worlds(world, lease, &[(false, false), (true, false), (true, true)]);
                    all.push(world.clone());
                    Ok(all)
                })?;
                Ok(false)
            }
            Err(failure) => Err(failure.to_string()),
        }
    }

    pub(super) async fn check(&mut self, who: Who, amounts: &Amounts, engine: usize) -> Checked<bool> {
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
}

/// What a take-over may have come to, by what of it was done.
fn worlds(world: &Reference, lease: Millis, done: &[(bool, bool)]) -> Vec<Reference> {
    let mut worlds: Vec<Reference> = Vec::new();
    for &(written, told) in done {
        let mut after = world.clone();
        after.take_over(lease, written, told);
        worlds.push(after);
    }
    worlds
}
