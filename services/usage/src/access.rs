//! Who may call what.

use weir_rpc::Access;
use weir_types::Scope;

/// One row per RPC; what is not listed is refused.
pub const ACCESS: &[(&str, Access)] = &[
    // What is recorded is billed: only what makes provider calls records.
    ("/weir.usage.v1.UsageService/RecordEvents", Access::Services(&["ai-broker"])),
    ("/weir.usage.v1.UsageService/QueryUsage", Access::ScopeOrServices(Scope::UsageRead, READERS)),
    ("/weir.usage.v1.UsageService/ListEvents", Access::ScopeOrServices(Scope::UsageRead, READERS)),
    // Across tenants.
    ("/weir.usage.v1.UsageService/WatchChanges", Access::Services(&["billing", "operator"])),
    ("/weir.usage.v1.UsageService/ScanEvents", Access::Services(&["operator"])),
];

const READERS: &[&str] = &["facade", "billing", "operator"];
