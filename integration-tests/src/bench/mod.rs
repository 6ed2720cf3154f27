//! What Weir costs: beside the provider alone, beside a bare reverse proxy, and if asked, beside others.

mod goal;
mod ingest;
mod kept;
mod measure;
mod memory;
mod peers;
mod quota;
mod rounds;
mod summary;
mod target;
mod translated;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Context;
use http::HeaderValue;

use crate::deployment::{Deployment, Mode, Options};
use crate::floor;
use crate::process::{Process, Program, line_after, weir_executable};
use crate::provider::Provider;
use crate::report::say;
use crate::tenants::{Tenant, UNLIMITED};
pub use quota::{EchoArgs, echo};
use target::Target;

/// `weir-integration-tests bench`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Alternating rounds; the report has their medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Plain requests of one round.
    #[arg(long, default_value_t = 4_000)]
    requests: usize,
    /// Requests after which the memory is looked at the second time; the first time is after a quarter of them. 0 leaves it out.
    #[arg(long, default_value_t = 200_000)]
    memory_requests: usize,
    /// Measure LiteLLM and Portkey too; they are fetched from PyPI and npm.
    #[arg(long, env = "PEERS", value_parser = clap::builder::FalseyValueParser::new(), default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "1")]
    peers: bool,
    /// Measure only this part.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Where the report is written.
    #[arg(long, default_value = "target/bench/report.json")]
    report: PathBuf,
}

/// A part of the bench that can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Reservations beside raw Redis and a bare RPC server.
    Quota,
    /// A kept answer beside the bare proxy.
    Kept,
    /// Translated calls beside those that are passed on.
    Translated,
}

/// Measures, prints a table and writes the report.
///
/// # Errors
/// Something does not start, or a request fails.
pub async fn run(args: &Args) -> anyhow::Result<bool> {
    if args.only == Some(Part::Quota) {
        let quota = quota::measure(args.rounds).await?;
        say(quota.text())?;
        return write(&args.report, &quota);
    }
    let weir = weir_executable()?;
    let dir = tempfile::Builder::new().prefix("weir-bench-").tempdir()?;
    let provider = Rc::new(Provider::start(&weir, dir.path(), &["--log-capacity", "1000"]).await?);
    let floor = start_floor(&provider, dir.path()).await?;
    let options = |mode| Options {
        provider: Some(Rc::clone(&provider)),
        durable: true,
        more_config: kept::ROUTE.to_owned(),
        ..Options::new(mode)
    };
    if args.only == Some(Part::Kept) {
        let one = Deployment::start(options(Mode::One)).await?;
        let (floor, weir) = (floor_target(&floor), weir_target(rounds::ONE, &one).await?);
        let kept = kept::measure_kept(&floor, &weir, &provider, args.rounds, args.requests).await?;
        one.stop().await?;
        say(kept.text())?;
        return write(&args.report, &kept);
    }
    if args.only == Some(Part::Translated) {
        let one = Deployment::start(options(Mode::One)).await?;
        let weir = weir_target(rounds::ONE, &one).await?;
        let translated = translated::measure_translated(&weir, args.rounds, args.requests).await?;
        one.stop().await?;
        say(translated.text())?;
        return write(&args.report, &translated);
    }
    say("starting Weir twice: in one process, and in separate ones")?;
    let one = Deployment::start(options(Mode::One)).await?;
    let separate = Deployment::start(options(Mode::Separate)).await?;

    let mut targets = vec![
        Target {
            name: rounds::DIRECT.to_owned(),
            address: provider.address(),
            authorization: ANYBODY,
            headers: Vec::new(),
            own: Vec::new(),
            stores: Vec::new(),
        },
        floor_target(&floor),
        weir_target(rounds::ONE, &one).await?,
        weir_target(rounds::SEPARATE, &separate).await?,
    ];
    let peers = if args.peers { peers::start(provider.address(), dir.path()).await? } else { Vec::new() };
    targets.extend(peers.iter().map(peers::Peer::target));

    let measured = rounds::run(&targets, args.rounds, args.requests).await?;
    drop(peers);
    let kept = kept::measure_kept(&targets[1], &targets[2], &provider, args.rounds, args.requests).await?;
    let translated = translated::measure_translated(&targets[2], args.rounds, args.requests).await?;
    let tenant = Tenant::create(&one.siblings, "Ingest", UNLIMITED, Vec::new()).await?;
    say("usage beside a bare COPY")?;
    let ingest = ingest::measure(&one.siblings_as("ai-broker")?, one.postgres_url(), &tenant, args.rounds).await?;
    separate.stop().await?;
    let memory = match args.memory_requests {
        0 => None,
        requests => Some(memory::measure(&targets[2], requests).await?),
    };
    one.stop().await?;
    let quota = quota::measure(args.rounds).await?;
    let summary = summary::Summary::new(measured, kept, translated, ingest, memory, quota);
    say(summary.text())?;
    write(&args.report, &summary)
}

fn write(report: &Path, summary: &impl serde::Serialize) -> anyhow::Result<bool> {
    let folder = report.parent().context("the report's folder")?;
    std::fs::create_dir_all(folder)?;
    std::fs::write(report, serde_json::to_vec_pretty(summary)?)?;
    say(format!("written to {}", report.display()))?;
    Ok(true)
}

/// What the provider and the bare proxy take from anybody.
const ANYBODY: HeaderValue = HeaderValue::from_static("Bearer sk-anybody");

fn floor_target(floor: &Floor) -> Target {
    Target {
        name: rounds::FLOOR.to_owned(),
        address: floor.address,
        authorization: ANYBODY,
        headers: Vec::new(),
        own: floor.process.pid().into_iter().collect(),
        stores: Vec::new(),
    }
}

async fn weir_target(name: &str, deployment: &Deployment) -> anyhow::Result<Target> {
    let tenant = Tenant::create(&deployment.siblings, "Bench", UNLIMITED, Vec::new()).await?;
    Ok(Target {
        name: name.to_owned(),
        address: deployment.facade(),
        authorization: tenant.authorization()?,
        headers: Vec::new(),
        own: deployment.pids(),
        stores: deployment.store_pids(),
    })
}

struct Floor {
    process: Process,
    address: std::net::SocketAddr,
}

/// This program again, as the bare proxy.
async fn start_floor(provider: &Provider, dir: &std::path::Path) -> anyhow::Result<Floor> {
    let program = Program {
        name: "floor".to_owned(),
        path: std::env::current_exe()?,
        args: ["floor", "--upstream", &provider.address().to_string()].map(str::to_owned).to_vec(),
        env: Vec::new(),
        log: dir.join("floor.log"),
    };
    let mut process = program.start()?;
    for _ in 0..500 {
        if let Some(address) = line_after(&program.log, floor::ANNOUNCEMENT) {
            return Ok(Floor { process, address: address.parse()? });
        }
        process.check()?;
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    anyhow::bail!("the floor does not come up:\n{}", program.last_words())
}
