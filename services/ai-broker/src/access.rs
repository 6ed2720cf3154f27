//! Who may call what.

use weir_rpc::Access;
use weir_types::Scope;

/// Every method of this process's gRPC services; what is not listed is refused.
pub const ACCESS: &[(&str, Access)] = &[
    ("/weir.broker.v1.BrokerService/Invoke", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.BrokerService/StreamInvoke", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.BrokerService/Preflight", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.BrokerService/ListModels", Access::Scope(Scope::ModelsRead)),
    ("/weir.broker.v1.BrokerService/GetStatus", Access::Services(&["operator"])),
    ("/weir.broker.v1.JobService/CreateJob", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.JobService/GetJob", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.JobService/ListJobs", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.JobService/CancelJob", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.JobService/RerunJob", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.JobService/WatchJob", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.JobService/CreateSchedule", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.JobService/ListSchedules", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.JobService/DeleteSchedule", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.CacheService/GetCachePolicy", Access::Scope(Scope::KeysManage)),
    ("/weir.broker.v1.CacheService/UpdateCachePolicy", Access::Scope(Scope::KeysManage)),
    ("/weir.broker.v1.CacheService/PurgeCache", Access::Scope(Scope::KeysManage)),
    ("/weir.broker.v1.JobService/RotateWebhookSecret", Access::Scope(Scope::KeysManage)),
    // Whoever has the address may read; the facade has no other proof of who that is.
    ("/weir.broker.v1.ResultService/ReadResult", Access::Services(&["facade"])),
    ("/weir.broker.v1.ResultService/GetResult", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.ResultService/ListResults", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.ResultService/DeleteResult", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.ResultService/GetResultSettings", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.ResultService/UpdateResultSettings", Access::Scope(Scope::KeysManage)),
    // Who may do what with which key is decided there: users with their own, those who manage keys with all.
    ("/weir.broker.v1.ProviderKeyService/CreateProviderKey", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.ProviderKeyService/GetProviderKey", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.ProviderKeyService/ListProviderKeys", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.ProviderKeyService/UpdateProviderKey", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.ProviderKeyService/RotateProviderKey", Access::Scope(Scope::AiInvoke)),
    ("/weir.broker.v1.ProviderKeyService/DeleteProviderKey", Access::Scope(Scope::AiInvoke)),
];
