//! Settlements of reservations that turn out to be held otherwise than their handles say: made, or grown, meanwhile.
//!
//! What is charged is charged where the fast store holds it; once it holds it no more, where the row in Postgres says.

use bytes::Bytes;

use super::Quota;
use super::reserve::ATTEMPTS;
use super::settle::{Outcome, Settle, charges};
use crate::domain::Handle;
use crate::error::{Error, Result};
use crate::storage::moves::{self, Move};

impl Quota {
    /// Settles once more what was settled by a handle that is not the last one, until there is no other.
    pub(super) async fn settle_by_the_last_handle(
        &self,
        mut settle: Settle,
        mut outcome: Result<Outcome>,
    ) -> Result<Outcome> {
        let mut was_settled = None;
        for _ in 0..ATTEMPTS {
            match outcome {
                Err(Error::HeldMeanwhile { duplicate }) => {
                    was_settled.get_or_insert(duplicate);
                    settle.handle.clear();
                }
                // Without a handle it was settled as the fast store holds it.
                Err(Error::SettledOtherwise { settled, asked }) if settle.handle.is_empty() => {
                    self.move_charge(&settle, settled, &asked).await?;
                    settle.handle = asked;
                }
                Err(Error::SettledOtherwise { .. }) => settle.handle.clear(),
                outcome => {
                    return outcome.map(|done| Outcome { duplicate: was_settled.unwrap_or(done.duplicate), ..done });
                }
            }
            outcome = self.settle_once(std::slice::from_ref(&settle)).await.pop().unwrap_or(Err(Error::Stopping));
        }
        outcome
    }

    /// What was charged by one handle is charged by the other from now on.
    async fn move_charge(&self, settle: &Settle, settled: Bytes, asked: &Bytes) -> Result<()> {
        let (from, to) = (Handle::decode(&settled)?, Handle::decode(asked)?);
        let one = Move {
            id: settle.id,
            organization: settle.organization,
            from: (settled.to_vec(), charges(&from, &self.keys_of(&from).await?)),
            to: (asked.to_vec(), charges(&to, &self.keys_of(&to).await?)),
        };
        Ok(self.database.bounded(moves::charge(self.database.pool(), &one)).await?)
    }
}
