//! Who may call what.

use weir_rpc::Access;
use weir_types::Scope;

const BROKER: Access = Access::Services(&["ai-broker", "operator"]);
const AUDIT: Access = Access::Services(&["operator"]);
/// Whoever tells people of it; a tenant lists its own.
const WATCH: Access = Access::Services(&["billing", "facade", "operator"]);
const READ: Access = Access::ScopeOrServices(Scope::QuotaRead, &["ai-broker", "facade", "operator"]);

/// One row per RPC; what is not listed is refused.
pub const ACCESS: &[(&str, Access)] = &[
    ("/weir.quota.v1.QuotaService/Reserve", BROKER),
    ("/weir.quota.v1.QuotaService/BatchReserve", BROKER),
    ("/weir.quota.v1.QuotaService/Operate", BROKER),
    ("/weir.quota.v1.QuotaService/Extend", BROKER),
    ("/weir.quota.v1.QuotaService/Commit", BROKER),
    ("/weir.quota.v1.QuotaService/Release", BROKER),
    ("/weir.quota.v1.QuotaService/BatchSettle", BROKER),
    ("/weir.quota.v1.QuotaService/TakeOver", BROKER),
    ("/weir.quota.v1.QuotaService/Check", READ),
    ("/weir.quota.v1.QuotaService/GetBalance", READ),
    ("/weir.quota.v1.QuotaService/Explain", READ),
    ("/weir.quota.v1.QuotaService/ListAlerts", READ),
    ("/weir.quota.v1.QuotaService/WatchAlerts", WATCH),
    ("/weir.quota.v1.QuotaService/ListSettlements", AUDIT),
    ("/weir.quota.v1.QuotaService/GetStatus", AUDIT),
];

/// Calls that end work: still taken when the service is full. A stream carries both kinds; its reservations are refused one by
/// one.
pub const ESSENTIAL: &[&str] = &[
    "/weir.quota.v1.QuotaService/Operate",
    "/weir.quota.v1.QuotaService/Extend",
    "/weir.quota.v1.QuotaService/Commit",
    "/weir.quota.v1.QuotaService/Release",
    "/weir.quota.v1.QuotaService/BatchSettle",
    "/weir.quota.v1.QuotaService/TakeOver",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_one_row_and_none_is_open() {
        assert_eq!(weir_rpc::uncovered("weir.quota.v1.QuotaService", ACCESS), Vec::<String>::new());
    }
}
