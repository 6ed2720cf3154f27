//! Pages of lists.

use serde::Deserialize;
use utoipa::IntoParams;

/// A page of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// At most this many; 50 by default, 1,000 at most.
    #[serde(default)]
    pub(crate) page_size: i32,
    /// The `next_page_token` of the page before.
    #[serde(default)]
    pub(crate) page_token: String,
}
