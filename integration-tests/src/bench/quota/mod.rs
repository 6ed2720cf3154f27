//! Reservations beside the least that they could cost: Redis alone, and an RPC server that does nothing.

mod alone;
mod echo;
mod load;
mod many;
mod plan;
mod raw;
mod row;
mod summary;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use crate::deployment::{Deployment, Mode, Options};
use crate::process::{Process, Program, line_after};
use crate::report::say;
use crate::tenants::Tenant;
pub use echo::{Args as EchoArgs, run as echo};
use load::Client;
use row::{Figures, Pids};
use summary::Names;
pub(super) use summary::Summary;

/// Calls of one load, and of one that sends them one at a time.
const CALLS: usize = 20_000;
const ALONE: usize = 1_000;
/// Reservations of a stream or of batches.
const MANY: usize = 50_000;
const AT_ONCE: usize = 64;
const TENANTS: usize = 64;
/// How Redis is asked by itself: so many connections, so many commands at once on each.
const CONNECTIONS: usize = 8;

/// The rows, in the order in which they are first measured, each with its rounds.
#[derive(Default)]
struct Rows(Vec<String>, BTreeMap<String, Vec<Figures>>);

impl Rows {
    fn push(&mut self, name: impl Into<String>, figures: Figures) {
        let name = name.into();
        if !self.1.contains_key(&name) {
            self.0.push(name.clone());
        }
        self.1.entry(name).or_default().push(figures);
    }

    fn append(&mut self, Self(names, mut rounds): Self) {
        for name in names {
            for figures in rounds.remove(&name).unwrap_or_default() {
                self.push(name.clone(), figures);
            }
        }
    }

    fn medians(self) -> Vec<(String, Figures)> {
        let Self(names, rounds) = self;
        let middle = |name: String| {
            let figures = Figures::middle(rounds.get(&name).map_or(&[], Vec::as_slice));
            (name, figures)
        };
        names.into_iter().map(middle).collect()
    }
}

/// Measures in turn, so many rounds.
///
/// # Errors
/// Something does not start, or a reservation is not made.
pub(super) async fn measure(rounds: usize) -> anyhow::Result<Summary> {
    say("reservations beside Redis alone and an RPC server that does nothing")?;
    let dir = tempfile::Builder::new().prefix("weir-bench-").tempdir()?;
    let plans = dir.path().join("plans.toml");
    std::fs::write(&plans, plan::file())?;
    let with_redis = start(&plans, "").await?;
    let in_memory = start(&plans, "[quota]\nstore = \"memory\"\n").await?;
    let echo = start_echo(dir.path()).await?;
    let redis = Reserving::new(summary::REDIS, &with_redis, with_redis.redis_pid()).await?;
    let memory = Reserving::new(summary::MEMORY, &in_memory, None).await?;
    let echo = Reserving {
        client: with_redis.siblings_with("quota", echo.address)?.quota(),
        pids: Pids { server: echo.process.pid(), redis: None },
        tenants: redis.tenants.clone(),
        names: Names { unary: summary::ECHO, alone: summary::ECHO_ALONE, ..summary::REDIS },
        _process: Some(echo.process),
    };
    let address = raw::address(with_redis.redis_url())?;
    let mut rows = Rows::default();
    for round in 0..=rounds {
        let mut into = Rows::default();
        measure_redis(&mut into, address, redis.pids).await?;
        echo.calls(&mut into).await?;
        for one in [&redis, &memory] {
            one.calls(&mut into).await?;
            one.spread(&mut into).await?;
            one.streamed(&mut into).await?;
            one.batched(&mut into).await?;
        }
        // The first one warms up.
        if round > 0 {
            rows.append(into);
        }
    }
    drop(echo);
    with_redis.stop().await?;
    in_memory.stop().await?;
    say("the scripts alone, and the engine alone")?;
    Ok(Summary::new(rows.medians(), alone::scripts().await?, alone::engine().await?))
}

async fn start(plans: &Path, more: &str) -> anyhow::Result<Deployment> {
    let more_config = format!("[billing]\nplans = [\"{}\"]\ndefault_plan = \"bench\"\n{more}", plans.display());
    // What is measured is the work: on a machine that is busy with other things, waiting is not taken for an outage.
    let env = vec![("WEIR_REDIS__DEADLINE".to_owned(), "2s".to_owned())];
    Deployment::start(Options { more_config, env, durable: true, ..Options::new(Mode::Separate) }).await
}

async fn measure_redis(rows: &mut Rows, redis: SocketAddr, pids: Pids) -> anyhow::Result<()> {
    let pids = Pids { server: None, ..pids };
    for (name, count, connections, depth) in
        [(summary::SET, MANY, CONNECTIONS, AT_ONCE / CONNECTIONS), (summary::ROUND_TRIP, ALONE, 1, 1)]
    {
        let commands = raw::sets(count);
        let before = pids.cpu();
        let (took, times) = raw::send(redis, &commands, connections, depth).await?;
        rows.push(name, Figures::of(count, took, times, before, pids.cpu()));
    }
    Ok(())
}

/// A server of reservations.
struct Reserving {
    names: Names,
    client: Client,
    pids: Pids,
    tenants: Vec<Tenant>,
    _process: Option<Process>,
}

impl Reserving {
    async fn new(names: Names, deployment: &Deployment, redis: Option<u32>) -> anyhow::Result<Self> {
        let mut tenants = Vec::with_capacity(TENANTS);
        for number in 0..TENANTS {
            tenants
                .push(Tenant::create(&deployment.siblings, &format!("Bench {number}"), plan::PLAN, Vec::new()).await?);
        }
        let client = deployment.siblings_as("ai-broker")?.quota();
        let pids = Pids { server: deployment.pid("quota"), redis };
        Ok(Self { names, client, pids, tenants, _process: None })
    }

    /// One tenant's calls.
    async fn calls(&self, rows: &mut Rows) -> anyhow::Result<()> {
        self.unary(rows, self.names.unary, &self.tenants[..1], CALLS, AT_ONCE).await?;
        self.unary(rows, self.names.alone, &self.tenants[..1], ALONE, 1).await
    }

    /// Those of many tenants.
    async fn spread(&self, rows: &mut Rows) -> anyhow::Result<()> {
        self.unary(rows, self.names.spread, &self.tenants, CALLS, AT_ONCE).await
    }

    async fn unary(
        &self,
        rows: &mut Rows,
        name: &str,
        tenants: &[Tenant],
        count: usize,
        at_once: usize,
    ) -> anyhow::Result<()> {
        let requests = load::requests(tenants, count);
        let before = self.pids.cpu();
        let sent = load::unary(&self.client, requests, at_once).await?;
        rows.push(name, Figures::of(count, sent.took, sent.times, before, self.pids.cpu()));
        Ok(())
    }

    async fn streamed(&self, rows: &mut Rows) -> anyhow::Result<()> {
        let requests = load::requests(&self.tenants[..1], MANY);
        let before = self.pids.cpu();
        let sent = many::streamed(&self.client, requests).await?;
        rows.push(self.names.stream, Figures::of(MANY, sent.took, sent.times, before, self.pids.cpu()));
        Ok(())
    }

    /// In batches, and then given back in batches.
    async fn batched(&self, rows: &mut Rows) -> anyhow::Result<()> {
        let requests = load::requests(&self.tenants[..1], CALLS);
        let before = self.pids.cpu();
        let sent = many::batched(&self.client, requests).await?;
        rows.push(self.names.batch, Figures::of(CALLS, sent.took, sent.times, before, self.pids.cpu()));
        let before = self.pids.cpu();
        let ended = many::release(&self.client, sent.held).await?;
        rows.push(self.names.settle, Figures::of(CALLS, ended.took, ended.times, before, self.pids.cpu()));
        Ok(())
    }
}

struct Echo {
    process: Process,
    address: SocketAddr,
}

/// This program again, as the bare RPC server.
async fn start_echo(dir: &Path) -> anyhow::Result<Echo> {
    let program = Program {
        name: "echo".to_owned(),
        path: std::env::current_exe().context("this program")?,
        args: vec!["echo".to_owned()],
        env: Vec::new(),
        log: dir.join("echo.log"),
    };
    let mut process = program.start()?;
    for _ in 0..500 {
        if let Some(address) = line_after(&program.log, echo::ANNOUNCEMENT) {
            return Ok(Echo { process, address: address.parse()? });
        }
        process.check()?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("the echo does not come up:\n{}", program.last_words())
}
