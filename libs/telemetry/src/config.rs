use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use weir_config::{Problem, Validate};

/// The `[telemetry]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The level, or levels per module in `EnvFilter`'s syntax.
    pub log_level: String,
    /// How a log line looks.
    pub log_format: LogFormat,
    /// The gRPC endpoint of an OpenTelemetry collector; empty means no traces.
    pub otlp_endpoint: String,
    /// The share of new traces that is recorded, 0 to 1.
    pub sample_ratio: f64,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object per line.
    Json,
}

impl Validate for Config {
    fn validate(&self, at: &str, problems: &mut Vec<Problem>) {
        if let Err(error) = EnvFilter::try_new(&self.log_level) {
            problems.push(
                Problem::new(at, "log_level", error.to_string()).hint("such as \"info\" or \"info,weir_quota=debug\""),
            );
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            problems.push(Problem::new(at, "sample_ratio", "must be between 0.0 and 1.0"));
        }
        let scheme = self.otlp_endpoint.split_once("://").map(|(scheme, _)| scheme);
        if !self.otlp_endpoint.is_empty() && !matches!(scheme, Some("http" | "https")) {
            problems.push(Problem::new(at, "otlp_endpoint", "must be a URL").hint("such as \"http://localhost:4317\""));
        }
    }
}
