//! Loading counters from Postgres into the fast store.

use super::Quota;
use super::epochs::Epoch;
use super::reserve::ATTEMPTS;
use crate::domain::{Demand, Kind, Millis, Part};
use crate::error::{Error, Result};
use crate::storage::counters::{self, Total, Wanted};
use crate::storage::store::{Failure, InstallEntry, InstallSubject};
use weir_types::OrganizationId;

impl Quota {
    /// Loads the counters of a demand's subjects. Whether that worked shows when the store is asked again: the generation may
    /// have changed, or the store may have been emptied, in between.
    pub(super) async fn warm(&self, organization: &OrganizationId, epoch: &Epoch, demand: &Demand<'_>) -> Result<()> {
        let mut key = epoch.number().to_le_bytes().to_vec();
        demand.parts.iter().for_each(|part| key.extend(part.value.field()));
        // Boxed: every request's future would be as large as this one, which few come to.
        let load = Box::pin(async {
            for _ in 0..ATTEMPTS {
                if self.load(organization, epoch, demand).await? {
                    return Ok(());
                }
            }
            Err(Error::Unsettled("counters are settled while they are loaded"))
        });
        self.warming.run((*organization, key), load).await
    }

    /// False if a settlement came in between that what was read may lack.
    async fn load(&self, organization: &OrganizationId, epoch: &Epoch, demand: &Demand<'_>) -> Result<bool> {
        // In this order: if the store is emptied after the fence was taken, the fence is gone when the counters are installed; if
        // before, the generation is another one.
        let fence = self.store.fence(organization).await?;
        if self.epochs.verify().await?.number() != epoch.number() {
            return Ok(true);
        }
        // The store's time, not this process's: a counter that is put into a period that has not begun would stay in it.
        let now = match self.store.read(&epoch.store, organization, demand).await {
            Ok(reading) => reading.at,
            Err(Failure::OtherGeneration) => return Ok(true),
            Err(failure) => return Err(failure.into()),
        };
        let wanted: Vec<Wanted> = demand.parts.iter().flat_map(|part| wanted(part, now)).collect();
        let totals = if wanted.is_empty() {
            Vec::new()
        } else {
            self.epochs.read_for(epoch).await?;
            let load = async {
                let mut transaction = self.database.begin_tenant(*organization).await?;
                let totals = counters::load(&mut transaction, organization, &wanted).await?;
                transaction.commit().await.map_err(weir_database::Error::from)?;
                Ok::<_, weir_database::Error>(totals)
            };
            self.database.bounded(load).await?
        };
        let subjects: Vec<InstallSubject> = demand.parts.iter().map(|part| subject(part, &totals, now)).collect();
        match self.store.install(&epoch.store, organization, &fence, &subjects).await {
            Err(Failure::OtherGeneration) => Ok(true),
            installed => Ok(installed?),
        }
    }
}

/// The rows that the counters of a part are made of.
fn wanted(part: &Part<'_>, now: Millis) -> Vec<Wanted> {
    let subject = part.value.text();
    let durable = part.scope.windows.iter().filter(|limit| limit.durable);
    durable
        .map(|limit| {
            let (from, to) = match limit.limit.window.kind() {
                Kind::Rolling(length) => (now - length + 1, Millis::MAX),
                _ => (limit.period(now).start, Millis::MAX),
            };
            Wanted { limit: limit.id, subject: subject.clone(), from, to }
        })
        .collect()
}

pub(super) fn subject(part: &Part<'_>, totals: &[Total], now: Millis) -> InstallSubject {
    let text = part.value.text();
    let mut last = 0;
    let entries = part.scope.windows.iter().map(|limit| {
        let of = || totals.iter().filter(|total| total.limit == limit.id && total.subject == text);
        let entry = match limit.limit.window.kind() {
            Kind::Rolling(_) => InstallEntry::Rolling(of().map(|total| (total.period, total.committed)).collect()),
            _ => {
                let here = limit.period(now);
                // What has begun stays begun, even if the clock has gone back to before it: the store that knew so may be gone.
                let later = of().rfind(|total| total.period > now && limit.period(total.period).start == total.period);
                let total = later.or_else(|| of().find(|total| total.period == here.start));
                let period = total.map_or(here, |total| limit.period(total.period));
                last = last.max(period.end);
                let (committed, version) = total.map_or((0, 0), |total| (total.committed, total.version));
                InstallEntry::Period(period.start, committed, version)
            }
        };
        (limit.id, limit.durable, entry)
    });
    let entries = entries.collect();
    let last = last.max(now + 2 * part.scope.rolling);
    let sweep_after = if part.scope.lifetime { -1 } else { last };
    InstallSubject { value: part.value.clone(), layout: part.scope.layout, sweep_after, entries }
}
