//! Pictures and sounds in object storage: stored by jobs of tenants that want it, read by whoever has their address, deleted when
//! they are old.
//!
//! What holds: nothing is stored for a tenant that has not turned it on, also if that changes meanwhile; an object without a row
//! does not exist, so that all of them are deleted in the end; nobody reads one without its address, and who guesses addresses does
//! not learn which ones there are.

mod expiry;
mod manage;
mod read;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ring::digest::{SHA256, digest};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;
use weir_config::MasterKey;
use weir_database::{Database, Error as DatabaseError};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;
use weir_types::{Clock, OrganizationId};

use crate::domain::results::{Bounds, Kind, Link, Links, Picture, compress, sound};
use crate::storage::objects::{ObjectError, Objects};
use crate::storage::results::{self, NewObject, ResultObject};

pub(crate) use manage::Owned;
pub(crate) use read::{Reading, Served};

/// How results are kept; `config.defaults.toml` says what each means.
#[derive(Debug, Clone)]
pub(crate) struct ResultOptions {
    pub(crate) public_url: String,
    pub(crate) bounds: Bounds,
    pub(crate) threads: usize,
    pub(crate) url_lifetime: Duration,
    pub(crate) retention: Duration,
    pub(crate) look: Duration,
    pub(crate) signing_version: u32,
}

/// Everything about results in this broker.
pub(crate) struct Results {
    objects: Objects,
    database: Database,
    links: Links,
    clock: Arc<dyn Clock>,
    options: ResultOptions,
    /// Pictures take a core and much memory for a moment each.
    threads: Arc<Semaphore>,
    /// Files that are in memory while they are stored.
    in_hand: Arc<Semaphore>,
}

/// What is to be stored.
pub(crate) struct NewResult {
    pub(crate) organization: OrganizationId,
    /// The same for the same thing, however often it is stored.
    pub(crate) id: Uuid,
    pub(crate) bytes: Bytes,
    /// What its maker said; a guess by its content if that says nothing.
    pub(crate) content_type: String,
    pub(crate) public: bool,
}

/// What has been stored.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Stored {
    pub(crate) id: Uuid,
    pub(crate) url: String,
    pub(crate) content_type: String,
    pub(crate) bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) height: Option<u32>,
}

/// Files in memory at once.
const IN_HAND: usize = 16;

impl Results {
    pub(crate) fn new(
        objects: Objects,
        database: Database,
        master: &MasterKey,
        clock: Arc<dyn Clock>,
        options: ResultOptions,
    ) -> Self {
        let links = Links::new(master, options.signing_version);
        let (threads, in_hand) = (Arc::new(Semaphore::new(options.threads)), Arc::new(Semaphore::new(IN_HAND)));
        Self { objects, database, links, clock, options, threads, in_hand }
    }

    /// Room for a file, before it is fetched.
    pub(crate) async fn room(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.in_hand).acquire_owned().await.map_err(Error::defect)
    }

    /// Stores one: pictures are made small first.
    ///
    /// # Errors
    /// The tenant wants nothing stored, it is nothing that is stored, or a store does not answer.
    pub(crate) async fn store(&self, new: NewResult) -> Result<Stored, Error> {
        let NewResult { organization, id, bytes, content_type, public } = new;
        let (bytes, Kind { content_type, extension }, size) = match sound(&content_type, &bytes) {
            Some(kind) => (bytes, kind, None),
            None => {
                let Picture { bytes, kind, width, height } = self.compress(bytes).await?;
                (bytes, kind, Some((width, height)))
            }
        };
        let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        let etag = etag(&bytes);
        let object =
            self.note(NewObject { organization, id, extension, content_type, bytes: length, etag, public }).await?;
        let size_of = |side: fn((u32, u32)) -> u32| size.map(side);
        let stored = Stored {
            id,
            url: self.url(&object),
            content_type: object.content_type.clone(),
            bytes: bytes.len(),
            width: size_of(|(width, _)| width),
            height: size_of(|(_, height)| height),
        };
        self.objects.put(&object.path(), bytes, content_type, public).await.map_err(object_error)?;
        Ok(stored)
    }

    async fn compress(&self, bytes: Bytes) -> Result<Picture, Error> {
        let permit = Arc::clone(&self.threads).acquire_owned().await.map_err(Error::defect)?;
        let bounds = self.options.bounds;
        let done = tokio::task::spawn_blocking(move || {
            let picture = compress(&bytes, bounds);
            drop(permit);
            picture
        });
        let picture = done.await.map_err(Error::defect)?;
        picture.map_err(|message| Error::new(ErrorReason::InvalidArgument, message))
    }

    async fn note(&self, new: NewObject) -> Result<ResultObject, Error> {
        let note = async {
            let mut tx = self.database.begin_tenant(new.organization).await?;
            let object = results::note(&mut tx, &new, self.options.retention).await?;
            tx.commit().await.map_err(DatabaseError::from)?;
            Ok(object)
        };
        let noted = self.database.bounded(note).await.map_err(|error| away(&error))?;
        noted.ok_or_else(turned_off)
    }

    /// Its address, signed unless everybody may read it.
    fn url(&self, object: &ResultObject) -> String {
        let path = object.path();
        let base = self.options.public_url.trim_end_matches('/');
        if object.public {
            return format!("{base}/results/{path}");
        }
        let lifetime = i64::try_from(self.options.url_lifetime.as_secs()).unwrap_or(i64::MAX);
        let expires = self.clock.now().timestamp().saturating_add(lifetime).min(object.expires_at.timestamp());
        let Link { expires, signature } = self.links.sign(&path, expires);
        format!("{base}/results/{path}?expires={expires}&signature={signature}")
    }
}

/// The id of a part of a step's result: in the order of the jobs, and as hard to guess as theirs.
pub(crate) fn result_id(job: Uuid, step: usize, part: usize) -> Uuid {
    let digest = digest(&SHA256, format!("{job}/{step}/{part}").as_bytes());
    let mut bytes = *job.as_bytes();
    // The first 48 bits of a job's id are its time.
    bytes[6..].copy_from_slice(&digest.as_ref()[..10]);
    let builder = uuid::Builder::from_bytes(bytes);
    builder.with_version(uuid::Version::SortRand).with_variant(uuid::Variant::RFC4122).into_uuid()
}

fn etag(bytes: &[u8]) -> String {
    let tag = digest(&SHA256, bytes);
    let hex = tag.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("\"{hex}\"")
}

fn turned_off() -> Error {
    let message = "Nothing is stored for this organisation before it turns that on: PUT /api/v1/result-settings.";
    Error::new(ErrorReason::PermissionDenied, message)
}

fn nothing() -> Error {
    Error::new(ErrorReason::NotFound, "There is nothing at this address.")
}

fn away(error: &DatabaseError) -> Error {
    match error {
        DatabaseError::Unavailable(_) | DatabaseError::Serialization => {
            Error::unavailable("postgres", "results can't be reached").retry_after(Duration::from_secs(1))
        }
        _ => Error::defect(error),
    }
}

fn object_error(error: ObjectError) -> Error {
    match error {
        ObjectError::NotFound => nothing(),
        ObjectError::Unavailable(detail) => {
            tracing::warn!(detail, "object storage fails");
            Error::unavailable("object-storage", "results can't be reached").retry_after(Duration::from_secs(1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_has_an_id_of_its_own_in_the_order_of_the_jobs() {
        let (first, second) = (Uuid::now_v7(), Uuid::from_u128(Uuid::now_v7().as_u128() + (1 << 100)));
        let id = result_id(first, 1, 0);
        assert_eq!(id, result_id(first, 1, 0));
        assert!(id != result_id(first, 0, 1) && id != result_id(first, 1, 1) && id != result_id(second, 1, 0));
        assert!(id < result_id(second, 0, 0) && id.get_version() == Some(uuid::Version::SortRand));
    }
}
