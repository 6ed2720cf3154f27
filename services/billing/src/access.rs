//! Who may call what.

use weir_rpc::Access;
use weir_types::Scope;

/// The `weir` command line and audits.
const OPERATOR: &str = "operator";

/// One row per RPC; what is not listed is refused.
pub const ACCESS: &[(&str, Access)] = &[
    ("/weir.billing.v1.BillingService/ListPlans", Access::ScopeOrServices(Scope::BillingRead, &[OPERATOR, "facade"])),
    ("/weir.billing.v1.BillingService/GetSubscription", Access::ScopeOrServices(Scope::BillingRead, &[OPERATOR])),
    ("/weir.billing.v1.BillingService/SetSubscription", Access::Services(&[OPERATOR])),
    (
        "/weir.billing.v1.BillingService/GetEntitlements",
        Access::ScopeOrServices(Scope::BillingRead, &["quota", "ai-broker", OPERATOR]),
    ),
    ("/weir.billing.v1.BillingService/WatchEntitlements", Access::Services(&["quota", "ai-broker", OPERATOR])),
    (
        "/weir.billing.v1.BillingService/GetPriceBook",
        Access::ScopeOrServices(Scope::BillingRead, &["ai-broker", "quota", "facade", OPERATOR]),
    ),
    ("/weir.billing.v1.BillingService/GetStatement", Access::ScopeOrServices(Scope::BillingRead, &[OPERATOR])),
    ("/weir.billing.v1.BillingService/ListLedgerEntries", Access::ScopeOrServices(Scope::BillingRead, &[OPERATOR])),
    ("/weir.billing.v1.BillingService/ScanRatedEvents", Access::Services(&[OPERATOR])),
    ("/weir.billing.v1.BillingService/GetStatus", Access::Services(&[OPERATOR])),
];

#[cfg(test)]
mod tests {
    #[test]
    fn every_rpc_has_its_row() {
        assert_eq!(weir_rpc::uncovered("weir.billing.v1.BillingService", super::ACCESS), Vec::<String>::new());
    }
}
