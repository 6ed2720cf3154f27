//! A replica's plans and prices meet those of the other replicas, and of the past.

use super::Billing;
use crate::domain::price_file::PriceFile;
use crate::error::{Error, Result};
use crate::storage::{self, Tx, catalogues, prices, subscriptions};

impl Billing {
    /// Since which change of entitlements this replica's catalogue is in force. Publishes plans and prices when it is first
    /// called; the other use cases start here, so that none of them works with what would be refused.
    ///
    /// # Errors
    /// When the database doesn't answer; when a published price was changed; when organisations are on a plan that the
    /// catalogue no longer has.
    pub(crate) async fn publish(&self) -> Result<i64> {
        self.generation.get_or_try_init(|| self.publish_all()).await.copied()
    }

    async fn publish_all(&self) -> Result<i64> {
        let mut tx = self.database.begin().await?;
        // Also keeps other replicas that start now from publishing at the same time.
        subscriptions::lock_clock(&mut tx).await?;
        for file in self.shelf.files() {
            publish_prices(&mut tx, file).await?;
        }
        for (plan, organizations) in subscriptions::plans_in_use(&mut tx).await? {
            if self.catalogue.plan(&plan).is_none() {
                return Err(Error::Bug(format!(
                    "{organizations} organisations are on the plan `{plan}`, which is not among the configured plans ({})",
                    self.catalogue.names()
                )));
            }
        }
        let content = self.catalogue.content();
        let generation = match catalogues::newest(&mut tx).await? {
            Some((generation, newest)) if newest == content => generation,
            _ => {
                let generation = subscriptions::tick(&mut tx).await?;
                catalogues::insert(&mut tx, generation, &content, self.clock.now()).await?;
                generation
            }
        };
        storage::commit(tx).await?;
        Ok(generation)
    }
}

/// A price that was published stays: usage was and will be rated with it. New models may join.
async fn publish_prices(tx: &mut Tx, file: &PriceFile) -> Result<()> {
    for published in prices::published(tx, &file.version).await? {
        let (provider, model) = (&published.provider, &published.model);
        let now = file.prices.iter().find(|price| price.provider == *provider && price.model == *model);
        if !now.is_some_and(|now| published.holds(&now.price)) {
            return Err(Error::Bug(format!(
                "price book `{}` was published with another price for `{model}` of `{provider}`: give the new price a new version",
                file.version
            )));
        }
    }
    Ok(prices::publish(tx, file).await?)
}
