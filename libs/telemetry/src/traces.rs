//! Traces to an OpenTelemetry collector.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};

use crate::{Config, StartError};

/// A collector that does not answer must not hold back the next batch for long.
const EXPORT_WITHIN: Duration = Duration::from_secs(5);

/// The provider of tracers, or `None` without a collector.
pub(crate) fn provider(
    config: &Config,
    service: &str,
    instance: &str,
) -> Result<Option<SdkTracerProvider>, StartError> {
    if config.otlp_endpoint.is_empty() {
        return Ok(None);
    }
    // The exporter's connection lives on the caller's runtime.
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(StartError::Traces("traces are started inside the Tokio runtime".to_owned()));
    }
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(&config.otlp_endpoint)
        .with_timeout(EXPORT_WITHIN)
        .build()
        .map_err(|error| StartError::Traces(error.to_string()))?;
    let resource = Resource::builder()
        .with_service_name(service.to_owned())
        .with_attributes([
            KeyValue::new("service.namespace", "weir"),
            KeyValue::new("service.instance.id", instance.to_owned()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ])
        .build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample_ratio))))
        .with_resource(resource)
        .build();
    Ok(Some(provider))
}
