//! Resident memory after many requests, and after four times as many.

use anyhow::Context;
use serde::Serialize;

use super::measure::{Api, Load, Offer, send};
use super::target::Target;
use crate::process::resident_bytes;
use crate::report::say;

/// Resident memory in MiB.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Memory {
    /// Before the first of these requests; the rounds have been.
    pub before: f64,
    /// How many requests came before the next figure.
    pub first_requests: usize,
    /// After a quarter of them.
    pub after_first: f64,
    /// How many requests came in all.
    pub all_requests: usize,
    /// After all of them.
    pub after_all: f64,
}

/// Sends so many requests to Weir in one process; half of them streams.
pub(super) async fn measure(target: &Target, requests: usize) -> anyhow::Result<Memory> {
    let pid = *target.own.first().context("Weir's process")?;
    let mebibytes = || resident_bytes(pid) as f64 / f64::from(1 << 20);
    let first = requests / 4;
    let before = mebibytes();
    say(format!("memory: {first} requests"))?;
    load(target, first).await?;
    let after_first = mebibytes();
    say(format!("memory: {} more", requests - first))?;
    load(target, requests - first).await?;
    Ok(Memory { before, first_requests: first, after_first, all_requests: requests, after_all: mebibytes() })
}

async fn load(target: &Target, requests: usize) -> anyhow::Result<()> {
    // In portions, so that this program's own record of the answers stays small.
    const PORTION: usize = 5_000;
    let mut left = requests;
    while left > 0 {
        let portion = left.min(PORTION);
        let (api, model) = (Api::Chat, "gpt-4o-mini");
        let offer = |load, requests| Offer { load, api, connections: 64, requests, rate: None, model };
        send(target, offer(Load::Plain, portion.div_ceil(2))).await?;
        send(target, offer(Load::Streamed, portion / 2)).await?;
        left -= portion;
    }
    Ok(())
}
