//! What a tenant does with its own results: list, get, delete, and say whether any are kept.

use std::time::Duration;

use uuid::Uuid;
use weir_database::Error as DatabaseError;
use weir_rpc::Error;
use weir_types::OrganizationId;

use super::{Results, away, turned_off};
use crate::app::jobs::Page;
use crate::storage::results::{self, ResultObject, ResultSettings};

/// A result of one's own.
pub(crate) struct Owned {
    pub(crate) object: ResultObject,
    /// Good from now on.
    pub(crate) url: String,
}

impl Results {
    /// One of the tenant's results.
    pub(crate) async fn get(&self, organization: OrganizationId, id: Uuid) -> Result<Owned, Error> {
        let find = async {
            let mut tx = self.database.begin_tenant(organization).await?;
            let object = results::find(&mut tx, organization, id).await?;
            tx.rollback().await?;
            Ok(object)
        };
        let found = self.database.bounded(find).await.map_err(|error: DatabaseError| away(&error))?;
        found.map(|object| self.owned(object)).ok_or_else(|| not_found(organization, id))
    }

    /// A page of the tenant's results, newest first, and whether there are more.
    pub(crate) async fn list(&self, organization: OrganizationId, page: Page) -> Result<(Vec<Owned>, bool), Error> {
        let list = async {
            let mut tx = self.database.begin_tenant(organization).await?;
            let rows = results::list(&mut tx, organization, page.before, i64::from(page.size) + 1).await?;
            tx.rollback().await?;
            Ok(rows)
        };
        let mut rows = self.database.bounded(list).await.map_err(|error: DatabaseError| away(&error))?;
        let size = page.size as usize;
        let more = rows.len() > size;
        rows.truncate(size);
        Ok((rows.into_iter().map(|object| self.owned(object)).collect(), more))
    }

    /// Deletes one: it can't be read any more, and its object goes with the next ones that are old.
    pub(crate) async fn delete(&self, organization: OrganizationId, id: Uuid) -> Result<(), Error> {
        let expire = async {
            let mut tx = self.database.begin_tenant(organization).await?;
            let found = results::expire(&mut tx, organization, id).await?;
            tx.commit().await.map_err(DatabaseError::from)?;
            Ok(found)
        };
        let found = self.database.bounded(expire).await.map_err(|error: DatabaseError| away(&error))?;
        if found { Ok(()) } else { Err(not_found(organization, id)) }
    }

    /// What the tenant has said of its results.
    pub(crate) async fn settings(&self, organization: OrganizationId) -> Result<ResultSettings, Error> {
        let read = async {
            let mut tx = self.database.begin_tenant(organization).await?;
            let settings = results::settings(&mut tx, organization).await?;
            tx.rollback().await?;
            Ok(settings)
        };
        self.database.bounded(read).await.map_err(|error: DatabaseError| away(&error))
    }

    /// Keeps what the tenant says of its results.
    pub(crate) async fn set(&self, organization: OrganizationId, settings: ResultSettings) -> Result<(), Error> {
        let longest = i64::try_from(self.options.retention.as_secs()).unwrap_or(i64::MAX);
        if settings.retention.is_some_and(|retention| !(1..=longest).contains(&retention)) {
            let longest = Duration::from_secs(longest.unsigned_abs());
            return Err(Error::invalid("settings.retention", format!("must be from 1s to {longest:?}")));
        }
        let set = async {
            let mut tx = self.database.begin_tenant(organization).await?;
            results::set(&mut tx, organization, settings).await?;
            tx.commit().await.map_err(DatabaseError::from)
        };
        self.database.bounded(set).await.map_err(|error| away(&error))
    }

    /// Refuses a tenant that wants nothing stored.
    pub(crate) async fn check_enabled(&self, organization: OrganizationId) -> Result<(), Error> {
        if self.settings(organization).await?.enabled { Ok(()) } else { Err(turned_off()) }
    }

    fn owned(&self, object: ResultObject) -> Owned {
        Owned { url: self.url(&object), object }
    }
}

fn not_found(organization: OrganizationId, id: Uuid) -> Error {
    Error::not_found(&format!("organizations/{organization}/results/{id}"))
}
