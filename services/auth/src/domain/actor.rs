//! Who does something, for decisions and for the audit log.

use weir_types::{ApiKeyId, OrganizationId, Scope, ScopeSet, UserId};

use super::Invalid;

/// The caller of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Actor {
    /// A service of the deployment, or the operator.
    Service(String),
    /// A user, or an API key.
    Principal {
        /// Their tenant.
        organization: OrganizationId,
        /// The user, unless it is a key of the organisation itself.
        user: Option<UserId>,
        /// The key, unless they signed in.
        api_key: Option<ApiKeyId>,
        /// What they may do.
        scopes: ScopeSet,
    },
}

/// The first scope that somebody wants to give without having it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lacking(pub Scope);

impl Actor {
    /// What they may do, and therefore give to others.
    #[must_use]
    pub(crate) fn scopes(&self) -> ScopeSet {
        match self {
            Self::Service(_) => ScopeSet::all(),
            Self::Principal { scopes, .. } => *scopes,
        }
    }

    /// Nobody hands out more than they have: else a key that manages keys could make itself one that may do all.
    ///
    /// # Errors
    /// The first scope that is lacking.
    pub(crate) fn may_give(&self, wanted: ScopeSet) -> Result<(), Lacking> {
        wanted.iter().find(|&scope| !self.scopes().contains(scope)).map_or(Ok(()), |scope| Err(Lacking(scope)))
    }

    /// Whether it is this user.
    #[must_use]
    pub(crate) fn is_user(&self, id: UserId) -> bool {
        matches!(self, Self::Principal { user: Some(user), .. } if *user == id)
    }

    /// Whether it is this key.
    #[must_use]
    pub(crate) fn is_api_key(&self, id: ApiKeyId) -> bool {
        matches!(self, Self::Principal { api_key: Some(key), .. } if *key == id)
    }

    /// For the audit log: `service:operator`, `user:{id}`, `apiKey:{id}`.
    #[must_use]
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Service(name) => format!("service:{name}"),
            Self::Principal { api_key: Some(key), .. } => format!("apiKey:{key}"),
            Self::Principal { user: Some(user), .. } => format!("user:{user}"),
            Self::Principal { organization, .. } => format!("organization:{organization}"),
        }
    }
}

impl Invalid {
    /// A role or a key's owner that doesn't carry `scope`.
    #[must_use]
    pub(crate) fn beyond_role(scope: Scope) -> Self {
        Self::field("scopes", format!("`{scope}` is beyond the role of the user that the key acts for"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gives_what_they_lack() {
        let actor = Actor::Principal {
            organization: OrganizationId::new_v7(),
            user: None,
            api_key: None,
            scopes: [Scope::KeysManage, Scope::AiInvoke].into_iter().collect(),
        };
        assert_eq!(actor.may_give([Scope::AiInvoke].into_iter().collect()), Ok(()));
        assert_eq!(actor.may_give(ScopeSet::all()), Err(Lacking(Scope::ModelsRead)));
        assert_eq!(Actor::Service("operator".into()).may_give(ScopeSet::all()), Ok(()));
    }
}
