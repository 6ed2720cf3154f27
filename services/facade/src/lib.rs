//! The facade: the public REST API. It identifies callers and speaks OpenAI's dialect, Anthropic's, and our own
//! API; everything behind them is asked of the services as the caller.

mod anthropic;
mod api;
mod body;
mod calls;
mod config;
mod cors;
mod credentials;
mod edge;
mod elevenlabs;
mod facade;
mod network;
mod openai;
mod openapi;
mod refusal;
mod results;
mod shape;

use std::sync::Arc;

use axum::Router;
use weir_host::{Context, Service, StartError};
use weir_proto::auth::v1::auth_service_client::AuthServiceClient;
use weir_proto::billing::v1::billing_service_client::BillingServiceClient;
use weir_proto::broker::v1::broker_service_client::BrokerServiceClient;
use weir_proto::broker::v1::cache_service_client::CacheServiceClient;
use weir_proto::broker::v1::job_service_client::JobServiceClient;
use weir_proto::broker::v1::provider_key_service_client::ProviderKeyServiceClient;
use weir_proto::broker::v1::result_service_client::ResultServiceClient;
use weir_proto::quota::v1::quota_service_client::QuotaServiceClient;
use weir_proto::usage::v1::usage_service_client::UsageServiceClient;

pub use config::{Config, DEFAULTS};
pub use openapi::openapi;

use body::{BodyLimits, Drains};
use credentials::Credentials;
use facade::Facade;

/// The service's name in discovery, tokens and configuration.
pub const NAME: &str = "facade";

/// Bodies of our own API are small.
const MAX_API_BODY: usize = 64 << 10;

/// Starts the facade.
///
/// # Errors
/// None: what it needs of its siblings it asks when it is asked.
pub async fn start(config: Config, context: &Context) -> Result<Service, StartError> {
    let size = context.max_message_bytes;
    let auth = AuthServiceClient::new(context.channels.to("auth"));
    let credentials = Credentials::new(
        auth.clone(),
        Arc::clone(&context.clock),
        context.tasks.clone(),
        config.credential_cache,
        config.refused_for,
    );
    let facade = Facade {
        clock: Arc::clone(&context.clock),
        credentials,
        auth,
        broker: BrokerServiceClient::new(context.channels.to("ai-broker")).max_decoding_message_size(size),
        cache: CacheServiceClient::new(context.channels.to("ai-broker")),
        jobs: JobServiceClient::new(context.channels.to("ai-broker")).max_decoding_message_size(size),
        results: ResultServiceClient::new(context.channels.to("ai-broker")).max_decoding_message_size(size),
        provider_keys: ProviderKeyServiceClient::new(context.channels.to("ai-broker")),
        quota: QuotaServiceClient::new(context.channels.to("quota")).max_decoding_message_size(size),
        usage: UsageServiceClient::new(context.channels.to("usage")).max_decoding_message_size(size),
        billing: BillingServiceClient::new(context.channels.to("billing")).max_decoding_message_size(size),
        model_body: BodyLimits { max_bytes: config.max_body_bytes, pause: config.body_pause },
        upload_body: BodyLimits { max_bytes: config.max_upload_bytes, pause: config.body_pause },
        api_body: BodyLimits { max_bytes: MAX_API_BODY, pause: config.body_pause },
        in_flight: Arc::new(tokio::sync::Semaphore::new(config.max_in_flight)),
        trusted_proxies: config.trusted_proxies,
    };
    let settings = edge::Settings {
        deadline: config.deadline,
        api_deadline: config.api_deadline,
        drains: Drains::new(context.tasks.clone()),
    };
    Ok(Service::new(NAME).http(router(facade, settings, &config.cors_origins)))
}

/// Top to bottom: CORS, which answers preflights before anything else looks at them; the edge; the routes.
fn router(facade: Facade, settings: edge::Settings, cors_origins: &[String]) -> Router {
    let routes = openapi::routes().with_state(Arc::new(facade));
    let router = edge::around(routes, settings);
    if cors_origins.is_empty() { router } else { router.layer(cors::layer(cors_origins)) }
}
