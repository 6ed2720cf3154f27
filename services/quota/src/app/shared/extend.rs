//! Leases of reservations that hold something of limits across tenants.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use weir_types::ReservationId;

use super::{Account, Shared};
use crate::domain::Handle;
use crate::domain::handle::{HandleShared, SharedCounter};
use crate::domain::shared::{Ended, Ending};
use crate::error::{Error, Result};

impl Shared {
    /// Keeps the seats of a call that is under way.
    pub(in crate::app) async fn extend(&self, handle: &Handle, lease: Duration) -> Result<()> {
        let mut told = Vec::new();
        for (_, counter) in handle.across().filter(|(_, counter)| counter.at.is_none()) {
            if let Some(seats) = self.known_seats(&counter.account).await? {
                told.push(self.extend_seat(&seats, handle.reservation, lease));
            }
        }
        try_join_all(
            told.into_iter().map(|told| self.until_gone(async { told.await.unwrap_or(Err(Error::Stopping)) })),
        )
        .await?;
        Ok(())
    }

    /// Counts a reservation again that the store may have lost. Doing it again changes nothing.
    pub(in crate::app) async fn announce(&self, handle: &Handle, lease: Duration) -> Result<()> {
        let accounts = self.accounts_of(handle).await?;
        for (account, part, counter) in &accounts {
            let place = counter.place(account.known().limit.limit.window.kind(), part.taken_at);
            let entry = part.entry(handle.reservation);
            account.slice.lock().announce(entry, counter.amount, place, part.holder, part.taken_at);
        }
        let announced = accounts.iter().map(|(account, part, _)| async {
            // One message does not take them all.
            loop {
                self.refresh(account).await?;
                if !account.slice.lock().is_unannounced(&part.entry(handle.reservation)) {
                    return Ok::<_, Error>(());
                }
            }
        });
        try_join_all(announced).await?;
        self.extend(handle, lease).await
    }

    /// What was announced turns out to be settled.
    pub(in crate::app) async fn withdraw_announced(&self, handle: &Handle) -> Result<()> {
        let id: ReservationId = handle.reservation;
        let mut endings = Vec::new();
        for (part, counter) in handle.across() {
            let limit = self.dictionary.keys(&[counter.account.limit]).await?;
            let ended = counter.at.is_some().then(|| Ended {
                id: part.entry(id),
                holder: part.holder,
                reserved: counter.amount,
                actual: 0,
                before: 0,
                ending: Ending::Released,
                written_in: None,
                place: counter.place(limit[0].kind, part.taken_at),
                reserved_at: part.taken_at,
                total: (0, 0),
            });
            endings.push(super::apply::Ending { id, account: counter.account.clone(), ended });
        }
        match self.apply(endings).await.remove(&id) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    async fn accounts_of<'a>(
        &self,
        handle: &'a Handle,
    ) -> Result<Vec<(Arc<Account>, &'a HandleShared, &'a SharedCounter)>> {
        let mut accounts = Vec::new();
        for (part, counter) in handle.across().filter(|(_, counter)| counter.at.is_some()) {
            if let Some(account) = self.known_account(&counter.account).await? {
                accounts.push((account, part, counter));
            }
        }
        Ok(accounts)
    }
}
