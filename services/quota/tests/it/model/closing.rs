//! What is looked at after each step, announced after a loss, and settled at the end.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;
use weir_proto::quota::v1::*;

use super::client::{ATTEMPTS, Checked, Play};
use super::reference::{Fate, Known, Reference, Who};
use super::wire::{is_lost, states, subject};
use crate::house::open;

impl Play<'_> {
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
            if self.worlds().iter().all(live) {
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
            if self.worlds().iter().all(over) {
                continue;
            }
            // Half of it was released by somebody, say.
            let amounts = self.worlds()[0].made.get(&id).map(|made| made.amounts.clone()).unwrap_or_default();
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
}

/// A moment later, but not for ever.
async fn again(attempts: &mut usize) -> Checked {
    *attempts += 1;
    sleep(Duration::from_millis(5)).await;
    if *attempts < ATTEMPTS { Ok(()) } else { Err("nobody gets an answer".to_owned()) }
}
