//! Who may call what.

use weir_proto::common::v1::ErrorReason;
use weir_types::Scope;

use crate::{Caller, Error, methods};

/// Who may call a method. Each service has a table of these, one row per RPC; what is not listed is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// These services.
    Services(&'static [&'static str]),
    /// Any service of this deployment.
    AnyService,
    /// Principals with this scope.
    Scope(Scope),
    /// Principals with this scope, and these services.
    ScopeOrServices(Scope, &'static [&'static str]),
    /// Any principal.
    AnyPrincipal,
    /// Everybody, without a credential: health and reflection only.
    Open,
}

impl Access {
    /// Refuses unless the caller may.
    pub(crate) fn check(self, caller: &Caller) -> Result<(), Error> {
        let allowed = match (self, caller) {
            (Self::Services(names) | Self::ScopeOrServices(_, names), Caller::Service(name)) => {
                names.contains(&&**name)
            }
            (Self::AnyService, Caller::Service(_)) | (Self::AnyPrincipal, Caller::Principal(_)) | (Self::Open, _) => {
                true
            }
            (Self::Scope(scope) | Self::ScopeOrServices(scope, _), Caller::Principal(principal)) => {
                if !principal.scopes.contains(scope) {
                    return Err(Error::new(
                        ErrorReason::PermissionDenied,
                        format!("the credential lacks the scope {scope}"),
                    )
                    .metadata("scope", scope.as_str()));
                }
                true
            }
            (Self::Services(_) | Self::AnyService, Caller::Principal(_))
            | (Self::Scope(_) | Self::AnyPrincipal, Caller::Service(_)) => false,
        };
        if allowed {
            return Ok(());
        }
        let message = match caller {
            Caller::Service(name) => format!("the service {name} may not call this method"),
            Caller::Principal(_) => "this method is for the services of the deployment".to_owned(),
        };
        Err(Error::new(ErrorReason::PermissionDenied, message))
    }
}

/// What is wrong with an access table of a service (`weir.quota.v1.QuotaService`): methods without a row, rows
/// without a method, and methods that are open. Empty when all is well. For the test that every service has.
#[must_use]
pub fn uncovered(service: &str, table: &[(&str, Access)]) -> Vec<String> {
    let listed = |path: &str| table.iter().filter(|(row, _)| *row == path).count();
    let missing =
        methods(service).filter(|m| listed(m.path) != 1).map(|m| format!("{}: {} rows", m.path, listed(m.path)));
    let stale = table
        .iter()
        .filter(|(row, _)| !methods(service).any(|method| method.path == *row))
        .map(|(row, _)| format!("{row}: no such method"));
    let open = table.iter().filter(|(_, access)| *access == Access::Open).map(|(row, _)| format!("{row}: open"));
    missing.chain(stale).chain(open).collect()
}
