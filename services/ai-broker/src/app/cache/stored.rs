//! An answer as it is kept.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use prost::Message as _;
use weir_proto::broker::v1::Accounting;

use crate::domain::cache::marked;
use crate::domain::sealing::{Name, Seal};

/// A whole answer; of a stream, all of its chunks.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Stored {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) body: Bytes,
    #[prost(string, tag = "2")]
    pub(super) content_type: String,
    /// What was said of it.
    #[prost(message, optional, tag = "3")]
    pub(super) accounting: Option<Accounting>,
    /// When it was answered, in milliseconds since 1970.
    #[prost(int64, tag = "4")]
    answered: i64,
}

impl Stored {
    pub(super) fn new(body: Bytes, content_type: String, accounting: Accounting, now: DateTime<Utc>) -> Self {
        // What was left of limits is of no use later.
        let accounting = Accounting { rate_limits: Vec::new(), ..accounting };
        Self { body, content_type, accounting: Some(accounting), answered: now.timestamp_millis() }
    }

    /// With a mark that it was kept, where its body has a place for one.
    pub(super) fn marked(self) -> Self {
        let body = marked(&self.body).map_or(self.body, Bytes::from);
        Self { body, ..self }
    }

    pub(super) fn len(&self) -> usize {
        self.body.len()
    }

    pub(super) fn age(&self, now: DateTime<Utc>) -> Duration {
        Duration::from_millis(u64::try_from(now.timestamp_millis() - self.answered).unwrap_or(0))
    }

    /// For the store; none if the system gave no randomness.
    pub(super) fn sealed(&self, seal: &Seal, name: &Name) -> Option<Vec<u8>> {
        seal.close(name, &self.encode_to_vec())
    }

    /// What was stored under this name; none if it can't be opened.
    pub(super) fn open(seal: &Seal, name: &Name, sealed: Vec<u8>) -> Option<Self> {
        Self::decode(Bytes::from(seal.open(name, sealed)?)).ok()
    }
}
