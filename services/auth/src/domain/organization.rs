//! Tenants.

use chrono::{DateTime, Utc};
use weir_types::OrganizationId;

use super::DisplayName;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Organization {
    /// Its id.
    pub(crate) id: OrganizationId,
    /// Its name for people.
    pub(crate) display_name: DisplayName,
    /// When it was created.
    pub(crate) created: DateTime<Utc>,
}
