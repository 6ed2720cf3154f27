//! Who may call what.

use weir_rpc::Access;
use weir_types::Scope;

/// Every method of this service; what is not listed is refused.
pub const ACCESS: &[(&str, Access)] = &[
    ("/weir.broker.v1.BrokerService/Invoke", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.BrokerService/StreamInvoke", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.BrokerService/ListModels", Access::Scope(Scope::ModelsRead)),
    ("/weir.broker.v1.BrokerService/GetStatus", Access::Services(&["operator"])),
];
