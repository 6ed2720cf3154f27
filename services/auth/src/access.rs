//! Who may call what.

use weir_rpc::Access;
use weir_types::Scope;

/// The full name of the service.
pub const SERVICE: &str = "weir.auth.v1.AuthService";

/// Every method of this service; what is not listed is refused.
///
/// `operator` is the `weir` command line; the facade creates organisations when people sign up. A principal acts in their own
/// organisation only, which the handlers see to.
pub const ACCESS: &[(&str, Access)] = &[
    ("/weir.auth.v1.AuthService/CreateOrganization", Access::Services(&["operator", "facade"])),
    ("/weir.auth.v1.AuthService/GetOrganization", Access::AnyPrincipal),
    ("/weir.auth.v1.AuthService/ListOrganizations", Access::Services(&["operator"])),
    ("/weir.auth.v1.AuthService/CreateUser", Access::ScopeOrServices(Scope::UsersManage, &["operator"])),
    // Anybody reads themselves; the use case asks for the scope to read others.
    ("/weir.auth.v1.AuthService/GetUser", Access::AnyPrincipal),
    ("/weir.auth.v1.AuthService/ListUsers", Access::ScopeOrServices(Scope::UsersManage, &["operator"])),
    ("/weir.auth.v1.AuthService/DisableUser", Access::ScopeOrServices(Scope::UsersManage, &["operator"])),
    ("/weir.auth.v1.AuthService/CreateApiKey", Access::ScopeOrServices(Scope::KeysManage, &["operator"])),
    // A key reads itself; the use case asks for the scope to read others.
    ("/weir.auth.v1.AuthService/GetApiKey", Access::AnyPrincipal),
    ("/weir.auth.v1.AuthService/ListApiKeys", Access::ScopeOrServices(Scope::KeysManage, &["operator"])),
    ("/weir.auth.v1.AuthService/RevokeApiKey", Access::ScopeOrServices(Scope::KeysManage, &["operator"])),
    ("/weir.auth.v1.AuthService/RotateApiKey", Access::ScopeOrServices(Scope::KeysManage, &["operator"])),
    // Credentials come in by the facade only.
    ("/weir.auth.v1.AuthService/ExchangeApiKey", Access::Services(&["facade"])),
    ("/weir.auth.v1.AuthService/SignIn", Access::Services(&["facade"])),
    ("/weir.auth.v1.AuthService/GetSigningKeys", Access::AnyService),
    ("/weir.auth.v1.AuthService/RotateSigningKey", Access::Services(&["operator"])),
    ("/weir.auth.v1.AuthService/WatchRevocations", Access::AnyService),
];

/// What is still taken when the service is full: what closes doors, and what all other services live by.
pub const ESSENTIAL: &[&str] = &[
    "/weir.auth.v1.AuthService/RevokeApiKey",
    "/weir.auth.v1.AuthService/DisableUser",
    "/weir.auth.v1.AuthService/GetSigningKeys",
    "/weir.auth.v1.AuthService/WatchRevocations",
];
