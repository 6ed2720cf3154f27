//! The generation of a store's data.

use crate::domain::Millis;
use crate::storage::redis::Scripts;

use super::{Failure, Result};

/// A generation: as long as it lasts, the store has lost nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// Its number.
    pub number: u64,
    /// The server that it belongs to.
    pub server: String,
    /// Since when, in milliseconds before now.
    pub age: Millis,
    /// Whether there was one before it, whose live leases must be announced again.
    pub rebuilds: bool,
}

/// A generation that operations are asked for in; the store refuses those of any other.
#[derive(Debug)]
pub struct InForce {
    number: u64,
    /// Of Redis alone.
    scripts: Option<Scripts>,
}

impl InForce {
    pub(super) const fn with_scripts(scripts: Scripts) -> Self {
        Self { number: scripts.generation, scripts: Some(scripts) }
    }

    pub(super) const fn without_scripts(number: u64) -> Self {
        Self { number, scripts: None }
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn scripts(&self) -> Result<&Scripts> {
        self.scripts.as_ref().ok_or(Failure::OtherGeneration)
    }
}
