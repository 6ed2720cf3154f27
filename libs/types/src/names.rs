//! Resource names (AIP-122): `organizations/{organization}/users/{user}` and their like.

use crate::ids::{ApiKeyId, OrganizationId, ProviderKeyId, UserId};

/// Text that is not a resource name of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a name of the form `{expected}`")]
pub struct NameError {
    /// The form, for instance `organizations/{organization}`.
    pub expected: &'static str,
}

/// `organizations/{organization}`.
#[must_use]
pub fn organization(id: &OrganizationId) -> String {
    format!("organizations/{id}")
}

/// `organizations/{organization}/users/{user}`.
#[must_use]
pub fn user(organization: &OrganizationId, user: &UserId) -> String {
    format!("organizations/{organization}/users/{user}")
}

/// `organizations/{organization}/apiKeys/{api_key}`.
#[must_use]
pub fn api_key(organization: &OrganizationId, api_key: &ApiKeyId) -> String {
    format!("organizations/{organization}/apiKeys/{api_key}")
}

/// `organizations/{organization}/providerKeys/{provider_key}`.
#[must_use]
pub fn provider_key(organization: &OrganizationId, provider_key: &ProviderKeyId) -> String {
    format!("organizations/{organization}/providerKeys/{provider_key}")
}

/// `organizations/{organization}/subscription`.
#[must_use]
pub fn subscription(organization: &OrganizationId) -> String {
    format!("organizations/{organization}/subscription")
}

/// Reads `organizations/{organization}`.
///
/// # Errors
/// Anything else.
pub fn parse_organization(name: &str) -> Result<OrganizationId, NameError> {
    const EXPECTED: NameError = NameError { expected: "organizations/{organization}" };
    name.strip_prefix("organizations/").ok_or(EXPECTED)?.parse().map_err(|_| EXPECTED)
}

/// Reads `organizations/{organization}/users/{user}`.
///
/// # Errors
/// Anything else.
pub fn parse_user(name: &str) -> Result<(OrganizationId, UserId), NameError> {
    const EXPECTED: NameError = NameError { expected: "organizations/{organization}/users/{user}" };
    let (parent, id) = split_child(name, "/users/").ok_or(EXPECTED)?;
    Ok((parent, id.parse().map_err(|_| EXPECTED)?))
}

/// Reads `organizations/{organization}/apiKeys/{api_key}`.
///
/// # Errors
/// Anything else.
pub fn parse_api_key(name: &str) -> Result<(OrganizationId, ApiKeyId), NameError> {
    const EXPECTED: NameError = NameError { expected: "organizations/{organization}/apiKeys/{api_key}" };
    let (parent, id) = split_child(name, "/apiKeys/").ok_or(EXPECTED)?;
    Ok((parent, id.parse().map_err(|_| EXPECTED)?))
}

/// Reads `organizations/{organization}/providerKeys/{provider_key}`.
///
/// # Errors
/// Anything else.
pub fn parse_provider_key(name: &str) -> Result<(OrganizationId, ProviderKeyId), NameError> {
    const EXPECTED: NameError = NameError { expected: "organizations/{organization}/providerKeys/{provider_key}" };
    let (parent, id) = split_child(name, "/providerKeys/").ok_or(EXPECTED)?;
    Ok((parent, id.parse().map_err(|_| EXPECTED)?))
}

/// Reads `organizations/{organization}/subscription`.
///
/// # Errors
/// Anything else.
pub fn parse_subscription(name: &str) -> Result<OrganizationId, NameError> {
    const EXPECTED: NameError = NameError { expected: "organizations/{organization}/subscription" };
    parse_organization(name.strip_suffix("/subscription").ok_or(EXPECTED)?).map_err(|_| EXPECTED)
}

fn split_child<'a>(name: &'a str, collection: &str) -> Option<(OrganizationId, &'a str)> {
    let (parent, id) = name.split_once(collection)?;
    Some((parse_organization(parent).ok()?, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_what_they_were_made_of() {
        let (o, u, k) = (OrganizationId::new_v7(), UserId::new_v7(), ApiKeyId::new_v7());
        let p = ProviderKeyId::new_v7();
        assert_eq!(parse_provider_key(&provider_key(&o, &p)), Ok((o, p)));
        assert_eq!(parse_organization(&organization(&o)), Ok(o));
        assert_eq!(parse_user(&user(&o, &u)), Ok((o, u)));
        assert_eq!(parse_api_key(&api_key(&o, &k)), Ok((o, k)));
        assert_eq!(parse_subscription(&subscription(&o)), Ok(o));
    }

    #[test]
    fn a_name_of_another_kind_is_refused_with_the_form_that_was_expected() {
        let o = OrganizationId::new_v7();
        let error = parse_user(&organization(&o)).expect_err("an organisation is not a user");
        assert_eq!(error.to_string(), "expected a name of the form `organizations/{organization}/users/{user}`");
        assert!(parse_organization(&format!("organizations/{o}/")).is_err());
        assert!(parse_organization("organizations/").is_err());
    }
}
