//! The process's metrics, kept in memory until somebody asks for the Prometheus text.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::StartError;

/// From half a millisecond, the time of a local call, to a minute, that of a long stream.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// For sizes and counts.
const SIZES: [f64; 11] = [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0];

/// How often the samples of histograms are folded into their buckets; until then each sample takes memory.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Installs the process's recorder.
pub(crate) fn install() -> Result<PrometheusHandle, StartError> {
    let recorder = builder().map_err(|error| StartError::Metrics(error.to_string()))?.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|error| StartError::Metrics(error.to_string()))?;
    let upkeep = handle.clone();
    std::thread::Builder::new()
        .name("weir-metrics".to_owned())
        .stack_size(256 * 1024)
        .spawn(move || {
            loop {
                std::thread::sleep(UPKEEP_EVERY);
                upkeep.run_upkeep();
            }
        })
        .map_err(|error| StartError::Metrics(error.to_string()))?;
    Ok(handle)
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets(&SIZES)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
}
