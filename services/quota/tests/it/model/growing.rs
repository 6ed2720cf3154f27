//! A client whose reservation turns out to need more.

use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::*;
use weir_quota::domain::Millis;

use super::client::{Checked, Play};
use super::history::SLOTS;
use super::reference::{Amounts, Fate, Reference};
use super::wire::{context, duration, is_lost, list, outcome, refusing, states};
use crate::house::open;

/// So much more of each unit, or less of one.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) slot: usize,
    pub(super) more: &'a Amounts,
    pub(super) less: bool,
    pub(super) lease: Millis,
}

/// What it shall hold.
struct Growth {
    id: u64,
    whole: Amounts,
    lease: Millis,
}

impl Play<'_> {
    /// So much more of each unit, or less of one; answers whether there was an answer.
    pub(super) async fn grow(&mut self, asked: Asked<'_>, engine: usize, first: bool) -> Checked<bool> {
        let Asked { slot, more, less, lease } = asked;
        let Some(slot) = self.live(slot) else { return Ok(true) };
        let Some((id, amounts, handle)) = self.known(slot) else { return Ok(true) };
        // Nothing grows in the millisecond in which it was made. Whoever asks again may be told that it has grown just now.
        let now = self.reference().now();
        let is_new = |world: &Reference| world.made.get(&id).is_none_or(|made| made.at == now);
        if first && self.worlds().iter().any(is_new) {
            return Ok(true);
        }
        let mut whole = amounts;
        for (unit, amount) in more {
            *whole.entry(unit).or_default() += amount;
        }
        if less && let Some(amount) = whole.values_mut().find(|amount| **amount > 0) {
            *amount -= 1;
        }
        if whole.is_empty() {
            // That is no growth.
            return Ok(true);
        }
        let lengthened = LeaseExtension {
            reservation_id: self.name(id),
            handle,
            lease: duration(lease),
            context: context(id),
            amounts: list(&whole),
        };
        let answer = open(self.client(engine).await.extend(ExtendRequest { leases: vec![lengthened] }).await);
        let growth = Growth { id, whole, lease };
        match answer {
            Ok(answer) => self.grown(slot, &growth, answer).map(|()| true),
            Err(failure) if is_lost(&failure) => {
                self.observe(|world| {
                    let after = growth.lengthened(world).0;
                    let grown = after.grow_unseen(growth.id, &growth.whole, growth.lease);
                    Ok([vec![world.clone(), after], grown].concat())
                })?;
                Ok(false)
            }
            Err(failure) => match failure.reason() {
                // Its lease is lengthened all the same.
                ErrorReason::Rebuilding => {
                    self.observe(|world| Ok(vec![growth.lengthened(world).0]))?;
                    self.wait(&failure).await
                }
                ErrorReason::BudgetExhausted | ErrorReason::QuotaExceeded => {
                    let names: Vec<&str> = self.reference().plan().iter().map(|(limit, _)| limit.name).collect();
                    let states = refusing(&failure, &names);
                    self.observe(|world| {
                        let after = growth.lengthened(world).0;
                        after.refuse_growth(growth.id, &growth.whole, &states)?;
                        Ok(vec![after])
                    })?;
                    Ok(true)
                }
                ErrorReason::InvalidArgument => {
                    self.observe(|world| {
                        let holds = &world.made[&growth.id].amounts;
                        let is_less = |(unit, amount): (&&str, &i64)| holds.get(unit).is_some_and(|held| amount < held);
                        if growth.whole.iter().any(is_less) {
                            Ok(vec![growth.lengthened(world).0])
                        } else {
                            Err(format!("it holds no more than {holds:?}: {failure}"))
                        }
                    })?;
                    Ok(true)
                }
                _ => Err(failure.to_string()),
            },
        }
    }

    /// One of the reservations that are not settled: what is, does not grow, and one in a few is enough to see that.
    pub(super) fn live(&self, number: usize) -> Option<usize> {
        let is_held = |slot: &usize| {
            let held = self.known(*slot).and_then(|(id, ..)| self.reference().made.get(&id));
            held.is_some_and(|made| made.fate == Fate::Held)
        };
        let live: Vec<usize> = (0..SLOTS).filter(|slot| self.has(*slot) && is_held(slot)).collect();
        if number == 0 || live.is_empty() { self.slot(number) } else { live.get(number % live.len()).copied() }
    }

    fn grown(&mut self, slot: usize, growth: &Growth, answer: ExtendResponse) -> Checked {
        let said = outcome(&answer.outcomes);
        let (known, limits) = (self.handle(growth.id), answer.grown.as_ref().map(|grown| states(&grown.limits)));
        let grown = answer.grown.map(|grown| grown.handle);
        self.observe(|world| {
            let (after, expected) = growth.lengthened(world);
            if said != expected {
                return Err(format!("{said} instead of {expected}"));
            }
            let Some(handle) = &grown else {
                let is_settled = expected == "settled";
                return if is_settled { Ok(vec![after]) } else { Err("held, and no handle".to_owned()) };
            };
            let is_known = known.as_ref() == Some(handle);
            if expected == "settled" {
                return Err("it has ended, and grew".to_owned());
            }
            // All that it asks for it holds already.
            if after.made[&growth.id].amounts == growth.whole {
                let nothing = world.made[&growth.id].amounts == growth.whole && known.is_some();
                return if nothing && !is_known { Err("grew by nothing".to_owned()) } else { Ok(vec![after]) };
            }
            if is_known {
                return Err("it holds more, and has the same handle".to_owned());
            }
            after
                .grow(growth.id, &growth.whole, growth.lease, limits.as_deref().unwrap_or_default())
                .map(|after| vec![after])
        })?;
        if let Some(handle) = grown {
            self.learn(slot, &growth.whole, handle);
        }
        Ok(())
    }
}

impl Growth {
    /// Its lease is lengthened first; answers what that comes to.
    fn lengthened(&self, world: &Reference) -> (Reference, &'static str) {
        let mut after = world.clone();
        let outcome = after.extend(self.id, self.lease);
        (after, outcome)
    }
}
