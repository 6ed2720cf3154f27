//! Reading a result by its address.

use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use weir_database::Error as DatabaseError;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;
use weir_types::OrganizationId;

use super::{Results, away, nothing, object_error};
use crate::domain::results::{Extent, Link, LinkError, Part, extent};
use crate::storage::results::{self, ResultObject};

/// What somebody asks for who has an address.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) organization: OrganizationId,
    /// The address's last part.
    pub(crate) file: String,
    /// None if the address is not signed.
    pub(crate) link: Option<Link>,
    /// The tags of what the reader has already; `*` for any.
    pub(crate) known: Vec<String>,
    pub(crate) part: Option<Part>,
}

/// What he gets.
pub(crate) struct Served {
    pub(crate) object: ResultObject,
    pub(crate) extent: Extent,
    /// Empty if nothing of it was to be read.
    pub(crate) bytes: Bytes,
    /// For how long it may be kept by the reader.
    pub(crate) fresh_for: Duration,
}

impl Results {
    /// Reads one for whoever has its address.
    ///
    /// # Errors
    /// There is none, the address is not signed or has expired, or a store does not answer.
    pub(crate) async fn read(&self, asked: Reading) -> Result<Served, Error> {
        let Reading { organization, file, link, known, part } = asked;
        let path = format!("{organization}/{file}");
        let now = self.clock.now();
        if let Some(link) = &link {
            self.links.check(&path, link, now.timestamp()).map_err(|error| match error {
                LinkError::Expired => Error::new(ErrorReason::NotFound, "The address has expired."),
                LinkError::Forged => nothing(),
            })?;
        }
        // Who guesses an address does not learn whether there is something behind it.
        let object = self.find(organization, &file).await?;
        let object = object.filter(|object| object.path() == path && (object.public || link.is_some()));
        let object = object.ok_or_else(nothing)?;
        let until = link.and_then(|link| DateTime::from_timestamp(link.expires, 0)).unwrap_or(object.expires_at);
        let fresh_for = (until.min(object.expires_at) - now).to_std().unwrap_or_default();
        let extent = extent(&known, part.as_ref(), &object.etag, object.bytes.unsigned_abs());
        let bytes = match &extent {
            Extent::NotModified | Extent::Unsatisfiable => Bytes::new(),
            Extent::Whole => self.objects.get(&path).await.map_err(object_error)?,
            Extent::Part(range) => self.objects.get_range(&path, range.clone()).await.map_err(object_error)?,
        };
        Ok(Served { object, extent, bytes, fresh_for })
    }

    async fn find(&self, organization: OrganizationId, file: &str) -> Result<Option<ResultObject>, Error> {
        let id = file.split('.').next().and_then(|id| id.parse().ok()).ok_or_else(nothing)?;
        let find = async {
            let mut tx = self.database.begin_tenant(organization).await?;
            let object = results::find(&mut tx, organization, id).await?;
            tx.rollback().await?;
            Ok(object)
        };
        self.database.bounded(find).await.map_err(|error: DatabaseError| away(&error))
    }
}
