//! What holders do with their keys. A change is in force here when it is answered, and everywhere within `look`.

use std::time::Duration;

use sqlx::PgConnection;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;
use weir_types::{OrganizationId, ProviderKeyId, names};
use zeroize::Zeroizing;

use super::OwnKeys;
use crate::domain::own_keys::{DataKey, Holder, KeyLimits, KeyView, NotOpened, fault_of_secret, last_four};
use crate::storage::own_keys::change::{self, NewKey, ONE_PER_HOLDER};
use crate::storage::own_keys::read::{self, Seen};

/// A key to store.
pub(crate) struct Asked {
    pub(crate) holder: Holder,
    pub(crate) label: String,
    pub(crate) limits: KeyLimits,
    pub(crate) secret: Zeroizing<String>,
}

/// What becomes of what is told of a key; what is none stays.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    pub(crate) label: Option<String>,
    /// Given what they are.
    pub(crate) limits: LimitChange,
}

/// What becomes of the limits.
#[derive(Debug, Clone, Default)]
pub(crate) struct LimitChange {
    pub(crate) requests_per_minute: Option<Option<i64>>,
    pub(crate) tokens_per_minute: Option<Option<i64>>,
    pub(crate) cost_per_month: Option<Option<weir_types::NanoUsd>>,
}

/// A part of a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    pub(crate) before: Option<ProviderKeyId>,
    pub(crate) size: u32,
}

impl OwnKeys {
    /// Stores a key.
    ///
    /// # Errors
    /// The secret can't be a key; the holder has one of this provider.
    pub(crate) async fn create(&self, asked: Asked) -> Result<KeyView, Error> {
        self.must_be_enabled()?;
        check_secret(&asked.secret)?;
        let Asked { holder, label, limits, secret } = asked;
        let id = ProviderKeyId::new_v7();
        let organization = holder.organization;
        let provider = holder.provider.clone();
        let store = async {
            let mut tx = self.database.begin_tenant(organization).await?;
            let sealed = self.data_key(&mut tx, organization).await?.seal(id, &holder, &secret)?;
            let (label, last_four) = (label.as_str(), last_four(&secret));
            let key = NewKey { id, holder: &holder, label, last_four: &last_four, limits, sealed: &sealed };
            change::insert(&mut tx, key).await?;
            let view = read::get(&mut tx, organization, id).await?;
            tx.commit().await.map_err(weir_database::Error::from)?;
            Ok::<_, Trouble>(view)
        };
        let stored = self.database.bounded(store).await.map_err(|trouble| match trouble {
            Trouble::Database(error) if error.is_conflict(ONE_PER_HOLDER) => {
                let message = format!("there is a key for {provider} already: rotate it, or delete it first");
                Error::new(ErrorReason::AlreadyExists, message)
            }
            trouble => trouble.into(),
        })?;
        self.changed().await;
        stored.ok_or_else(|| Error::defect("a key that was stored is not there"))
    }

    /// One key.
    pub(crate) async fn get(&self, organization: OrganizationId, id: ProviderKeyId) -> Result<KeyView, Error> {
        let get = async {
            let mut tx = self.database.begin_tenant(organization).await?;
            let view = read::get(&mut tx, organization, id).await?;
            tx.rollback().await.map_err(weir_database::Error::from)?;
            Ok::<_, Trouble>(view)
        };
        self.database.bounded(get).await?.ok_or_else(|| not_found(organization, id))
    }

    /// Keys, newest first, and whether there are more.
    pub(crate) async fn list(
        &self,
        organization: OrganizationId,
        seen: Seen,
        page: Page,
    ) -> Result<(Vec<KeyView>, bool), Error> {
        let size = page.size as usize;
        let list = async {
            let mut tx = self.database.begin_tenant(organization).await?;
            let views = read::list(&mut tx, organization, seen, page.before, i64::from(page.size) + 1).await?;
            tx.rollback().await.map_err(weir_database::Error::from)?;
            Ok::<_, Trouble>(views)
        };
        let mut views = self.database.bounded(list).await?;
        let more = views.len() > size;
        views.truncate(size);
        Ok((views, more))
    }

    /// Changes what is told of a key.
    pub(crate) async fn update(
        &self,
        organization: OrganizationId,
        id: ProviderKeyId,
        change: Change,
    ) -> Result<KeyView, Error> {
        self.must_be_enabled()?;
        let update = async {
            let mut tx = self.database.begin_tenant(organization).await?;
            // Nobody else changes it between being read and written.
            crate::storage::own_keys::tick(&mut tx).await?;
            let Some(known) = read::get(&mut tx, organization, id).await? else { return Ok(None) };
            let label = change.label.unwrap_or(known.label);
            let limits = change.limits.of(known.limits);
            change::update(&mut tx, organization, id, &label, limits).await?;
            let view = read::get(&mut tx, organization, id).await?;
            tx.commit().await.map_err(weir_database::Error::from)?;
            Ok::<_, Trouble>(view)
        };
        let updated = self.database.bounded(update).await?.ok_or_else(|| not_found(organization, id))?;
        self.changed().await;
        Ok(updated)
    }

    /// Puts another secret in the place of a key's.
    pub(crate) async fn rotate(
        &self,
        organization: OrganizationId,
        id: ProviderKeyId,
        secret: Zeroizing<String>,
    ) -> Result<KeyView, Error> {
        self.must_be_enabled()?;
        check_secret(&secret)?;
        let rotate = async {
            let mut tx = self.database.begin_tenant(organization).await?;
            let Some(known) = read::get(&mut tx, organization, id).await? else { return Ok(None) };
            let sealed = self.data_key(&mut tx, organization).await?.seal(id, &known.holder, &secret)?;
            if !change::rotate(&mut tx, organization, id, &sealed, &last_four(&secret)).await? {
                return Ok(None);
            }
            let view = read::get(&mut tx, organization, id).await?;
            tx.commit().await.map_err(weir_database::Error::from)?;
            Ok::<_, Trouble>(view)
        };
        let rotated = self.database.bounded(rotate).await?.ok_or_else(|| not_found(organization, id))?;
        self.changed().await;
        Ok(rotated)
    }

    /// Forgets a key and its secret.
    pub(crate) async fn delete(&self, organization: OrganizationId, id: ProviderKeyId) -> Result<(), Error> {
        let delete = async {
            let mut tx = self.database.begin_tenant(organization).await?;
            let deleted = change::delete(&mut tx, organization, id).await?;
            tx.commit().await.map_err(weir_database::Error::from)?;
            Ok::<_, Trouble>(deleted)
        };
        if !self.database.bounded(delete).await? {
            return Err(not_found(organization, id));
        }
        self.changed().await;
        Ok(())
    }

    /// The tenant's data key, which is made when it is first needed.
    async fn data_key(&self, tx: &mut PgConnection, organization: OrganizationId) -> Result<DataKey, Trouble> {
        let masters = self.masters.load_full();
        if let Some(wrapped) = read::data_key(&mut *tx, organization).await? {
            return Ok(masters.unwrap(organization, &wrapped)?);
        }
        change::insert_data_key(&mut *tx, organization, &masters.make(organization)?).await?;
        // Another one may have been first.
        let wrapped = read::data_key(tx, organization).await?.ok_or(NotOpened::Cipher)?;
        Ok(masters.unwrap(organization, &wrapped)?)
    }

    fn must_be_enabled(&self) -> Result<(), Error> {
        if self.enabled {
            return Ok(());
        }
        Err(Error::new(ErrorReason::Unimplemented, "own keys of providers are not taken here"))
    }

    /// In force here before it is answered; the others look themselves.
    async fn changed(&self) {
        if let Err(error) = self.follow().await {
            tracing::debug!(%error, "a changed key is in force a little later");
        }
    }
}

impl LimitChange {
    fn of(self, known: KeyLimits) -> KeyLimits {
        KeyLimits {
            requests_per_minute: self.requests_per_minute.unwrap_or(known.requests_per_minute),
            tokens_per_minute: self.tokens_per_minute.unwrap_or(known.tokens_per_minute),
            cost_per_month: self.cost_per_month.unwrap_or(known.cost_per_month),
        }
    }
}

fn check_secret(secret: &str) -> Result<(), Error> {
    fault_of_secret(secret).map_or(Ok(()), |fault| Err(Error::invalid("secret", fault)))
}

fn not_found(organization: OrganizationId, id: ProviderKeyId) -> Error {
    Error::not_found(&names::provider_key(&organization, &id))
}

/// Why nothing came of it.
#[derive(Debug)]
enum Trouble {
    Database(weir_database::Error),
    Cipher(NotOpened),
}

impl From<weir_database::Error> for Trouble {
    fn from(error: weir_database::Error) -> Self {
        Self::Database(error)
    }
}

impl From<NotOpened> for Trouble {
    fn from(error: NotOpened) -> Self {
        Self::Cipher(error)
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Database(weir_database::Error::Unavailable(_) | weir_database::Error::Serialization) => {
                Self::unavailable("postgres", "own keys can't be reached").retry_after(Duration::from_secs(1))
            }
            Trouble::Database(error) => Self::defect(error),
            Trouble::Cipher(error) => Self::unavailable("own-keys", format!("the tenant's data key: {error}")),
        }
    }
}
