//! The quota engine alone, by real processes over one Postgres and one Redis: does it ever sell more than there is, or less,
//! whatever is killed, and how soon is it whole again?

pub mod abandon;
pub mod accuracy;
pub mod calls;
pub mod fleet;
pub mod kills;
pub mod limits;
pub mod oversell;
pub mod rebuild;

use clap::Subcommand;

/// `weir-integration-tests quota`.
#[derive(Debug, Clone, Subcommand)]
pub enum Args {
    /// Many clients at once against budgets that fit exactly so many requests, at 1, 2 and 4 processes.
    Oversell(oversell::Args),
    /// The same, while a quota process, the clients, or Redis are killed.
    Kills(kills::Args),
    /// Processes by limits by loads: what is admitted must be the lesser of limit and load.
    Accuracy(accuracy::Args),
    /// How long it takes until every counter is back after Redis has lost them all.
    Rebuild(rebuild::Args),
    /// Reserves and commits until it is killed; says on standard output what it did.
    #[command(hide = true)]
    Abandon(abandon::Args),
}

/// Runs one of them. Answers whether all is as it must be.
///
/// # Errors
/// Something does not start, or does not come to an end.
pub async fn run(args: &Args) -> anyhow::Result<bool> {
    match args {
        Args::Oversell(args) => oversell::run(args).await,
        Args::Kills(args) => kills::run(args).await,
        Args::Accuracy(args) => accuracy::run(args).await,
        Args::Rebuild(args) => rebuild::run(args).await,
        Args::Abandon(args) => abandon::run(args).await.map(|()| true),
    }
}
