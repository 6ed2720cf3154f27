//! The generation of a store's data.

use crate::domain::Millis;
use crate::storage::redis::Scripts;

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
    scripts: Scripts,
}

impl InForce {
    pub(super) const fn with_scripts(scripts: Scripts) -> Self {
        Self { scripts }
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.scripts.generation
    }

    pub(super) const fn scripts(&self) -> &Scripts {
        &self.scripts
    }
}
