//! Names of resources, which must be the caller's own, and pages of lists.

use uuid::Uuid;
use weir_proto::common::v1::ErrorReason;
use weir_rpc::{Error, Principal};
use weir_types::{OrganizationId, PageToken, names, page_size};

use crate::app::jobs::Page;

/// The organisation that is named, which must be the caller's own.
pub(super) fn own(principal: &Principal, name: &str) -> Result<OrganizationId, Error> {
    let organization = names::parse_organization(name).map_err(|error| Error::invalid("parent", error.to_string()))?;
    if organization == principal.organization { Ok(organization) } else { Err(Error::not_found(name)) }
}

/// The same with what of it is named.
pub(super) fn child(principal: &Principal, name: &str, collection: &str) -> Result<(OrganizationId, Uuid), Error> {
    let parts = name.split_once(collection);
    let (parent, id) = parts.ok_or_else(|| Error::invalid("name", format!("must contain `{collection}`")))?;
    let organization = own(principal, parent)?;
    Ok((organization, id.parse().map_err(|_| Error::not_found(name))?))
}

/// The page that is asked for of a list of this name.
pub(super) fn page(list: &str, size: i32, token: &str) -> Result<Page, Error> {
    let size = page_size(size, 50, 1000).map_err(|error| Error::invalid("page_size", error.to_string()))?;
    let before = match token {
        "" => None,
        token => {
            let refused = |message: String| {
                Error::new(ErrorReason::InvalidPageToken, message.clone()).field("page_token", message)
            };
            let cursor = PageToken::decode(list, token).map_err(|error| refused(error.to_string()))?;
            Some(cursor.parse().map_err(|_| refused("the page token names no place".into()))?)
        }
    };
    Ok(Page { before, size })
}

/// The token of the page after the one that ends with `last`.
pub(super) fn next(list: &str, last: Option<Uuid>) -> String {
    last.map(|last| PageToken::encode(list, &last.to_string())).unwrap_or_default()
}
