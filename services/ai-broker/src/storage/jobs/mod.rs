//! `broker.jobs` and what belongs to it: small functions that take the transaction.

pub(crate) mod beat;
pub(crate) mod change;
pub(crate) mod claim;
pub(crate) mod deliveries;
pub(crate) mod insert;
pub(crate) mod keep;
pub(crate) mod read;
pub(crate) mod schedules;
pub(crate) mod secrets;
pub(crate) mod submissions;
pub(crate) mod transition;

use uuid::Uuid;
use weir_types::OrganizationId;

/// `broker.jobs.state`.
pub(crate) mod state {
    /// Waits for `due_at`.
    pub(crate) const DELAYED: i16 = 0;
    /// Waits for a broker with room.
    pub(crate) const READY: i16 = 1;
    /// A broker has it.
    pub(crate) const PROCESSING: i16 = 2;
    /// Every step has its result.
    pub(crate) const COMPLETE: i16 = 3;
    /// Dead.
    pub(crate) const FAILED: i16 = 4;
    /// Ended by its client.
    pub(crate) const CANCELLED: i16 = 5;
}

/// Which job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct JobKey {
    pub(crate) organization: OrganizationId,
    pub(crate) job: Uuid,
}

impl JobKey {
    pub(crate) fn new(organization: Uuid, job: Uuid) -> Self {
        Self { organization: organization.into(), job }
    }
}
