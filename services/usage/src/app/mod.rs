//! One file per use case.

mod feed;
mod list_events;
mod query_usage;
mod record;
mod scan_events;
mod watch_changes;
mod writer;

pub use feed::Feed;
pub use list_events::{ListEvents, list_events};
pub use query_usage::{QueryUsage, query_usage};
pub use record::{Answer, Recorder};
pub use scan_events::scan_events;
pub use watch_changes::{Progress, watch_changes};
pub use writer::Writer;
