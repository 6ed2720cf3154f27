//! Instants and ids between JSON and the services' messages.

use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use weir_rpc::Error;

/// For a message.
pub(crate) fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0) }
}

/// From a message.
pub(crate) fn instant(time: Option<Timestamp>) -> Option<DateTime<Utc>> {
    let time = time?;
    DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?)
}

/// From a message that always has it.
pub(crate) fn required(time: Option<Timestamp>) -> Result<DateTime<Utc>, Error> {
    instant(time).ok_or_else(|| Error::defect("a service answered without a time"))
}

/// The last part of a resource name: its id.
pub(crate) fn id(name: &str) -> String {
    name.rsplit('/').next().unwrap_or_default().to_owned()
}

/// An id, or nothing for an empty name.
pub(crate) fn optional_id(name: &str) -> Option<String> {
    (!name.is_empty()).then(|| id(name))
}
