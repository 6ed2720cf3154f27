//! The facade: the public REST API.

mod config;
mod credentials;
mod facade;
mod openai;
mod status;

pub use config::{Config, DEFAULTS};

/// The service's name in discovery, tokens and configuration.
pub const NAME: &str = "facade";
