//! Budgets through `kill -9`: of a quota process, of clients, of Redis with and without its data.

mod load;
mod orphans;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tokio::time::sleep;
use weir_proto::billing::v1::Limit;
use weir_proto::quota::v1::{ListSettlementsRequest, Settlement};
use weir_types::{OrganizationId, names};

use super::fleet::Fleet;
use super::limits::{CONCURRENT, MONEY, REQUEST, TOKENS, concurrent, day, fitting, limit, month, rolling_day};
use crate::report::say;
use load::Load;

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Victim {
    /// One of the quota processes.
    Quota,
    /// Processes of clients, between Reserve and Commit.
    Clients,
    /// Redis; its data is gone.
    Redis,
    /// Redis; what it had written to disk comes back.
    RedisKept,
    /// Nothing is killed, but the clients are so many.
    Nobody,
}

impl Victim {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Nobody, Self::Quota, Self::Clients, Self::Redis, Self::RedisKept];
}

/// `weir-integration-tests quota kills`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What is killed; repeatable. Everything, one after another, without it.
    #[arg(long = "victim", value_enum)]
    pub victims: Vec<Victim>,
    /// How often each is killed at each number of processes; each time with a new organisation.
    #[arg(long, default_value_t = 50)]
    pub runs: usize,
    /// Clients at once.
    #[arg(long, default_value_t = 200)]
    pub clients: usize,
    /// How many calls the budget fits.
    #[arg(long, default_value_t = 600)]
    pub fits: usize,
    /// How many quota processes, one after another.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4])]
    pub processes: Vec<usize>,
}

/// Short enough that a run takes seconds; clients announce their leases several times meanwhile.
pub const QUICK: &str =
    "[quota.rebuild]\nwindow = \"1500ms\"\ncheck_every = \"100ms\"\n[quota.slices]\nlease = \"1s\"\n";
/// How many calls may be under way in the limit of concurrency.
const AT_ONCE: usize = 90;

/// What one run is about.
#[derive(Debug, Clone)]
pub struct Run {
    /// What is killed.
    pub victim: Victim,
    /// How many calls the budget fits.
    pub fits: usize,
    /// Clients at once.
    pub clients: usize,
    /// This executable, for processes of clients.
    pub program: PathBuf,
}

/// Runs them all. Answers whether each run ended with exactly what fits in the books.
///
/// # Errors
/// Something does not start, does not answer, or does not come to an end.
pub async fn run(args: &Args) -> anyhow::Result<bool> {
    let victims = if args.victims.is_empty() { Victim::ALL.to_vec() } else { args.victims.clone() };
    let mut good = true;
    for victim in victims {
        let mut fleet = Fleet::start(0, victim == Victim::RedisKept, QUICK).await?;
        for &processes in &args.processes {
            fleet.grow(processes).await?;
            let run = Run { victim, fits: args.fits, clients: args.clients, program: std::env::current_exe()? };
            let mut wrong = 0;
            for number in 0..args.runs {
                let faults = once(&mut fleet, &run).await.with_context(|| format!("{victim:?}, run {number}"));
                let faults = match faults {
                    Ok(faults) => faults,
                    Err(error) => {
                        let kept = fleet.keep_logs();
                        return Err(error.context(format!("the logs are in {}", kept.display())));
                    }
                };
                wrong += usize::from(!faults.is_empty());
                for fault in faults {
                    say(format!("  {victim:?}, {processes} processes, run {number}: {fault}"))?;
                }
            }
            say(format!("{victim:?} with {processes} quota processes, {} runs: {wrong} wrong", args.runs))?;
            good &= wrong == 0;
        }
        fleet.stop().await?;
    }
    Ok(good)
}

/// One run with a new organisation, and a kill in its middle; what was wrong.
///
/// # Errors
/// Somebody does not come up again, or does not answer.
pub async fn once(fleet: &mut Fleet, run: &Run) -> anyhow::Result<Vec<String>> {
    let tenant = fleet.tenant(limits(run.fits)).await?;
    let mut faults = Vec::new();
    let paid = if run.victim == Victim::Clients {
        orphans::run(fleet, run, tenant, &mut faults).await?
    } else {
        let load = Load::new(fleet.clients(), tenant);
        let harm = async {
            // Most of what is left is held by calls under way: whoever forgets them sells it again.
            load.reached(run.fits.saturating_sub(AT_ONCE * 4 / 3)).await;
            harm(fleet, run.victim).await
        };
        let (done, harmed) = tokio::join!(load.run(run.clients), harm);
        done.and(harmed)?;
        fleet.ready().await?;
        if load.most_at_once() > AT_ONCE {
            faults.push(format!("{} calls under way where {AT_ONCE} may be", load.most_at_once()));
        }
        if load.paid().len() != run.fits {
            faults.push(format!("the last refusal: {}", load.last_refusal()));
        }
        load.paid()
    };
    if paid.len() != run.fits {
        faults.push(format!("{} calls passed where {} fit", paid.len(), run.fits));
    }
    books(fleet, &tenant, &paid, &mut faults).await?;
    Ok(faults)
}

/// Only what is durable bounds what passes: of short windows a loss of Redis forgets what was counted.
fn limits(fits: usize) -> Vec<Limit> {
    vec![
        fitting("money", MONEY, fits, month()),
        fitting("money-in-a-day", MONEY, fits + 3, rolling_day()),
        fitting("requests", REQUEST, fits + 7, day()),
        fitting("tokens", TOKENS, fits + 1, rolling_day()),
        limit("at-once", CONCURRENT.0, i64::try_from(AT_ONCE).unwrap_or(i64::MAX), concurrent()),
    ]
}

/// What each call asks for, all of which it uses.
const ASKED: [(&str, i64); 4] = [MONEY, REQUEST, TOKENS, CONCURRENT];

async fn harm(fleet: &mut Fleet, victim: Victim) -> anyhow::Result<()> {
    const DEAD_FOR: Duration = Duration::from_millis(400);
    match victim {
        Victim::Nobody | Victim::Clients => {}
        Victim::Quota => {
            let one = usize::from(fleet.len() > 1);
            fleet.kill_quota(one).await?;
            sleep(DEAD_FOR).await;
            fleet.restart_quota(one)?;
        }
        Victim::Redis | Victim::RedisKept => {
            fleet.kill_redis();
            if victim == Victim::Redis {
                fleet.lose_data();
            }
            sleep(DEAD_FOR).await;
            fleet.restart_redis().await?;
        }
    }
    Ok(())
}

/// Holds the books against what the clients know to have paid for.
async fn books(
    fleet: &Fleet,
    tenant: &OrganizationId,
    paid: &[String],
    faults: &mut Vec<String>,
) -> anyhow::Result<()> {
    let settled = settlements(fleet, tenant).await?;
    let committed = settled.values().filter(|one| !one.released).count();
    if committed != paid.len() {
        faults.push(format!("{committed} are committed where {} were paid", paid.len()));
    }
    for id in paid {
        match settled.get(id) {
            Some(one) if !one.released => {
                let whole = one.amounts.iter().filter(|amount| ASKED.contains(&(amount.unit.as_str(), amount.value)));
                if whole.count() != ASKED.len() {
                    faults.push(format!("{id} is in the books with {:?}", one.amounts));
                }
            }
            other => faults.push(format!("{id} was paid and is {other:?}")),
        }
    }
    let money = fleet.balance(tenant, "money").await?;
    let expected = MONEY.1 * i64::try_from(paid.len())?;
    if (money.used, money.held) != (expected, 0) {
        faults.push(format!("money: {} used, {} held, not {expected} and 0", money.used, money.held));
    }
    let status = fleet.status().await?;
    if status.held != 0 || !status.drifts.is_empty() {
        faults.push(format!("the audit: {} held, {:?}", status.held, status.drifts));
    }
    Ok(())
}

async fn settlements(fleet: &Fleet, tenant: &OrganizationId) -> anyhow::Result<BTreeMap<String, Settlement>> {
    let request = ListSettlementsRequest { organization: names::organization(tenant), after: String::new() };
    let mut client = fleet.clients().swap_remove(0);
    let mut pages = client.list_settlements(request).await?.into_inner();
    let mut settled = BTreeMap::new();
    while let Some(page) = pages.message().await? {
        settled.extend(page.settlements.into_iter().map(|one| (one.reservation_id.clone(), one)));
    }
    Ok(settled)
}
