//! Many clients at once against a budget that fits exactly so many of them: exactly so many must pass, whatever is counted and
//! however many processes decide.

use std::time::Duration;

use futures::future::try_join_all;
use weir_proto::quota::v1::settle::Action;
use weir_proto::quota::v1::{ReserveRequest, ReserveResponse};

use super::calls::{Calls, Decision, commit, release, request};
use super::fleet::Fleet;
use super::limits::{Budget, kinds};
use crate::report::say;

/// How many requests a budget fits, from run to run; the last is beyond what rolling windows keep apart one by one.
const FITS: [usize; 4] = [10, 1, 37, 80];
/// Longer than a run.
const LEASE: Duration = Duration::from_secs(120);

/// `weir-integration-tests quota oversell`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Runs per number of processes; each is a new organisation, the kinds of budget take turns.
    #[arg(long, default_value_t = 850)]
    pub runs: usize,
    /// Clients at once.
    #[arg(long, default_value_t = 200)]
    pub clients: usize,
    /// How many quota processes, one after another.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4])]
    pub processes: Vec<usize>,
}

/// Runs them all. Answers whether each run admitted exactly what fits.
///
/// # Errors
/// Something does not start or does not answer.
pub async fn run(args: &Args) -> anyhow::Result<bool> {
    let mut fleet = Fleet::start(0, false, "").await?;
    let mut good = true;
    for &processes in &args.processes {
        fleet.grow(processes).await?;
        let faults = series(&fleet, processes, args.runs, args.clients).await?;
        say(format!(
            "{processes} quota processes, {} clients, {} runs: {} wrong",
            args.clients,
            args.runs,
            faults.len()
        ))?;
        for fault in &faults {
            say(format!("  {fault}"))?;
        }
        good &= faults.is_empty();
    }
    fleet.stop().await?;
    Ok(good)
}

/// So many runs over the first `processes` of the fleet, and the audit at the end; what was wrong.
///
/// # Errors
/// Somebody does not answer.
pub async fn series(fleet: &Fleet, processes: usize, runs: usize, clients: usize) -> anyhow::Result<Vec<String>> {
    let calls = Calls::new(fleet.clients().into_iter().take(processes).collect());
    let mut faults = Vec::new();
    for number in 0..runs {
        let mut kinds = kinds(FITS[number % FITS.len()]);
        let budget = kinds.swap_remove(number % kinds.len());
        if let Some(fault) = one(fleet, &calls, &budget, clients).await? {
            faults.push(format!("run {number}, {} that fit {}: {fault}", budget.name, budget.fits));
        }
    }
    let status = fleet.status().await?;
    if status.held != 0 || !status.drifts.is_empty() {
        faults.push(format!("the books: {} held, {:?}", status.held, status.drifts));
    }
    Ok(faults)
}

/// One run with a new organisation; what was wrong.
///
/// # Errors
/// Somebody does not answer.
pub async fn one(fleet: &Fleet, calls: &Calls, budget: &Budget, clients: usize) -> anyhow::Result<Option<String>> {
    let tenant = fleet.tenant(budget.limits.clone()).await?;
    let storm = async |clients: usize| {
        let requests: Vec<ReserveRequest> = (0..clients).map(|_| request(&tenant, &budget.amounts, LEASE)).collect();
        let decisions = try_join_all(requests.iter().map(|request| calls.reserve(request))).await?;
        let admitted = requests.into_iter().zip(decisions).filter_map(|(request, decision)| match decision {
            Decision::Admitted(reserved) => Some((request, reserved)),
            Decision::Refused(_) => None,
        });
        anyhow::Ok(admitted.collect::<Vec<(ReserveRequest, ReserveResponse)>>())
    };
    let admitted = storm(clients).await?;
    if admitted.len() != budget.fits {
        return Ok(Some(format!("{} of {clients} passed", admitted.len())));
    }
    // Every third is given back: so many pass again, and no more. A place under way is free again after a commit, too.
    let (back, used): (Vec<_>, Vec<_>) = admitted.iter().enumerate().partition(|(place, _)| place % 3 == 0);
    let released = back.iter().map(|(_, (request, reserved))| Action::Release(release(request, reserved)));
    let committed = used.iter().map(|(_, (request, reserved))| Action::Commit(commit(request, reserved)));
    calls.settle(released.chain(committed).collect()).await?;
    let free = budget.free_after(used.len());
    let again = storm(free + 8).await?;
    if again.len() != free {
        return Ok(Some(format!("{} of {} passed again where {free} were free", again.len(), free + 8)));
    }
    calls.settle(again.iter().map(|(request, reserved)| Action::Commit(commit(request, reserved))).collect()).await?;
    for limit in budget.limits.iter().filter(|limit| limit.unit != "concurrent") {
        let each = budget.amounts.iter().find(|amount| amount.unit == limit.unit).map_or(0, |amount| amount.value);
        let expected = each * i64::try_from(used.len() + again.len())?;
        let state = fleet.balance(&tenant, &limit.name).await?;
        if (state.used, state.held) != (expected, 0) {
            return Ok(Some(format!("{}: {} used, {} held, not {expected} and 0", limit.name, state.used, state.held)));
        }
    }
    Ok(None)
}
