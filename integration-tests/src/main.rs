//! `replay`, `bench` and `chaos`: what `make` calls, each with a report and an exit code that says whether it is good.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use weir_integration_tests::{bench, chaos, floor, quota, replay, streams};

/// Weir as a whole, from outside.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send a recorded hour through the public API, and hold everybody's books against the file.
    Replay(replay::Args),
    /// Measure what Weir costs, beside a bare reverse proxy and others.
    Bench(bench::Args),
    /// Kill one thing after another in the middle of a replay, and hold the books against what the provider served.
    Chaos(chaos::Args),
    /// Hold thousands of streams open on one broker, and see what it needs for them.
    Streams(streams::Args),
    /// The quota engine alone: does it ever sell more than there is, or less, whatever is killed?
    #[command(subcommand)]
    Quota(quota::Args),
    /// The bare reverse proxy of the bench.
    #[command(hide = true)]
    Floor(floor::Args),
    /// The bare RPC server of the bench.
    #[command(hide = true)]
    Echo(bench::EchoArgs),
}

/// 0: good. 1: not. 2: it could not be found out.
fn main() -> ExitCode {
    match measure() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn measure() -> anyhow::Result<bool> {
    let cli = Cli::parse();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            good = run(&cli.command) => good,
            // What was started ends with this program.
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        }
    })
}

async fn run(command: &Command) -> anyhow::Result<bool> {
    match command {
        Command::Replay(args) => replay::run(args).await,
        Command::Bench(args) => bench::run(args).await,
        Command::Chaos(args) => chaos::run(args).await,
        Command::Streams(args) => streams::run(args).await,
        Command::Quota(args) => quota::run(args).await,
        Command::Floor(args) => floor::run(args).await.map(|()| true),
        Command::Echo(args) => bench::echo(args).await.map(|()| true),
    }
}
