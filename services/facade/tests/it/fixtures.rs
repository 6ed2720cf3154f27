//! Paths of the siblings' methods, and who may call them.

use weir_rpc::Access;
use weir_types::Scope;

macro_rules! paths {
    ($($name:ident = $path:literal, $access:expr;)*) => {
        $(pub(crate) const $name: &str = $path;)*
        /// As the services themselves have it.
        pub(crate) const ACCESS: &[(&str, Access)] = &[$(($path, $access)),*];
    };
}

paths! {
    EXCHANGE = "/weir.auth.v1.AuthService/ExchangeApiKey", Access::Services(&["facade"]);
    SIGN_IN = "/weir.auth.v1.AuthService/SignIn", Access::Services(&["facade"]);
    CREATE_KEY = "/weir.auth.v1.AuthService/CreateApiKey", Access::Scope(Scope::KeysManage);
    LIST_KEYS = "/weir.auth.v1.AuthService/ListApiKeys", Access::Scope(Scope::KeysManage);
    GET_KEY = "/weir.auth.v1.AuthService/GetApiKey", Access::AnyPrincipal;
    REVOKE_KEY = "/weir.auth.v1.AuthService/RevokeApiKey", Access::Scope(Scope::KeysManage);
    ROTATE_KEY = "/weir.auth.v1.AuthService/RotateApiKey", Access::Scope(Scope::KeysManage);
    CREATE_USER = "/weir.auth.v1.AuthService/CreateUser", Access::Scope(Scope::UsersManage);
    LIST_USERS = "/weir.auth.v1.AuthService/ListUsers", Access::Scope(Scope::UsersManage);
    GET_USER = "/weir.auth.v1.AuthService/GetUser", Access::AnyPrincipal;
    DISABLE_USER = "/weir.auth.v1.AuthService/DisableUser", Access::Scope(Scope::UsersManage);
    INVOKE = "/weir.broker.v1.BrokerService/Invoke", Access::Scope(Scope::AiInvoke);
    STREAM = "/weir.broker.v1.BrokerService/StreamInvoke", Access::Scope(Scope::AiInvoke);
    PREFLIGHT = "/weir.broker.v1.BrokerService/Preflight", Access::Scope(Scope::AiInvoke);
    LIST_MODELS = "/weir.broker.v1.BrokerService/ListModels", Access::Scope(Scope::ModelsRead);
    CREATE_JOB = "/weir.broker.v1.JobService/CreateJob", Access::Scope(Scope::AiInvoke);
    GET_JOB = "/weir.broker.v1.JobService/GetJob", Access::Scope(Scope::AiInvoke);
    LIST_JOBS = "/weir.broker.v1.JobService/ListJobs", Access::Scope(Scope::AiInvoke);
    CANCEL_JOB = "/weir.broker.v1.JobService/CancelJob", Access::Scope(Scope::AiInvoke);
    RERUN_JOB = "/weir.broker.v1.JobService/RerunJob", Access::Scope(Scope::AiInvoke);
    WATCH_JOB = "/weir.broker.v1.JobService/WatchJob", Access::Scope(Scope::AiInvoke);
    CREATE_SCHEDULE = "/weir.broker.v1.JobService/CreateSchedule", Access::Scope(Scope::AiInvoke);
    LIST_SCHEDULES = "/weir.broker.v1.JobService/ListSchedules", Access::Scope(Scope::AiInvoke);
    DELETE_SCHEDULE = "/weir.broker.v1.JobService/DeleteSchedule", Access::Scope(Scope::AiInvoke);
    GET_CACHE_POLICY = "/weir.broker.v1.CacheService/GetCachePolicy", Access::Scope(Scope::KeysManage);
    UPDATE_CACHE_POLICY = "/weir.broker.v1.CacheService/UpdateCachePolicy", Access::Scope(Scope::KeysManage);
    PURGE_CACHE = "/weir.broker.v1.CacheService/PurgeCache", Access::Scope(Scope::KeysManage);
    ROTATE_WEBHOOK_SECRET = "/weir.broker.v1.JobService/RotateWebhookSecret", Access::Scope(Scope::KeysManage);
    READ_RESULT = "/weir.broker.v1.ResultService/ReadResult", Access::Services(&["facade"]);
    GET_RESULT = "/weir.broker.v1.ResultService/GetResult", Access::Scope(Scope::AiInvoke);
    LIST_RESULTS = "/weir.broker.v1.ResultService/ListResults", Access::Scope(Scope::AiInvoke);
    DELETE_RESULT = "/weir.broker.v1.ResultService/DeleteResult", Access::Scope(Scope::AiInvoke);
    GET_RESULT_SETTINGS = "/weir.broker.v1.ResultService/GetResultSettings", Access::Scope(Scope::AiInvoke);
    UPDATE_RESULT_SETTINGS = "/weir.broker.v1.ResultService/UpdateResultSettings", Access::Scope(Scope::KeysManage);
    CREATE_PROVIDER_KEY = "/weir.broker.v1.ProviderKeyService/CreateProviderKey", Access::Scope(Scope::AiInvoke);
    GET_PROVIDER_KEY = "/weir.broker.v1.ProviderKeyService/GetProviderKey", Access::Scope(Scope::AiInvoke);
    LIST_PROVIDER_KEYS = "/weir.broker.v1.ProviderKeyService/ListProviderKeys", Access::Scope(Scope::AiInvoke);
    UPDATE_PROVIDER_KEY = "/weir.broker.v1.ProviderKeyService/UpdateProviderKey", Access::Scope(Scope::AiInvoke);
    ROTATE_PROVIDER_KEY = "/weir.broker.v1.ProviderKeyService/RotateProviderKey", Access::Scope(Scope::AiInvoke);
    DELETE_PROVIDER_KEY = "/weir.broker.v1.ProviderKeyService/DeleteProviderKey", Access::Scope(Scope::AiInvoke);
    BALANCE = "/weir.quota.v1.QuotaService/GetBalance", Access::Scope(Scope::QuotaRead);
    LIST_ALERTS = "/weir.quota.v1.QuotaService/ListAlerts", Access::Scope(Scope::QuotaRead);
    EXPLAIN = "/weir.quota.v1.QuotaService/Explain", Access::Scope(Scope::QuotaRead);
    QUERY_USAGE = "/weir.usage.v1.UsageService/QueryUsage", Access::Scope(Scope::UsageRead);
    LIST_EVENTS = "/weir.usage.v1.UsageService/ListEvents", Access::Scope(Scope::UsageRead);
    LIST_PLANS = "/weir.billing.v1.BillingService/ListPlans", Access::Scope(Scope::BillingRead);
    SUBSCRIPTION = "/weir.billing.v1.BillingService/GetSubscription", Access::Scope(Scope::BillingRead);
    STATEMENT = "/weir.billing.v1.BillingService/GetStatement", Access::Scope(Scope::BillingRead);
    LEDGER = "/weir.billing.v1.BillingService/ListLedgerEntries", Access::Scope(Scope::BillingRead);
}
