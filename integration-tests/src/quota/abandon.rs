//! A process of clients that is there to be killed between Reserve and Commit.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use futures::future::try_join_all;
use weir_config::MasterKey;
use weir_proto::common::v1::Amount;
use weir_proto::quota::v1::settle::Action;
use weir_types::names;

use super::calls::{Calls, Decision, commit, request};
use super::limits;
use crate::report::say;
use crate::siblings::{OPERATOR, Siblings};

/// `weir-integration-tests quota abandon`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where quota processes listen.
    #[arg(long, value_delimiter = ',')]
    pub quota: Vec<SocketAddr>,
    /// The deployment's master key.
    #[arg(long)]
    pub master_key: PathBuf,
    /// `organizations/{organization}`.
    #[arg(long)]
    pub organization: String,
    /// What each request asks for: `unit=amount`.
    #[arg(long, value_delimiter = ',')]
    pub amounts: Vec<String>,
    /// Clients at once.
    #[arg(long)]
    pub clients: usize,
    /// The leases, in seconds.
    #[arg(long)]
    pub lease: u64,
}

/// A line on standard output begins so when a reservation is held.
pub const RESERVED: &str = "reserved ";
/// And so when it is committed.
pub const COMMITTED: &str = "committed ";

/// Goes on until every client was refused, or this process is killed.
///
/// # Errors
/// An argument is malformed, or quota does not answer.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let master = MasterKey::load_or_create(&args.master_key)?;
    let siblings = |address| Siblings::new(&HashMap::from([("quota", address)]), &master, OPERATOR);
    let siblings: Vec<Siblings> = args.quota.iter().map(|address| siblings(*address)).collect::<Result<_, _>>()?;
    let calls = Calls::new(siblings.iter().map(Siblings::quota).collect());
    let organization = names::parse_organization(&args.organization)?;
    let pairs = args.amounts.iter().map(|text| {
        let (unit, amount) = text.split_once('=').unwrap_or((text, "1"));
        Ok((unit, amount.parse::<i64>()?))
    });
    let pairs: Vec<(&str, i64)> = pairs.collect::<anyhow::Result<_>>()?;
    let amounts: Vec<Amount> = limits::amounts(&pairs);
    let client = async |number: usize| {
        loop {
            let request = request(&organization, &amounts, Duration::from_secs(args.lease));
            let Decision::Admitted(reserved) = calls.reserve(&request).await? else {
                return anyhow::Ok(());
            };
            say(format!("{RESERVED}{}", request.reservation_id))?;
            tokio::time::sleep(Duration::from_millis(20 * (number as u64 % 8))).await;
            calls.settle(vec![Action::Commit(commit(&request, &reserved))]).await?;
            say(format!("{COMMITTED}{}", request.reservation_id))?;
        }
    };
    try_join_all((0..args.clients).map(client)).await?;
    Ok(())
}
