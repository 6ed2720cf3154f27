//! A place for a sibling in the same process.

use std::sync::{Arc, OnceLock};

use crate::Stacked;

/// Empty until the sibling is up, then its service with all its layers.
#[derive(Clone)]
pub struct LocalSlot(Arc<Slot>);

struct Slot {
    name: String,
    service: OnceLock<Stacked>,
}

impl LocalSlot {
    /// An empty place for the service `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(Arc::new(Slot { name: name.to_owned(), service: OnceLock::new() }))
    }

    /// The service's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The sibling is up. Only the first one counts.
    pub fn fill(&self, service: Stacked) {
        let _ = self.0.service.set(service);
    }

    pub(super) fn get(&self) -> Option<&Stacked> {
        self.0.service.get()
    }
}

impl std::fmt::Debug for LocalSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalSlot({}, {})", self.0.name, if self.get().is_some() { "up" } else { "empty" })
    }
}
