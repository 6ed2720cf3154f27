use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::json::Json;
use crate::redact::Redacting;
use crate::{Config, LogFormat, context, metrics, traces};

const FLUSH_WITHIN: Duration = Duration::from_secs(5);

/// The telemetry of this process. There is one logger and one recorder per process, so the first start decides; every later
/// one (tests, several services in one process) gets the same.
#[derive(Clone, Debug)]
pub struct Telemetry {
    metrics: PrometheusHandle,
    traces: Option<SdkTracerProvider>,
}

/// Why telemetry did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The log level cannot be read.
    #[error("telemetry.log_level: {0}")]
    LogLevel(String),
    /// Somebody else installed a logger.
    #[error("logs: {0}")]
    Logs(String),
    /// The exporter of traces cannot be built.
    #[error("traces: {0}")]
    Traces(String),
    /// Somebody else installed a recorder.
    #[error("metrics: {0}")]
    Metrics(String),
}

static STARTED: Mutex<Option<Telemetry>> = Mutex::new(None);

impl Telemetry {
    /// Starts logs (to standard error), metrics and, if a collector is configured, traces; within the Tokio runtime.
    ///
    /// # Errors
    /// When something else in this process has taken the logger or the recorder, or the collector's URL is malformed.
    pub fn start(config: &Config, service: &str, instance: &str) -> Result<Self, StartError> {
        let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(telemetry) = started.as_ref() {
            return Ok(telemetry.clone());
        }
        let traces = traces::provider(config, service, instance)?;
        let spans = traces.as_ref().map(|provider| {
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("weir"))
                .with_location(false)
                .with_threads(false)
                .with_tracked_inactivity(false)
                .with_filter(filter_fn(is_traced))
        });
        // Not `with(None)`: that layer takes an interest in everything, and every span would be made for nobody.
        let registry = Registry::default();
        let installed = match spans {
            Some(spans) => {
                let registry = registry.with(spans);
                tracing::subscriber::set_global_default(registry.with(logs(
                    config,
                    service,
                    instance,
                    std::io::stderr,
                )?))
            }
            None => tracing::subscriber::set_global_default(registry.with(logs(
                config,
                service,
                instance,
                std::io::stderr,
            )?)),
        };
        installed.map_err(|error| StartError::Logs(error.to_string()))?;
        if traces.is_some() {
            context::exporting_started();
        }
        log_panics();
        let telemetry = Self { metrics: metrics::install()?, traces };
        *started = Some(telemetry.clone());
        Ok(telemetry)
    }

    /// The metrics in Prometheus' text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.metrics.render()
    }

    /// Sends the spans that are still held back; gives up after five seconds.
    pub async fn shutdown(&self) {
        let Some(traces) = self.traces.clone() else { return };
        let flushed = tokio::task::spawn_blocking(move || traces.force_flush());
        match tokio::time::timeout(FLUSH_WITHIN, flushed).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last traces were not delivered"),
            Ok(Err(error)) => tracing::warn!(%error, "the last traces were not delivered"),
            Err(_) => tracing::warn!("the last traces were not delivered in time"),
        }
    }
}

/// Our own spans, and what went wrong within them. Without the restriction the exporter's own calls would be traced too.
fn is_traced(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("weir")
        && if metadata.is_span() {
            *metadata.level() <= LevelFilter::INFO
        } else {
            *metadata.level() <= LevelFilter::WARN
        }
}

/// The layer that writes log lines. Spans cost formatting on every request, so at `info` and above they are left to the traces.
fn logs<S, W>(
    config: &Config,
    service: &str,
    instance: &str,
    writer: W,
) -> Result<Box<dyn Layer<S> + Send + Sync>, StartError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let levels = EnvFilter::try_new(&config.log_level).map_err(|error| StartError::LogLevel(error.to_string()))?;
    let with_spans = levels.max_level_hint().is_none_or(|level| level > LevelFilter::INFO);
    let filter = levels.and(filter_fn(move |metadata| with_spans || !metadata.is_span()));
    let layer = tracing_subscriber::fmt::layer().with_writer(Redacting(writer));
    Ok(match config.log_format {
        LogFormat::Json => {
            let format = Json { service: service.to_owned(), instance: instance.to_owned() };
            layer.fmt_fields(JsonFields::new()).event_format(format).with_filter(filter).boxed()
        }
        LogFormat::Pretty => {
            let colours =
                std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
            layer.compact().with_ansi(colours).with_filter(filter).boxed()
        }
    })
}

/// Panics go through the log too, where they are redacted and carry the service's name.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("a panic without a message");
        let backtrace = std::backtrace::Backtrace::capture();
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            tracing::error!(location, %backtrace, "panicked: {message}");
        } else {
            tracing::error!(location, "panicked: {message}");
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::Registry;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::logs;
    use crate::{Config, LogFormat};

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn captured(level: &str, log_format: LogFormat, work: impl FnOnce()) -> String {
        let config = Config { log_level: level.into(), log_format, otlp_endpoint: String::new(), sample_ratio: 0.0 };
        let output = Captured::default();
        let writer = output.clone();
        let layer = logs(&config, "quota", "quota-1", move || writer.clone()).expect("a valid level");
        tracing::subscriber::with_default(Registry::default().with(layer), work);
        String::from_utf8(output.0.lock().expect("no panic").clone()).expect("text")
    }

    #[test]
    fn no_secret_reaches_a_log_line_in_either_format() {
        for format in [LogFormat::Json, LogFormat::Pretty] {
            let text = captured("info", format, || {
                let error = "cannot connect to postgres://weir:hunter2hunter2@db/weir";
                tracing::error!(
                    error,
                    authorization = "Bearer abcdefghijklmnop",
                    "key sk-abcdefghijklmnop1234 was refused"
                );
            });
            assert!(text.contains("cannot connect") && text.contains("[redacted]"), "{text}");
            for secret in ["hunter2", "abcdefghijklmnop"] {
                assert!(!text.contains(secret), "{text}");
            }
        }
    }

    #[test]
    fn a_json_line_says_who_speaks() {
        let text = captured("info", LogFormat::Json, || tracing::info!(count = 3, ok = true, "served"));
        let line: serde_json::Value = serde_json::from_str(text.trim()).expect("one JSON object");
        assert_eq!(line["service"], "quota");
        assert_eq!(line["instance"], "quota-1");
        assert_eq!((&line["level"], &line["message"]), (&"INFO".into(), &"served".into()));
        assert_eq!((&line["count"], &line["ok"]), (&3.into(), &true.into()));
    }

    #[test]
    fn spans_are_disabled_at_info_and_shown_at_debug() {
        let work = || {
            let span = tracing::info_span!("request", path = "/v1/models");
            tracing::info!(parent: &span, enabled = !span.is_disabled(), "served");
        };
        assert!(captured("info", LogFormat::Json, work).contains(r#""enabled":false"#));
        let text = captured("debug", LogFormat::Json, work);
        assert!(text.contains(r#""enabled":true"#) && text.contains("/v1/models"), "{text}");
    }
}
