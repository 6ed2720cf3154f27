//! Writes the soft alerts that are due, off the hot path.
//!
//! While Postgres does not answer, alerts wait in a bounded queue; what does not fit is counted and found due again by the next
//! reservation.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ::metrics::counter;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use weir_database::Database;
use weir_types::OrganizationId;

use super::Quota;
use super::shared::Asks;
use crate::domain::{Demand, LimitId, Millis, Recurrence, Subject};
use crate::error::Result;
use crate::storage::alerts::{self, Fired, NewAlert};

/// Percentages of one counter that may be due.
#[derive(Debug, Clone)]
pub(super) struct Due {
    pub(super) organization: OrganizationId,
    pub(super) limit: LimitId,
    pub(super) subject: String,
    pub(super) percents: Vec<u8>,
    pub(super) recurrence: Recurrence,
    pub(super) cap: i64,
    pub(super) used: i64,
    pub(super) held: i64,
    /// The highest percentage that use has reached; those above it are due because of a refusal.
    pub(super) reached: u8,
    pub(super) at: Millis,
}

/// Writes them.
pub(super) struct Writer {
    pub(super) due: mpsc::Receiver<Due>,
    pub(super) database: Database,
}

/// The most of one transaction.
const BATCH: usize = 256;
/// Between attempts, while Postgres does not answer.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

impl Writer {
    /// Writes what is handed in; at the end what is left, as far as Postgres answers.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let received = tokio::select! {
                received = self.due.recv_many(&mut batch, BATCH) => received,
                () = shutdown.cancelled(), if !self.due.is_closed() => {
                    self.due.close();
                    continue;
                }
            };
            if received == 0 {
                return;
            }
            self.write(&unique(&batch), &shutdown).await;
            batch.clear();
        }
    }

    async fn write(&self, alerts: &[NewAlert], shutdown: &CancellationToken) {
        let mut pauses = PAUSES.iter();
        loop {
            match self.fire(alerts).await {
                Ok(fired) => return fired.iter().for_each(tell),
                Err(error) if error.is_transient() && !shutdown.is_cancelled() => {
                    let pause = pauses.next().or(PAUSES.last()).copied().unwrap_or_default();
                    shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
                }
                // One that can't be written must not keep the others from it.
                Err(error) if alerts.len() > 1 && !error.is_transient() => {
                    for alert in alerts {
                        Box::pin(self.write(std::slice::from_ref(alert), shutdown)).await;
                    }
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, alerts = alerts.len(), "soft alerts were not written");
                    counter!("weir_quota_alerts_dropped_total").increment(alerts.len() as u64);
                    return;
                }
            }
        }
    }

    async fn fire(&self, alerts: &[NewAlert]) -> Result<Vec<Fired>> {
        let fire = async {
            let mut transaction = self.database.begin().await?;
            let fired = alerts::fire(&mut transaction, alerts).await?;
            transaction.commit().await.map_err(weir_database::Error::from)?;
            Ok(fired)
        };
        self.database.bounded(fire).await
    }
}

/// One alert for each percentage, none of them twice: the first one counts.
fn unique(due: &[Due]) -> Vec<NewAlert> {
    let mut seen = HashSet::new();
    let mut alerts = Vec::new();
    for due in due {
        for percent in due.percents.iter().copied() {
            let period = match due.recurrence {
                Recurrence::Period(period) => period.start,
                Recurrence::Quiet(_) => 0,
            };
            if seen.insert((due.organization, due.limit, due.subject.as_str(), percent, period)) {
                alerts.push(NewAlert {
                    organization: due.organization,
                    limit: due.limit,
                    subject: due.subject.clone(),
                    percent,
                    recurrence: due.recurrence,
                    cap: due.cap,
                    used: due.used,
                    held: due.held,
                    refused: percent > due.reached,
                    at: due.at,
                });
            }
        }
    }
    alerts
}

fn tell(alert: &Fired) {
    let (limit, unit, scope) = &alert.limit;
    counter!("weir_quota_alerts_total", "percent" => alert.percent.to_string()).increment(1);
    tracing::warn!(
        organization = %alert.organization,
        limit,
        scope,
        subject = alert.subject,
        percent = alert.percent,
        used = alert.used,
        held = alert.held,
        cap = alert.cap,
        unit,
        refused = alert.refused,
        "a limit is used up to an alert's percentage"
    );
}

impl Quota {
    /// Reads the counters of subjects that were charged more than was reserved: a commit does not answer them.
    pub(super) async fn look_for_alerts(
        self: Arc<Self>,
        mut looks: mpsc::Receiver<Subject>,
        shutdown: CancellationToken,
    ) {
        while let Some(Some(subject)) = shutdown.run_until_cancelled(looks.recv()).await {
            if let Some(Err(error)) = shutdown.run_until_cancelled(self.look_at(&subject)).await {
                // The next reservation sees the same.
                tracing::debug!(%error, "counters could not be read for alerts");
            }
        }
    }

    async fn look_at(&self, subject: &Subject) -> Result<()> {
        let plan = self.plan_of(subject).await?;
        let read = self.read(subject, false, &Asks::default(), |now| Demand::nothing(&plan, subject, now)).await?;
        let demand = Demand::nothing(&plan, subject, read.at);
        self.alerts.read(&subject.organization, &demand, &read.limits, read.at);
        Ok(())
    }
}
