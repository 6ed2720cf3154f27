//! An answer that is kept, beside the bare proxy's forwarding of the same request.

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;

use super::goal::Goal;
use super::measure::{Api, Load, Measured, Offer, measure, send};
use super::target::Target;
use crate::latency::median;
use crate::provider::Provider;
use crate::report::say;

/// A route whose answers are kept, for the configuration of what is measured.
pub(super) const ROUTE: &str = "[broker.routes.bench-kept]\nprovider = \"simulated\"\nmodel = \"gpt-4o-mini\"\n\
    cache = { ttl = \"1d\" }\n[broker.cache]\ndeadline = \"1s\"\n";
const MODEL: &str = "bench-kept";
const CONNECTIONS: usize = 64;

/// Medians of the rounds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Kept {
    /// CPU seconds of the bare proxy per 1,000 requests.
    floor_cpu: f64,
    /// Of everything that Weir runs, and of its own process.
    all_cpu: f64,
    own_cpu: f64,
    /// Answers per second of both.
    floor_per_second: f64,
    per_second: f64,
    pub(super) goals: Vec<Goal>,
}

/// Turns keeping on for the target's organisation, and measures both in turn.
///
/// # Errors
/// A request fails, or an answer comes from the provider.
pub(super) async fn measure_kept(
    floor: &Target,
    weir: &Target,
    provider: &Provider,
    rounds: usize,
    requests: usize,
) -> anyhow::Result<Kept> {
    say("a kept answer beside the bare proxy")?;
    turn_on(weir).await?;
    let (load, api) = (Load::Plain, Api::Chat);
    let offer = |model, requests| Offer { load, api, connections: CONNECTIONS, requests, rate: None, model };
    // Answers are stored beside the calls.
    for _ in 0..10 {
        send(weir, offer(MODEL, CONNECTIONS)).await?;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let (mut floors, mut kept) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        floors.push(measure(floor, offer("gpt-4o-mini", requests)).await?);
        let before = provider.stats().await?.charged_requests;
        kept.push(measure(weir, offer(MODEL, requests)).await?);
        let called = provider.stats().await?.charged_requests - before;
        if called > 0 {
            bail!("{called} of {requests} answers were not the kept one");
        }
    }
    let of = |rounds: &[Measured], figure: fn(&Measured) -> f64| median(rounds.iter().map(figure));
    let (floor_cpu, all_cpu) = (of(&floors, |one| one.all_cpu), of(&kept, |one| one.all_cpu));
    let goal =
        Goal::at_most("CPU of a kept answer, all that runs, times the floor's forwarding", all_cpu / floor_cpu, 1.0);
    Ok(Kept {
        floor_cpu,
        all_cpu,
        own_cpu: of(&kept, |one| one.own_cpu),
        floor_per_second: of(&floors, |one| one.per_second),
        per_second: of(&kept, |one| one.per_second),
        goals: vec![goal],
    })
}

impl Kept {
    pub(super) fn text(&self) -> String {
        let Self { floor_cpu, all_cpu, own_cpu, floor_per_second, per_second, .. } = self;
        let goals: String = self.goals.iter().map(|goal| format!("{goal}\n")).collect();
        format!(
            "\nkept answers: CPU s per 1,000 {all_cpu:.4} (own {own_cpu:.4}), {per_second:.0}/s; \
             the bare proxy {floor_cpu:.4}, {floor_per_second:.0}/s\n{goals}"
        )
    }
}

/// As the organisation's own key.
async fn turn_on(target: &Target) -> anyhow::Result<()> {
    let stream = TcpStream::connect(target.address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = http::Request::put("/api/v1/cache")
        .header("host", target.address.to_string())
        .header("content-type", "application/json")
        .header("authorization", target.authorization.clone())
        .body(Full::new(bytes::Bytes::from_static(br#"{"enabled": true}"#)))?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("{status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(())
    };
    tokio::select! {
        answer = exchange => answer.context("turning kept answers on"),
        ended = connection => bail!("the facade closed the connection: {ended:?}"),
    }
}
