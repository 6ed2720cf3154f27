//! What a process says about itself: logs, traces and metrics, with no secret in any of them.
//!
//! Without a collector the spans of the hot path are disabled at their call sites: nothing is formatted, allocated or timed.

mod config;
pub mod context;
mod json;
mod metrics;
mod redact;
mod start;
mod traces;

pub use config::{Config, LogFormat};
pub use redact::redact;
pub use start::{StartError, Telemetry};

/// The commented defaults of the `[telemetry]` section.
pub const DEFAULTS: &str = include_str!("../config.defaults.toml");
