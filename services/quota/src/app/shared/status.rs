//! Whether the accounts are what they must be: what they hold is what the tenants' reservations hold, and what they count as
//! committed is what Postgres says.

use std::collections::{HashMap, HashSet};

use weir_types::ReservationId;

use super::{Shared, nobody};
use crate::app::status::{Drift, Status};
use crate::domain::shared::AccountKey;
use crate::domain::{Handle, Millis};
use crate::error::Result;
use crate::storage::counters::{self, Wanted};
use crate::storage::store::{AccountContents, Record};

/// What tenants' reservations hold of accounts: the amount, the place, and the generation in which they count.
#[derive(Debug, Default)]
pub(in crate::app) struct HeldAcross(HashMap<AccountKey, HashMap<ReservationId, (i64, Millis, u64)>>);

impl HeldAcross {
    /// Adds what one tenant's reservations hold.
    pub(in crate::app) fn add(&mut self, held: &[(ReservationId, Record)]) {
        for (id, record) in held {
            let Ok(handle) = Handle::decode(&record.handle()) else { continue };
            for (part, counter) in handle.across() {
                let entry = (counter.amount, counter.at.unwrap_or(0), record.generation);
                self.0.entry(counter.account.clone()).or_default().insert(part.entry(*id), entry);
            }
        }
    }
}

/// Reservations that an account and the tenants do not agree on: what goes wrong and stays wrong is the same each time that they are
/// read, what is on its way is not.
#[derive(Debug, Default)]
pub(in crate::app) struct Disagreements(Option<HashSet<(AccountKey, ReservationId)>>);

impl Disagreements {
    /// Whether nothing is left of what was found before.
    pub(in crate::app) fn is_settled(&self) -> bool {
        self.0.as_ref().is_some_and(HashSet::is_empty)
    }
}

impl Shared {
    /// Compares all accounts with what the tenants hold. Read again with the same `disagreements` until they are settled or stay.
    pub(in crate::app) async fn compare(
        &self,
        held: &HeldAcross,
        disagreements: &mut Disagreements,
        status: &mut Status,
    ) -> Result<()> {
        let none = HashMap::new();
        let mut found = HashSet::new();
        status.drifts.retain(|drift| drift.organization != nobody() || drift.stored);
        for (key, _) in self.store.shared_accounts().await? {
            let contents = self.store.shared_contents(&key).await?;
            let theirs = held.0.get(&key).unwrap_or(&none);
            let before = disagreements.0.as_ref();
            let wrong: HashSet<ReservationId> = differing(&contents, theirs)
                .into_iter()
                .filter(|id| before.is_none_or(|before| before.contains(&(key.clone(), *id))))
                .collect();
            let ours: i64 = contents.held.iter().map(|(_, amount)| amount).sum();
            let (mut counter, mut expected) = (contents.held_sum, ours);
            if !wrong.is_empty() {
                let counted =
                    |id: &ReservationId| contents.held.iter().find(|(held, _)| held == id).map_or(0, |(_, n)| *n);
                let wanted = |id: &ReservationId| theirs.get(id).map_or(0, |(amount, ..)| *amount);
                expected += wrong.iter().map(|id| wanted(id) - counted(id)).sum::<i64>();
                let seats = contents.seats.iter().filter(|id| wrong.contains(id)).count();
                counter += i64::try_from(seats).unwrap_or(i64::MAX);
            }
            let total = self.total(&key, &contents).await?;
            expected += total.unwrap_or(contents.spent);
            counter += contents.spent;
            if counter != expected {
                let limit = self.dictionary.keys(&[key.limit]).await?[0].name.clone();
                let subject = key.value.to_string();
                status.drifts.push(Drift { organization: nobody(), limit, subject, counter, expected, stored: false });
            }
            found.extend(wrong.into_iter().map(|id| (key.clone(), id)));
            if disagreements.0.is_none() {
                status.counters += 1;
            }
        }
        disagreements.0 = Some(found);
        Ok(())
    }

    /// The total in Postgres of the period that an account is in, if that is its truth.
    async fn total(&self, key: &AccountKey, contents: &AccountContents) -> Result<Option<i64>> {
        let what = &self.dictionary.keys(&[key.limit]).await?[0];
        if contents.period == 0 || !what.is_durable() || contents.generation == 0 {
            return Ok(None);
        }
        let wanted =
            Wanted { limit: key.limit, subject: key.value.to_string(), from: contents.period, to: contents.period };
        let mut transaction = self.database.begin_tenant(nobody()).await?;
        let totals = counters::load(&mut transaction, &nobody(), &[wanted]).await?;
        transaction.commit().await.map_err(weir_database::Error::from)?;
        Ok(Some(totals.first().map_or(0, |total| total.committed)))
    }
}

/// The reservations that only one side knows, or that they know with different amounts.
fn differing(contents: &AccountContents, theirs: &HashMap<ReservationId, (i64, Millis, u64)>) -> Vec<ReservationId> {
    let counts = |(_, at, generation): &(i64, Millis, u64)| {
        *generation == contents.generation && (contents.period == 0 || *at == contents.period)
    };
    let ours: HashMap<&ReservationId, i64> = contents.held.iter().map(|(id, amount)| (id, *amount)).collect();
    let mut differing: Vec<ReservationId> = Vec::new();
    // An account of seats holds nothing, and seats end by themselves: one without a reservation is wrong, the reverse is not.
    if contents.generation > 0 {
        let missing = theirs.iter().filter(|(id, theirs)| counts(theirs) && ours.get(id) != Some(&theirs.0));
        differing.extend(missing.map(|(id, _)| *id));
        let counted = |id: &&ReservationId| theirs.get(id).is_none_or(|theirs| !counts(theirs));
        differing.extend(ours.keys().copied().filter(counted));
    }
    differing.extend(contents.seats.iter().filter(|id| !theirs.contains_key(id)));
    differing
}
