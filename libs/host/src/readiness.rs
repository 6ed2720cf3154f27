//! Whether a service is ready: what its probes say.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weir_rpc::Health;

use crate::{Config, Probe};

/// What `/readyz` says about one service.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) service: &'static str,
    pub(crate) ready: bool,
    pub(crate) probes: Vec<ProbeReport>,
}

/// What one probe said last.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ProbeReport {
    name: &'static str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    milliseconds: u128,
    /// In a row.
    misses: u32,
}

/// A service's readiness, found out again and again.
pub(crate) struct Readiness {
    service: &'static str,
    probes: Vec<Probe>,
    health: Option<Health>,
    report: Arc<ArcSwap<Report>>,
    ready: watch::Sender<bool>,
}

impl Readiness {
    pub(crate) fn new(service: &'static str, probes: Vec<Probe>, health: Option<Health>) -> Self {
        let report = Report { service, ready: false, probes: Vec::new() };
        Self {
            service,
            probes,
            health,
            report: Arc::new(ArcSwap::from_pointee(report)),
            ready: watch::Sender::new(false),
        }
    }

    pub(crate) fn report(&self) -> Arc<ArcSwap<Report>> {
        Arc::clone(&self.report)
    }

    pub(crate) fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Probes until `stop`; then says that the service is not serving.
    pub(crate) async fn follow(self, config: Config, stop: CancellationToken) {
        let gauge = metrics::gauge!("weir_ready", "service" => self.service);
        let probing = async {
            let mut misses = vec![0; self.probes.len()];
            loop {
                let probes = self.probe(config.probe_timeout, &mut misses).await;
                // The first time everything has to be well; later a short miss does not send the callers away.
                let was = *self.ready.borrow();
                let ready = probes.iter().all(|probe| probe.ok || (was && probe.misses < config.probe_misses));
                self.report.store(Arc::new(Report { service: self.service, ready, probes }));
                gauge.set(if ready { 1.0 } else { 0.0 });
                if ready != was {
                    self.tell(ready).await;
                }
                tokio::time::sleep(config.probe_interval).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = probing => {}
        }
        self.report.store(Arc::new(Report { service: self.service, ready: false, probes: Vec::new() }));
        gauge.set(0.0);
        self.set(false).await;
    }

    async fn tell(&self, ready: bool) {
        if ready {
            tracing::info!(service = self.service, "ready");
        } else {
            let report = self.report.load();
            let missing: Vec<_> = report.probes.iter().filter(|probe| !probe.ok).map(|probe| probe.name).collect();
            tracing::warn!(service = self.service, ?missing, "not ready");
        }
        self.set(ready).await;
    }

    async fn set(&self, ready: bool) {
        if let Some(health) = &self.health {
            health.set_serving(ready).await;
        }
        self.ready.send_replace(ready);
    }

    async fn probe(&self, timeout: Duration, misses: &mut [u32]) -> Vec<ProbeReport> {
        let one = |probe: &Probe| {
            let (name, check) = (probe.name, (probe.check)());
            async move {
                let started = Instant::now();
                let outcome = match tokio::time::timeout(timeout, check).await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(format!("no answer within {timeout:?}")),
                };
                (name, outcome, started.elapsed())
            }
        };
        let outcomes = futures::future::join_all(self.probes.iter().map(one)).await;
        outcomes
            .into_iter()
            .zip(misses)
            .map(|((name, outcome, took), misses)| {
                *misses = if outcome.is_ok() { 0 } else { misses.saturating_add(1) };
                ProbeReport {
                    name,
                    ok: outcome.is_ok(),
                    error: outcome.err(),
                    milliseconds: took.as_millis(),
                    misses: *misses,
                }
            })
            .collect()
    }
}
