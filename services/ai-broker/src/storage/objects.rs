//! Object storage: S3 and what is compatible with it (R2, MinIO), or a local folder.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Attribute, ClientOptions, ObjectStore, ObjectStoreExt as _, PutOptions, RetryConfig};
use weir_config::Secret;

/// Where objects lie.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// A folder; made if it is missing.
    Folder(String),
    Bucket(Bucket),
}

/// A bucket of S3's kind.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    pub(crate) name: String,
    /// Empty: Amazon's own.
    pub(crate) endpoint: String,
    pub(crate) region: String,
    pub(crate) access_key_id: Secret,
    pub(crate) secret_access_key: Secret,
}

/// Why an object can't be written, read or deleted.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ObjectError {
    #[error("there is no such object")]
    NotFound,
    /// The store's own words.
    #[error("object storage does not answer: {0}")]
    Unavailable(String),
}

impl From<object_store::Error> for ObjectError {
    fn from(error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::NotFound,
            error => Self::Unavailable(error.to_string()),
        }
    }
}

/// The store; clones share it. Each call has a deadline.
#[derive(Clone)]
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    /// A folder's files have none.
    has_attributes: bool,
    timeout: Duration,
}

impl Objects {
    /// Opens the store; what can't be reached is not noticed before it is used.
    ///
    /// # Errors
    /// The folder can't be made, or the bucket is not well described.
    pub(crate) fn open(place: &Place, timeout: Duration) -> Result<Self, String> {
        let store: Arc<dyn ObjectStore> = match place {
            Place::Folder(folder) => {
                std::fs::create_dir_all(folder).map_err(|error| format!("{folder}: {error}"))?;
                Arc::new(LocalFileSystem::new_with_prefix(folder).map_err(|error| error.to_string())?)
            }
            Place::Bucket(bucket) => Arc::new(open_bucket(bucket, timeout).map_err(|error| error.to_string())?),
        };
        Ok(Self { store, has_attributes: matches!(place, Place::Bucket(_)), timeout })
    }

    /// Writes an object, whole or not at all; over one that is there.
    /// In a bucket it has its type and how long it may be kept, for who reads it there.
    pub(crate) async fn put(
        &self,
        path: &str,
        bytes: Bytes,
        content_type: &'static str,
        public: bool,
    ) -> Result<(), ObjectError> {
        let path = Path::from(path);
        let mut options = PutOptions::default();
        if self.has_attributes {
            let whose = if public { "public" } else { "private" };
            let cache_control = format!("{whose}, max-age=31536000, immutable");
            options.attributes.insert(Attribute::ContentType, content_type.into());
            options.attributes.insert(Attribute::CacheControl, cache_control.into());
        }
        self.within(async { self.store.put_opts(&path, bytes.into(), options).await.map(drop) }).await
    }

    /// Reads an object.
    pub(crate) async fn get(&self, path: &str) -> Result<Bytes, ObjectError> {
        let path = Path::from(path);
        self.within(async { self.store.get(&path).await?.bytes().await }).await
    }

    /// Reads a part of an object.
    pub(crate) async fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let path = Path::from(path);
        self.within(async { self.store.get_range(&path, range).await }).await
    }

    /// Deletes an object; one that is gone is deleted.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), ObjectError> {
        let path = Path::from(path);
        match self.within(async { self.store.delete(&path).await }).await {
            Err(ObjectError::NotFound) => Ok(()),
            done => done,
        }
    }

    async fn within<T>(&self, work: impl Future<Output = object_store::Result<T>>) -> Result<T, ObjectError> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(done) => done.map_err(ObjectError::from),
            Err(_) => Err(ObjectError::Unavailable(format!("no answer within {:?}", self.timeout))),
        }
    }
}

fn open_bucket(bucket: &Bucket, timeout: Duration) -> object_store::Result<impl ObjectStore + use<>> {
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&bucket.name)
        .with_region(&bucket.region)
        .with_access_key_id(bucket.access_key_id.expose())
        .with_secret_access_key(bucket.secret_access_key.expose())
        .with_client_options(ClientOptions::new().with_timeout(timeout).with_allow_http(true))
        .with_retry(RetryConfig { max_retries: 2, retry_timeout: timeout, ..RetryConfig::default() });
    if !bucket.endpoint.is_empty() {
        builder = builder.with_endpoint(&bucket.endpoint);
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_keeps_what_is_put_into_it_until_it_is_deleted() {
        let dir = tempfile::tempdir().expect("a folder");
        let place = Place::Folder(dir.path().join("new/results").display().to_string());
        let objects = Objects::open(&place, Duration::from_secs(5)).expect("opened");
        objects.put("a/b.jpg", Bytes::from_static(b"one"), "image/jpeg", false).await.expect("put");
        objects.put("a/b.jpg", Bytes::from_static(b"two"), "image/jpeg", false).await.expect("put");
        assert_eq!(objects.get("a/b.jpg").await.expect("got"), "two");
        assert_eq!(objects.get_range("a/b.jpg", 1..3).await.expect("got"), "wo");
        for _ in 0..2 {
            objects.delete("a/b.jpg").await.expect("deleted");
        }
        assert!(matches!(objects.get("a/b.jpg").await, Err(ObjectError::NotFound)));
    }
}
