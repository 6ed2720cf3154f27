//! The facade: the public REST API. It identifies callers and speaks OpenAI's dialect and our own
//! API; everything behind them is asked of the services as the caller.

mod api;
mod config;
mod credentials;
mod facade;
mod openai;
mod status;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};
use weir_host::{Context, Service, StartError};
use weir_proto::auth::v1::auth_service_client::AuthServiceClient;
use weir_proto::billing::v1::billing_service_client::BillingServiceClient;
use weir_proto::broker::v1::broker_service_client::BrokerServiceClient;
use weir_proto::quota::v1::quota_service_client::QuotaServiceClient;
use weir_proto::usage::v1::usage_service_client::UsageServiceClient;

pub use api::openapi;
pub use config::{Config, DEFAULTS};

use credentials::Credentials;
use facade::Facade;

/// The service's name in discovery, tokens and configuration.
pub const NAME: &str = "facade";

/// Starts the facade.
///
/// # Errors
/// None: what it needs of its siblings it asks when it is asked.
pub async fn start(config: Config, context: &Context) -> Result<Service, StartError> {
    let size = context.max_message_bytes;
    let auth = AuthServiceClient::new(context.channels.to("auth"));
    let facade = Arc::new(Facade {
        credentials: Credentials::new(auth.clone(), config.credential_cache, config.refused_for),
        auth,
        broker: BrokerServiceClient::new(context.channels.to("ai-broker")).max_decoding_message_size(size),
        quota: QuotaServiceClient::new(context.channels.to("quota")),
        usage: UsageServiceClient::new(context.channels.to("usage")).max_decoding_message_size(size),
        billing: BillingServiceClient::new(context.channels.to("billing")).max_decoding_message_size(size),
        max_body_bytes: config.max_body_bytes,
        deadline: config.deadline,
        api_deadline: config.api_deadline,
        in_flight: Arc::new(tokio::sync::Semaphore::new(config.max_in_flight)),
        trusted_proxies: config.trusted_proxies.clone(),
    });
    Ok(Service::new(NAME).http(router(&facade, &config.cors_origins)))
}

fn router(facade: &Arc<Facade>, cors_origins: &[String]) -> Router {
    let router = Router::new().merge(openai::routes()).merge(api::routes(facade)).with_state(Arc::clone(facade));
    if cors_origins.is_empty() { router } else { router.layer(cors(cors_origins)) }
}

/// Pages of these origins, and no others, may call the API.
fn cors(origins: &[String]) -> CorsLayer {
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    let exposed = [
        "x-request-id",
        "retry-after",
        "retry-after-ms",
        "weir-cost-usd",
        "weir-model",
        "weir-attempts",
        "weir-overhead-ms",
    ];
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            weir_rpc::REQUEST_ID,
            HeaderName::from_static("x-api-key"),
        ])
        .expose_headers(exposed.map(HeaderName::from_static))
        .max_age(Duration::from_secs(3600))
}
