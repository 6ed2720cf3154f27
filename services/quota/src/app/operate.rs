//! Many operations at once: batches of reservations, and whatever comes on a stream.

use futures::future::join_all;

use super::{Extension, Grown, LeaseOutcome, Outcome, Quota, Request, Reserved, Settle};
use crate::domain::Amounts;
use crate::error::{Error, Result};

/// One operation of a stream.
#[derive(Debug)]
pub enum Operation {
    /// Makes a reservation.
    Reserve(Request),
    /// Lengthens a lease.
    Extend(Extension),
    /// Lengthens a lease, and lets the reservation hold so much in all.
    Grow(Extension, Amounts),
    /// Commits or releases.
    Settle(Settle),
}

/// What an operation did.
#[derive(Debug)]
pub enum Done {
    /// The reservation is held.
    Reserved(Reserved),
    /// What became of the lease, and the generation that it counts in.
    Extended(LeaseOutcome, u64),
    /// What became of a reservation that shall hold more.
    Grown(Grown),
    /// How the reservation ended.
    Settled(Outcome),
}

impl Quota {
    /// Reserves many side by side, each on its own; answers in their order. Those that find no room are refused with
    /// [`Error::Full`].
    pub async fn reserve_many(&self, requests: Vec<Request>) -> Vec<Result<Reserved>> {
        join_all(requests.into_iter().map(|request| self.reserve(request))).await
    }

    /// Carries out one operation.
    ///
    /// # Errors
    /// As the operation's own use case.
    pub async fn operate(&self, operation: Operation) -> Result<Done> {
        match operation {
            Operation::Reserve(request) => Ok(Done::Reserved(self.reserve(request).await?)),
            Operation::Extend(extension) => {
                let (outcomes, epoch) = self.extend(vec![extension]).await?;
                let outcome = outcomes.first().ok_or_else(|| Error::Bug("a lease without an outcome".to_owned()))?;
                Ok(Done::Extended(*outcome, epoch))
            }
            Operation::Grow(extension, amounts) => Ok(Done::Grown(Box::pin(self.grow(extension, amounts)).await?)),
            Operation::Settle(settle) => {
                let outcome = self.settle(vec![settle]).await.pop().unwrap_or(Err(Error::Stopping))?;
                Ok(Done::Settled(outcome))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the future that a function returns.
    const fn size<A, F>(_: &impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_is_held_by_the_thousand_is_small() {
        let reserve = |(quota, request): (&'static Quota, Request)| quota.reserve(request);
        let operate = |(quota, operation): (&'static Quota, Operation)| quota.operate(operation);
        // A rare path that is not boxed costs each of them as much as it takes itself, which may be twenty times this.
        assert!(size(&reserve) <= 2_048 && size(&operate) <= 2_560, "{} {}", size(&reserve), size(&operate));
    }
}
