//! Settlements of reservations that hold something of limits across tenants.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::join_all;
use weir_types::ReservationId;

use super::Shared;
use crate::domain::shared::{AccountKey, Ended};
use crate::error::{Error, Result};

/// How a reservation ends in one account; none where it had a seat.
#[derive(Debug)]
pub(in crate::app) struct Ending {
    pub(in crate::app) id: ReservationId,
    pub(in crate::app) account: AccountKey,
    pub(in crate::app) ended: Option<Ended>,
}

impl Shared {
    /// Tells the accounts; answers for which reservations that failed. Doing it again changes nothing that they know.
    pub(in crate::app) async fn apply(&self, endings: Vec<Ending>) -> HashMap<ReservationId, Error> {
        let mut waiting = Vec::with_capacity(endings.len());
        for ending in endings {
            waiting.push((ending.id, self.end(ending).await));
        }
        let told = waiting.into_iter().map(|(id, told)| async move {
            let result = match told {
                Ok(Some(told)) => self.until_gone(async { told.await.unwrap_or(Err(Error::Stopping)) }).await,
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            Some((id, result.err()?))
        });
        join_all(told).await.into_iter().flatten().collect()
    }

    async fn end(&self, ending: Ending) -> Result<Option<tokio::sync::oneshot::Receiver<Result<()>>>> {
        let Some(ended) = ending.ended else {
            let seats = self.known_seats(&ending.account).await?;
            return Ok(seats.map(|seats| self.end_seat(&seats, ending.id)));
        };
        // Of a limit that is not configured any more only the totals in Postgres are kept.
        let Some(account) = self.known_account(&ending.account).await? else { return Ok(None) };
        let told = account.slice.lock().end(ended);
        self.queue(&account);
        Ok(Some(told))
    }

    /// Waits for a message to an account that begins after now.
    pub(super) async fn refresh(&self, account: &Arc<super::Account>) -> Result<()> {
        let mut news = account.news.subscribe();
        let round = account.slice.lock().ask();
        self.queue(account);
        loop {
            {
                let slice = account.slice.lock();
                if slice.over >= round {
                    return match slice.last() {
                        Some(Err(error)) => Err(error.clone()),
                        _ => Ok(()),
                    };
                }
            }
            self.until_gone(async { news.changed().await.map_err(|_| Error::Stopping) }).await?;
        }
    }
}
