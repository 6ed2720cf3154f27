//! Status: what is held, and whether the counters are what they must be.
//!
//! Two comparisons: the totals in Postgres with the settlements that they are made of; the counters of the fast store with those
//! totals and with the reservations that it holds.

use std::collections::HashMap;
use std::time::Duration;

use futures::TryStreamExt as _;
use tokio::time::sleep;
use weir_types::OrganizationId;

use super::Quota;
use super::shared::{Disagreements, HeldAcross, nobody};
use crate::domain::{Entry, Handle, Kind, LimitId, Millis, Value};
use crate::error::Result;
use crate::storage::counters::{self, Wanted};
use crate::storage::store::Contents;
use crate::storage::{epochs, settlements};

/// The state of the counters.
#[derive(Debug, Default)]
pub struct Status {
    /// Reservations that are not settled.
    pub held: i64,
    /// Of those, the expired ones.
    pub expired: i64,
    /// The generation of the fast store.
    pub epoch: u64,
    /// Counters that were compared.
    pub counters: i64,
    /// Counters that are not what they must be.
    pub drifts: Vec<Drift>,
    /// Settlements from before this time may have been deleted.
    pub settlements_kept_since: Millis,
}

/// A counter that is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Whose.
    pub organization: OrganizationId,
    /// The limit's name.
    pub limit: String,
    /// The subject.
    pub subject: String,
    /// What the counter says.
    pub counter: i64,
    /// What it must be.
    pub expected: i64,
    /// Whether it is a total in Postgres.
    pub(super) stored: bool,
}

impl Drift {
    /// Whether it is of a limit across tenants, in the fast store.
    fn is_across(&self) -> bool {
        self.organization == nobody() && !self.stored
    }
}

/// By organisation, limit, subject and period.
type Sums = HashMap<(OrganizationId, LimitId, String, Millis), i64>;

/// How often a tenant is read again because settlements are on their way, and how long apart.
const READS: usize = 10;
const PAUSE: Duration = Duration::from_millis(100);

impl Quota {
    /// Compares everything with everything.
    ///
    /// # Errors
    /// When a store did not answer.
    pub async fn status(&self) -> Result<Status> {
        let mut status = Status {
            epoch: self.epochs.verify().await?.number(),
            settlements_kept_since: self.settlements_kept_since(),
            ..Status::default()
        };
        self.compare_totals(&mut status).await?;
        let mut skip = 0;
        loop {
            let tenants = self.store.tenants(skip, 256).await?;
            for tenant in &tenants {
                self.compare_tenant(&tenant.id, &mut status).await?;
            }
            if tenants.len() < 256 {
                break;
            }
            skip += tenants.len();
        }
        if !self.shared.is_empty() {
            self.compare_shared(&mut status).await?;
        }
        Ok(status)
    }

    /// Limits across tenants: what all tenants hold of them against what their accounts hold.
    async fn compare_shared(&self, status: &mut Status) -> Result<()> {
        let mut disagreements = Disagreements::default();
        for _ in 0..READS {
            let mut held = HeldAcross::default();
            let mut skip = 0;
            loop {
                let tenants = self.store.tenants(skip, 256).await?;
                for tenant in &tenants {
                    held.add(&self.store.contents(&tenant.id).await?.held);
                }
                skip += tenants.len();
                if tenants.len() < 256 {
                    break;
                }
            }
            self.shared.compare(&held, &mut disagreements, status).await?;
            if disagreements.is_settled() && !status.drifts.iter().any(|drift| drift.is_across()) {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    fn settlements_kept_since(&self) -> Millis {
        self.now() - i64::try_from(self.config.settlements.retention.as_millis()).unwrap_or(i64::MAX)
    }

    /// The totals against the settlements; in one snapshot, because one statement writes both.
    async fn compare_totals(&self, status: &mut Status) -> Result<()> {
        let retention = self.config.settlements.retention;
        let complete =
            epochs::began_within(self.database.pool(), i64::try_from(retention.as_secs()).unwrap_or(i64::MAX)).await?;
        // What was settled before it is gone, and with it a part of older periods.
        let oldest = self.settlements_kept_since();
        let mut transaction = self.database.begin().await?;
        settlements::snapshot(&mut transaction).await?;
        let expected = self.expected(&mut transaction).await?;
        let totals = counters::all(&mut transaction).await?;
        transaction.commit().await.map_err(weir_database::Error::from)?;
        let mut found = Sums::new();
        for (organization, total) in totals {
            found.insert((organization, total.limit, total.subject, total.period), total.committed);
        }
        let keys: Vec<_> =
            expected.keys().chain(found.keys().filter(|key| !expected.contains_key(*key))).cloned().collect();
        for key in keys {
            let names = self.dictionary.keys(&[key.1]).await?;
            let whole = complete || (names[0].kind != Kind::Lifetime && key.3 > oldest);
            if !whole {
                continue;
            }
            status.counters += 1;
            let (counter, expected) = (found.get(&key).copied().unwrap_or(0), expected.get(&key).copied().unwrap_or(0));
            if counter != expected {
                let (organization, _, subject, _) = key;
                let limit = names[0].name.clone();
                status.drifts.push(Drift { organization, limit, subject, counter, expected, stored: true });
            }
        }
        Ok(())
    }

    /// What the settlements make of the totals.
    async fn expected(&self, connection: &mut sqlx::PgConnection) -> Result<Sums> {
        let mut expected = Sums::new();
        let mut rows = std::pin::pin!(settlements::commits(connection));
        while let Some((handle, amounts)) = rows.try_next().await? {
            let Ok(handle) = Handle::decode(&handle) else { continue };
            let ids: Vec<LimitId> = handle.counters.iter().map(|counter| counter.limit).collect();
            let keys = self.dictionary.keys(&ids).await?;
            for (counter, key) in handle.counters.iter().zip(&keys).filter(|(_, key)| key.is_durable()) {
                let place = counter.place(key.kind, handle.reserved_at);
                let subject = handle.values[counter.value].text();
                let sum = expected.entry((handle.organization, counter.limit, subject, place)).or_default();
                *sum = sum.saturating_add(amounts.get(key.unit.as_str()).copied().unwrap_or(0));
            }
            let ids: Vec<LimitId> = handle.across().map(|(_, counter)| counter.account.limit).collect();
            let keys = self.dictionary.keys(&ids).await?;
            for ((part, counter), key) in handle.across().zip(&keys).filter(|(_, key)| key.is_durable()) {
                if handle.holds_later(part.growth, &counter.account) {
                    continue;
                }
                let place = counter.place(key.kind, part.taken_at);
                let subject = counter.account.value.to_string();
                let sum = expected.entry((nobody(), counter.account.limit, subject, place)).or_default();
                *sum = sum.saturating_add(amounts.get(key.unit.as_str()).copied().unwrap_or(0));
            }
        }
        Ok(expected)
    }

    /// The fast store's counters of one tenant. What differs because a settlement is on its way is read again.
    async fn compare_tenant(&self, id: &OrganizationId, status: &mut Status) -> Result<()> {
        let mut read = 0;
        loop {
            let contents = self.store.contents(id).await?;
            let (compared, drifts) = self.compare(id, &contents).await?;
            read += 1;
            if drifts.is_empty() || read == READS {
                status.held += i64::try_from(contents.held.len()).unwrap_or(i64::MAX);
                status.expired += contents.expired;
                status.counters += compared;
                status.drifts.extend(drifts);
                return Ok(());
            }
            sleep(PAUSE).await;
        }
    }

    async fn compare(&self, id: &OrganizationId, contents: &Contents) -> Result<(i64, Vec<Drift>)> {
        let held = self.held(contents).await?;
        let epoch = self.epochs.current().await?;
        let now = self.store.now(&epoch.store, id).await?;
        let totals = self.totals(id, contents, now).await?;
        let (mut compared, mut drifts) = (0, Vec::new());
        for (value, state) in &contents.subjects {
            for entry in &state.entries {
                let key = &self.dictionary.keys(&[entry.limit]).await?[0];
                let subject = value.text();
                let holds = held.get(&(value, entry.limit, state.generation)).cloned().unwrap_or_default();
                let expected = match (&entry.queue, key.kind) {
                    (Some(queue), Kind::Rolling(length)) if key.is_durable() => {
                        rolling(entry, queue, &holds, &totals, &subject, length, now)
                    }
                    (Some(queue), _) => queue.iter().map(|(_, amount)| amount).sum(),
                    (None, _) => {
                        let held: i64 =
                            holds.iter().filter(|(period, _)| *period == entry.period).map(|(_, n)| n).sum();
                        // Without a total in Postgres the store's own sum is the only one.
                        let total = totals.get(&(entry.limit, subject.clone(), entry.period)).copied();
                        let spent = if key.is_durable() { total.unwrap_or(0) } else { entry.spent };
                        spent + held
                    }
                };
                compared += 1;
                if entry.used() != expected {
                    let (organization, limit) = (*id, key.name.clone());
                    let counter = entry.used();
                    drifts.push(Drift { organization, limit, subject, counter, expected, stored: false });
                }
            }
        }
        Ok((compared, drifts))
    }

    /// What the held reservations hold of each counter, with the period.
    async fn held<'a>(&self, contents: &'a Contents) -> Result<HashMap<(&'a Value, LimitId, u64), Vec<(Millis, i64)>>> {
        let subjects: HashMap<&Value, &Value> = contents.subjects.iter().map(|(value, _)| (value, value)).collect();
        let mut held: HashMap<_, Vec<(Millis, i64)>> = HashMap::new();
        for (id, record) in &contents.held {
            let Ok(handle) = Handle::decode(&record.handle()) else {
                tracing::error!(reservation = %id, "a held reservation can't be read");
                continue;
            };
            let ids: Vec<LimitId> = handle.counters.iter().map(|counter| counter.limit).collect();
            let keys = self.dictionary.keys(&ids).await?;
            for (counter, key) in handle.counters.iter().zip(&keys) {
                let whose = &handle.values[counter.value];
                let Some(whose) = subjects.get(whose).copied() else { continue };
                let place = counter.place(key.kind, handle.reserved_at);
                held.entry((whose, counter.limit, record.generation)).or_default().push((place, counter.amount));
            }
        }
        Ok(held)
    }

    /// The totals of all periods that the store is in.
    async fn totals(
        &self,
        id: &OrganizationId,
        contents: &Contents,
        now: Millis,
    ) -> Result<HashMap<(LimitId, String, Millis), i64>> {
        let mut wanted = Vec::new();
        for (value, state) in &contents.subjects {
            for entry in &state.entries {
                let (from, to) = match (&entry.queue, self.dictionary.keys(&[entry.limit]).await?[0].kind) {
                    (Some(_), Kind::Rolling(length)) => (now - length - slack(length), Millis::MAX),
                    _ => (entry.period, entry.period),
                };
                wanted.push(Wanted { limit: entry.limit, subject: value.text(), from, to });
            }
        }
        let mut transaction = self.database.begin_tenant(*id).await?;
        let totals = counters::load(&mut transaction, id, &wanted).await?;
        transaction.commit().await.map_err(weir_database::Error::from)?;
        Ok(totals.into_iter().map(|total| ((total.limit, total.subject, total.period), total.committed)).collect())
    }
}

/// What is inside a rolling window is not the same for two that look at different moments and count in buckets: so close to its
/// edge nothing is held against anybody.
const fn slack(length: Millis) -> Millis {
    length / 30 + 5_000
}

/// What a rolling counter that Postgres knows must be: as it is, if that fits what is committed and held inside its window.
fn rolling(
    entry: &Entry,
    queue: &[(Millis, i64)],
    holds: &[(Millis, i64)],
    totals: &HashMap<(LimitId, String, Millis), i64>,
    subject: &str,
    length: Millis,
    now: Millis,
) -> i64 {
    let of = |((limit, whose, place), committed): (&(LimitId, String, Millis), &i64)| {
        (*limit == entry.limit && whose == subject).then_some((*place, *committed))
    };
    let expected: Vec<(Millis, i64)> = totals.iter().filter_map(of).chain(holds.iter().copied()).collect();
    let since = |buckets: &[(Millis, i64)], from: Millis| -> i64 {
        buckets.iter().filter(|(place, _)| *place > from).map(|(_, amount)| amount).sum()
    };
    let (certainly, possibly) = (now - length + slack(length), now - length - slack(length));
    // What was counted after the clock went back stands in the newest bucket, which is still to come, and in Postgres at its own
    // time: it may have left the window there long before it leaves the bucket.
    let to_come = since(queue, now + slack(length));
    if since(queue, certainly) - to_come > since(&expected, possibly) {
        since(&expected, possibly)
    } else if since(queue, possibly) < since(&expected, certainly) {
        since(&expected, certainly)
    } else {
        queue.iter().map(|(_, amount)| amount).sum()
    }
}
