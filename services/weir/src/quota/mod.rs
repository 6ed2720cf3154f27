//! What a support person asks quota.

mod alerts;
mod explain;
mod json;
mod report;
mod table;
mod times;

pub(crate) use alerts::run as alerts;
pub(crate) use explain::run as explain;
