//! The events of an organisation, newest first.

use weir_types::{OrganizationId, PageToken, ReservationId, UserId, page_size};

use crate::domain::Event;
use crate::error::Error;
use crate::storage::{Store, events, events::Place};

/// A page of which list.
#[derive(Debug, Clone)]
pub struct ListEvents {
    /// The tenant.
    pub organization: OrganizationId,
    /// Only of this user.
    pub user: Option<UserId>,
    /// 0 is 50, more than 1,000 is 1,000.
    pub page_size: i32,
    /// Empty for the first page.
    pub page_token: String,
}

/// The events of a page, and the token of the next, empty after the last.
///
/// # Errors
/// When the page token is of another list or the database fails.
pub async fn list_events(store: &Store, list: &ListEvents) -> Result<(Vec<Event>, String), Error> {
    let limit = page_size(list.page_size, 50, 1000)?;
    let identity = format!("usage.ListEvents {} {:?}", list.organization, list.user);
    let before = match list.page_token.as_str() {
        "" => None,
        token => Some(place(&PageToken::decode(&identity, token)?)?),
    };
    let unit = store.begin_tenant(list.organization).await?;
    // One more tells whether there is another page.
    let mut events = events::list(&unit, list.organization, list.user, before.as_ref(), i64::from(limit) + 1).await?;
    unit.commit().await?;
    let more = events.len() > limit as usize;
    events.truncate(limit as usize);
    let next = events
        .last()
        .filter(|_| more)
        .map(|last| PageToken::encode(&identity, &format!("{} {}", last.id, last.source)));
    Ok((events, next.unwrap_or_default()))
}

fn place(cursor: &str) -> Result<Place, weir_types::InvalidPageToken> {
    let (id, source) = cursor.split_once(' ').ok_or(weir_types::InvalidPageToken)?;
    let id: ReservationId = id.parse().map_err(|_| weir_types::InvalidPageToken)?;
    Ok(Place { id, source: source.to_owned() })
}
