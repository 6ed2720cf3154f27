//! Telling receivers that jobs have ended: again and again, ever later, until they say that they know.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use weir_database::Error;

use super::Jobs;
use super::webhooks::Message;
use crate::domain::jobs::backoff;
use crate::storage::jobs::deliveries::{self, Delivery, Sent};

/// Beyond a webhook's own time: nobody else sends it meanwhile.
const SLACK: Duration = Duration::from_secs(10);
/// How often is looked for those that are due.
const LOOK: Duration = Duration::from_millis(250);

impl Jobs {
    /// Sends them until the shutdown. What is under way then is sent again by another broker, under the same id.
    pub(super) async fn deliver_webhooks(self: Arc<Self>) {
        let most = self.webhooks.options.concurrency;
        loop {
            let claimed = self.database.bounded(self.claim_webhooks(most)).await.unwrap_or_default();
            let full = claimed.len() == most;
            let sending = futures::stream::iter(claimed).for_each_concurrent(most, |delivery| {
                let jobs = Arc::clone(&self);
                async move { jobs.deliver(delivery).await }
            });
            if self.stop.run_until_cancelled(sending).await.is_none() {
                return;
            }
            if !full && self.stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
                return;
            }
        }
    }

    async fn claim_webhooks(&self, most: usize) -> Result<Vec<Delivery>, Error> {
        let mut tx = self.database.begin().await?;
        let claimed = deliveries::claim(&mut tx, most, self.webhooks.options.timeout + SLACK).await?;
        tx.commit().await?;
        Ok(claimed)
    }

    async fn deliver(&self, delivery: Delivery) {
        let Ok(secrets) = self.secrets(delivery.organization()).await else { return };
        let id = format!("msg_{}", delivery.delivery_id);
        let body = bytes::Bytes::from(delivery.payload.clone());
        let now = self.broker.clock.now();
        let result = self.webhooks.send(Message { url: &delivery.url, id: &id, body, secrets: &secrets, now }).await;
        let tries = u16::try_from(delivery.attempts).unwrap_or(u16::MAX);
        let (sent, message) = match result {
            Ok(status) => {
                self.metrics.webhooks_received.increment(1);
                (Sent::Received, status.to_string())
            }
            Err(failed) if tries < self.webhooks.options.max_attempts => {
                self.metrics.webhooks_again.increment(1);
                let [.., jitter] = *delivery.delivery_id.as_bytes();
                let wait = backoff(self.webhooks.options.backoff, tries, jitter);
                (Sent::Again(wait.max(failed.retry_after.unwrap_or_default())), failed.error.message)
            }
            Err(failed) => {
                self.metrics.webhooks_given_up.increment(1);
                tracing::warn!(delivery = %delivery.delivery_id, tries, "a webhook was given up");
                (Sent::GivenUp, failed.error.message)
            }
        };
        let write = async {
            let mut tx = self.database.begin().await?;
            deliveries::ended(&mut tx, &delivery, sent, &message).await?;
            tx.commit().await.map_err(Error::from)
        };
        // If it can't be written it is sent again, and the receiver knows its id.
        drop(self.database.bounded(write).await);
    }
}
