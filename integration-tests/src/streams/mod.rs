//! Thousands of streams on one broker: what it needs for each, and that it does not need more the longer they are.

mod crowd;

use std::time::Duration;

use anyhow::{Context, bail};

use crate::chat::Chat;
use crate::client::Request;
use crate::deployment::{Deployment, Mode, Options};
use crate::process::{most_resident_bytes, resident_bytes};
use crate::report::say;
use crate::tenants::{Tenant, UNLIMITED};

pub use crowd::Crowd;

/// Beside the streams' own connections, what a process has open.
const OTHER_FILES: usize = 500;
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
const MEBIBYTE: f64 = 1_048_576.0;

/// `weir-integration-tests streams`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Streams that are open at once.
    #[arg(long, default_value_t = 5_000)]
    open: usize,
    /// The most memory that the broker's process may ever have, in MiB.
    #[arg(long, default_value_t = 1_024)]
    within: u64,
    /// For how long they are held open once all of them are.
    #[arg(long, default_value_t = 30)]
    hold_secs: u64,
    /// Time between two tokens of a stream.
    #[arg(long, default_value_t = 2_000)]
    chunk_ms: u64,
}

/// Opens the streams and looks at the broker's memory; whether it stayed within its bound.
///
/// # Errors
/// There are not enough files, something does not start, or a stream breaks off.
pub async fn run(args: &Args) -> anyhow::Result<bool> {
    enough_files(args.open)?;
    let more_config = "[broker]\ndrain = \"1s\"\n".to_owned();
    let deployment = Deployment::start(Options { more_config, ..Options::new(Mode::Separate) }).await?;
    let broker = deployment.pid("ai-broker").context("the broker's process")?;
    let tenant = Tenant::create(&deployment.siblings, "Streams", UNLIMITED, Vec::new()).await?;
    let paced = request(&tenant, &format!("output_tokens=100000,chunk_ms={}", args.chunk_ms))?;
    let mebibytes = |bytes: u64| bytes as f64 / MEBIBYTE;

    let before = resident_bytes(broker);
    say(format!("the broker at rest: {:.0} MiB", mebibytes(before)))?;
    let mut crowd = Crowd::open(deployment.facade(), &paced, args.open).await?;
    let open = resident_bytes(broker);
    let each = open.saturating_sub(before) as f64 / args.open as f64 / 1_024.0;
    say(format!("{} open streams: {:.0} MiB, {each:.0} KiB a stream", args.open, mebibytes(open)))?;
    are_at_the_broker(&deployment, args.open).await?;
    tokio::time::sleep(Duration::from_secs(args.hold_secs)).await;
    crowd.are_open()?;
    let (held, most) = (resident_bytes(broker), most_resident_bytes(broker));
    let heard = crowd.heard() / 1_024;
    say(format!("after {} s and {heard} KiB more: {:.0} MiB", args.hold_secs, mebibytes(held)))?;
    drop(crowd);
    books_balance(&deployment).await?;
    let good = most <= args.within << 20;
    let verdict = if good { "within" } else { "beyond" };
    say(format!("at most {:.0} MiB: {verdict} {} MiB; the books balance", mebibytes(most), args.within))?;
    deployment.stop().await?;
    Ok(good)
}

/// Waits until every stream that was left is accounted for.
async fn books_balance(deployment: &Deployment) -> anyhow::Result<()> {
    let until = tokio::time::Instant::now() + SETTLED_WITHIN;
    loop {
        let wrong = match deployment.audit().await {
            Ok(audited) if audited.clean => return Ok(()),
            Ok(audited) => audited.text,
            Err(error) => format!("{error:#}"),
        };
        if tokio::time::Instant::now() > until {
            bail!("the books do not balance {SETTLED_WITHIN:?} after the streams: {wrong}");
        }
    }
}

/// A streamed chat of about a kilobyte.
///
/// # Errors
/// The tenant's secret is no header value.
pub fn request(tenant: &Tenant, simulate: &str) -> anyhow::Result<Request> {
    let body = Chat { model: "gpt-4o-mini", input: 256, output: 64, streamed: true, simulate }.body();
    let authorization = tenant.authorization()?;
    Ok(Request { path: "/v1/chat/completions", authorization, body, streamed: true, headers: Vec::new() })
}

/// Holds the broker's own count against it.
///
/// # Errors
/// The broker does not answer, or has fewer under way.
pub async fn are_at_the_broker(deployment: &Deployment, count: usize) -> anyhow::Result<()> {
    let status = deployment.siblings.broker().get_status(weir_proto::broker::v1::GetStatusRequest {}).await?;
    let under_way = status.into_inner().in_flight;
    if usize::try_from(under_way)? < count {
        bail!("the broker has {under_way} of {count} streams under way");
    }
    Ok(())
}

/// Each stream is a connection of four processes, this one included; they inherit its limit.
fn enough_files(streams: usize) -> anyhow::Result<()> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).context("/proc/self/limits")?;
    let limit = line.split_whitespace().next().unwrap_or_default();
    let is_enough = limit == "unlimited" || limit.parse::<usize>()? >= streams + OTHER_FILES;
    if !is_enough {
        bail!("a process may have only {limit} files open: `ulimit -n {}` first", streams + OTHER_FILES);
    }
    Ok(())
}
