//! One measurement of one target.

use std::time::Duration;

use anyhow::bail;
use serde::Serialize;

use super::target::Target;
use crate::chat::Chat;
use crate::client::{Ending, Request};
use crate::latency::Quantiles;
use crate::load::{self, Outcome, Plan};

/// Of the plain requests: about a kilobyte in, a paragraph out.
const INPUT: u64 = 256;
const OUTPUT: u64 = 64;
/// Of the streams, as in the table of rivals.
const CHUNKS: u64 = 50;
/// Of the paced streams: so they last half a second each.
const PACE: &str = "chunk_ms=10";
/// After a round, so long for what goes on behind the answers: batches, ratings. Its CPU time counts.
const AFTERMATH: Duration = Duration::from_millis(700);

/// How long a request that is turned away is tried again.
const PATIENCE: Duration = Duration::from_secs(10);

/// A kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// Plain chat requests.
    Plain,
    /// Streams of 50 chunks.
    Streamed,
    /// The same at the pace of a fast model.
    Paced,
}

/// Whose words a request is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    /// OpenAI's chat completions.
    Chat,
    /// Anthropic's messages.
    Messages,
}

/// What a round measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Measured {
    /// Answers per second.
    pub per_second: f64,
    /// CPU seconds of the target's own processes per 1,000 requests.
    pub own_cpu: f64,
    /// CPU seconds of everything that the target runs per 1,000 requests.
    pub all_cpu: f64,
    /// Requests that were turned away and sent again; the latencies are those of the last attempt.
    pub turned_away: f64,
    /// Whole answers.
    pub total: Quantiles,
    /// First bytes.
    pub first_byte: Quantiles,
}

/// How a load is offered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    /// What.
    pub load: Load,
    /// In whose words.
    pub api: Api,
    /// How many connections.
    pub connections: usize,
    /// How many requests.
    pub requests: usize,
    /// So many a second, or as many as are answered.
    pub rate: Option<f64>,
    /// The model asked for.
    pub model: &'static str,
}

/// Sends a load to a target. Any answer that is not complete ends the bench: there is nothing to compare then.
///
/// # Errors
/// A request failed.
pub(super) async fn measure(target: &Target, offer: Offer) -> anyhow::Result<Measured> {
    let before = target.cpu();
    let outcome = send(target, offer).await?;
    if !target.own.is_empty() {
        tokio::time::sleep(AFTERMATH).await;
    }
    let cpu = target.cpu().per_thousand(before, offer.requests);
    Ok(Measured {
        per_second: offer.requests as f64 / outcome.took.as_secs_f64(),
        own_cpu: cpu.own,
        all_cpu: cpu.all,
        turned_away: outcome.retries() as f64,
        total: Quantiles::of(outcome.answers.iter().map(|(.., observed)| observed.total)),
        first_byte: Quantiles::of(outcome.answers.iter().map(|(.., observed)| observed.first_byte)),
    })
}

/// Sends a load without looking at the CPU.
///
/// # Errors
/// A request failed.
pub(super) async fn send(target: &Target, offer: Offer) -> anyhow::Result<Outcome> {
    let streamed = offer.load != Load::Plain;
    let output = if streamed { CHUNKS } else { OUTPUT };
    let simulate = if offer.load == Load::Paced { PACE } else { "" };
    let chat = Chat { model: offer.model, input: INPUT, output, streamed, simulate };
    let (path, body) = match offer.api {
        Api::Chat => ("/v1/chat/completions", chat.body()),
        Api::Messages => ("/v1/messages", chat.message()),
    };
    let authorization = target.authorization.clone();
    let request = Request { path, authorization, body, streamed, headers: target.headers.clone() };
    let due = |number: usize| offer.rate.map(|rate| Duration::from_secs_f64(number as f64 / rate));
    let plan =
        Plan { address: target.address, connections: offer.connections, requests: offer.requests, patience: PATIENCE };
    let outcome = load::send(plan, |_| request.clone(), due, |_| ()).await;
    if let Some((.., failed)) = outcome.answers.iter().find(|(.., observed)| observed.ending != Ending::Complete) {
        let failures = outcome.answers.iter().filter(|(.., observed)| observed.ending != Ending::Complete).count();
        bail!(
            "{}: {failures} requests failed, the first with status {}: {:?}",
            target.name,
            failed.status,
            failed.ending
        );
    }
    Ok(outcome)
}
