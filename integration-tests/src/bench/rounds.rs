//! Alternating rounds over all targets, and their medians.

use std::collections::BTreeMap;

use serde::Serialize;

use super::measure::{Api, Load, Measured, Offer, measure, send};
use super::target::Target;
use crate::latency::{Quantiles, median};
use crate::report::say;

pub(super) const DIRECT: &str = "provider directly";
pub(super) const FLOOR: &str = "bare proxy";
pub(super) const ONE: &str = "weir, one process";
pub(super) const SEPARATE: &str = "weir, separate";

const MODEL: &str = "gpt-4o-mini";
const CONNECTIONS: usize = 64;
/// Requests a second of the steady rounds, far below what any of ours can do: what is measured is work, not waiting.
const STEADY_RATE: f64 = 500.0;
/// Streams a second of the paced rounds: each lasts half a second.
const PACED_RATE: f64 = 120.0;
/// Requests on the one connection.
const ALONE: usize = 400;
/// A target that is slower than this per answer, by far, gets fewer requests: nobody waits an hour for a peer.
const SLOW_PER_SECOND: f64 = 1_000.0;

/// One target's medians.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Medians {
    /// The target.
    pub name: String,
    /// Plain requests on 64 connections, as many as are answered.
    pub plain: Measured,
    /// Plain requests on one connection.
    pub alone: Measured,
    /// Streams on one connection.
    pub alone_streamed: Measured,
    /// Plain requests on 64 connections at a steady rate.
    pub steady: Measured,
    /// Streams of 50 chunks on 64 connections.
    pub streamed: Measured,
    /// The same at the pace of a fast model, about 64 at a time.
    pub paced: Measured,
}

#[derive(Default)]
struct Rounds {
    plain: Vec<Measured>,
    alone: Vec<Measured>,
    alone_streamed: Vec<Measured>,
    steady: Vec<Measured>,
    streamed: Vec<Measured>,
    paced: Vec<Measured>,
}

/// Warms every target up, then measures them in turn.
pub(super) async fn run(targets: &[Target], rounds: usize, requests: usize) -> anyhow::Result<Vec<Medians>> {
    let offer =
        |load, connections, requests, rate| Offer { load, api: Api::Chat, connections, requests, rate, model: MODEL };
    let mut paces = BTreeMap::new();
    for target in targets {
        send(target, offer(Load::Streamed, 8, 40, None)).await?;
        let warm = send(target, offer(Load::Plain, 8, 100, None)).await?;
        paces.insert(target.name.clone(), 100.0 / warm.took.as_secs_f64());
    }
    let mut all: BTreeMap<&str, Rounds> = BTreeMap::new();
    for number in 0..rounds {
        say(format!("round {} of {rounds}", number + 1))?;
        // Every other round goes backwards: what follows whom shall not matter.
        let mut order: Vec<&Target> = targets.iter().collect();
        if number % 2 == 1 {
            order.reverse();
        }
        for target in order {
            let slow = paces[&target.name] < SLOW_PER_SECOND / 4.0;
            let scale = |requests: usize| if slow { requests / 20 } else { requests }.max(20);
            let rate = if slow { paces[&target.name] / 4.0 } else { STEADY_RATE };
            let into = all.entry(&target.name).or_default();
            into.plain.push(measure(target, offer(Load::Plain, CONNECTIONS, scale(requests), None)).await?);
            into.streamed.push(measure(target, offer(Load::Streamed, CONNECTIONS, scale(requests / 4), None)).await?);
            into.alone.push(measure(target, offer(Load::Plain, 1, scale(ALONE), None)).await?);
            into.alone_streamed.push(measure(target, offer(Load::Streamed, 1, scale(ALONE / 2), None)).await?);
            let paced = offer(Load::Paced, 2 * CONNECTIONS, scale(requests / 8), Some(PACED_RATE.min(rate)));
            into.paced.push(measure(target, paced).await?);
            into.steady.push(measure(target, offer(Load::Plain, CONNECTIONS, scale(requests / 2), Some(rate))).await?);
        }
    }
    let medians = |target: &Target| {
        let rounds = all.remove(target.name.as_str()).unwrap_or_default();
        Medians {
            name: target.name.clone(),
            plain: middle(&rounds.plain),
            alone: middle(&rounds.alone),
            alone_streamed: middle(&rounds.alone_streamed),
            steady: middle(&rounds.steady),
            streamed: middle(&rounds.streamed),
            paced: middle(&rounds.paced),
        }
    };
    Ok(targets.iter().map(medians).collect())
}

/// The median of each figure by itself.
fn middle(rounds: &[Measured]) -> Measured {
    let of = |figure: &dyn Fn(&Measured) -> f64| median(rounds.iter().map(figure));
    let quantiles = |which: &dyn Fn(&Measured) -> Quantiles| Quantiles {
        p50: of(&|one| which(one).p50),
        p95: of(&|one| which(one).p95),
        p99: of(&|one| which(one).p99),
        max: of(&|one| which(one).max),
    };
    Measured {
        per_second: of(&|one| one.per_second),
        own_cpu: of(&|one| one.own_cpu),
        all_cpu: of(&|one| one.all_cpu),
        turned_away: rounds.iter().map(|one| one.turned_away).sum(),
        total: quantiles(&|one| one.total),
        first_byte: quantiles(&|one| one.first_byte),
    }
}
