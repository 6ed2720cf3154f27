//! Processes of clients are killed between Reserve and Commit: what they held expires, is taken over, and is settled.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::time::{Instant, sleep};
use weir_proto::quota::v1::settle::Action;
use weir_proto::quota::v1::{CommitRequest, TakeOverRequest};
use weir_types::{OrganizationId, names};

use super::super::abandon::{COMMITTED, RESERVED};
use super::super::calls::{Calls, Decision, commit, request};
use super::super::fleet::Fleet;
use super::super::limits::amounts;
use super::{ASKED, Run, settlements};
use crate::process::{Process, Program};

/// Of the clients' leases, in seconds.
const LEASE: u64 = 5;
const PROCESSES: usize = 4;
const WITHIN: Duration = Duration::from_secs(60);

/// Answers every call that is in the books as used.
pub(super) async fn run(
    fleet: &Fleet,
    run: &Run,
    tenant: OrganizationId,
    faults: &mut Vec<String>,
) -> anyhow::Result<Vec<String>> {
    let mut processes: Vec<Process> =
        (0..PROCESSES).map(|number| start(fleet, run, &tenant, number)).collect::<Result<_, _>>()?;
    let until = Instant::now() + WITHIN;
    while said(&processes, COMMITTED)?.len() < run.fits / 3 {
        if Instant::now() > until {
            bail!("the clients get nowhere");
        }
        sleep(Duration::from_millis(5)).await;
    }
    for process in &mut processes {
        process.kill9().await?;
    }
    let (reserved, committed) = (said(&processes, RESERVED)?, said(&processes, COMMITTED)?);
    for process in &processes {
        std::fs::remove_file(&process.program().log)?;
    }

    // Nobody gets what the dead held before it is settled; whoever asks meanwhile gets only what is left.
    let calls = Calls::new(fleet.clients());
    let meanwhile = top_up(&calls, &tenant).await?;
    let taken = take_over(fleet, &calls, &tenant).await?;
    let later = top_up(&calls, &tenant).await?;
    let settled = settlements(fleet, &tenant).await?;
    // Who is killed when his commit is durable and the fast store did not answer in time does not ask again: until it is taken over
    // such a call counts as committed and as held. Never less than once, and once in the end.
    let known: BTreeSet<&String> =
        taken.iter().filter(|id| settled.get(*id).is_some_and(|one| !one.released && !one.estimated)).collect();
    if later > known.len() {
        faults.push(format!("{later} calls passed after the take-over that had not fitted before it"));
    }
    for id in &reserved {
        if settled.get(id).is_none_or(|one| one.released) {
            faults.push(format!("{id} was reserved by a client that died, and is {:?}", settled.get(id)));
        }
    }
    for id in &committed {
        if settled.get(id).is_none_or(|one| one.estimated) {
            faults.push(format!("{id} was committed by a client that died later, and is {:?}", settled.get(id)));
        }
    }
    for id in taken.iter().filter(|id| !known.contains(id)) {
        if settled.get(id).is_none_or(|one| !one.estimated) {
            faults.push(format!("{id} was taken over, and is {:?}", settled.get(id)));
        }
    }
    let estimated = settled.values().filter(|one| one.estimated).count();
    if estimated + known.len() != taken.len() || taken.is_empty() {
        faults.push(format!("{} were taken over, and {estimated} are estimated, {} known", taken.len(), known.len()));
    }
    if meanwhile == 0 {
        faults.push("the clients had used everything before they were killed: nothing is proved".to_owned());
    }
    Ok(settled.into_values().filter(|one| !one.released).map(|one| one.reservation_id).collect())
}

fn start(fleet: &Fleet, run: &Run, tenant: &OrganizationId, number: usize) -> anyhow::Result<Process> {
    let addresses: Vec<String> = fleet.addresses().iter().map(ToString::to_string).collect();
    let asked: Vec<String> = ASKED.iter().map(|(unit, amount)| format!("{unit}={amount}")).collect();
    let args = [
        "quota",
        "abandon",
        "--quota",
        &addresses.join(","),
        "--master-key",
        &fleet.master_key_file().display().to_string(),
        "--organization",
        &names::organization(tenant),
        "--amounts",
        &asked.join(","),
        "--clients",
        &(run.clients / PROCESSES).to_string(),
        "--lease",
        &LEASE.to_string(),
    ]
    .map(str::to_owned);
    let log = fleet.master_key_file().with_file_name(format!("clients-{number}.log"));
    Program { name: "clients".to_owned(), path: run.program.clone(), args: args.to_vec(), env: Vec::new(), log }.start()
}

/// The ids in the whole lines that begin so.
fn said(processes: &[Process], beginning: &str) -> anyhow::Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for process in processes {
        let text = std::fs::read_to_string(&process.program().log).context("what the clients said")?;
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        ids.extend(whole.lines().filter_map(|line| line.strip_prefix(beginning)).map(str::to_owned));
    }
    Ok(ids)
}

/// Uses what is left of the budget; answers how many calls passed.
async fn top_up(calls: &Calls, tenant: &OrganizationId) -> anyhow::Result<usize> {
    let mut passed = 0;
    let until = Instant::now() + WITHIN;
    loop {
        let request = request(tenant, &amounts(&ASKED), Duration::from_secs(60));
        match calls.reserve(&request).await? {
            Decision::Admitted(reserved) => {
                calls.settle(vec![Action::Commit(commit(&request, &reserved))]).await?;
                passed += 1;
            }
            // The places of those who died come free when their leases end.
            Decision::Refused(failure)
                if failure.violations().len() == 1 && failure.figure("at-once", "cap").is_some() =>
            {
                if Instant::now() > until {
                    bail!("places stay taken: {failure}");
                }
                sleep(Duration::from_millis(50)).await;
            }
            Decision::Refused(_) => return Ok(passed),
        }
    }
}

/// Takes over and settles until nothing is held; answers what was taken over, each once.
async fn take_over(fleet: &Fleet, calls: &Calls, tenant: &OrganizationId) -> anyhow::Result<BTreeSet<String>> {
    let mut taken = BTreeSet::new();
    let until = Instant::now() + WITHIN;
    while fleet.status().await?.held > 0 {
        if Instant::now() > until {
            bail!("reservations stay held: {:?}", fleet.status().await?);
        }
        let message = TakeOverRequest { max: 1_000, lease: Some(prost_types::Duration { seconds: 60, nanos: 0 }) };
        let (answer, _) = calls.until_answered(&message, async |mut to, message| to.take_over(message).await).await?;
        let expired = answer.map_err(|failure| anyhow::anyhow!("take-over: {failure}"))?.reservations;
        let mut commits = Vec::new();
        for one in expired.into_iter().filter(|one| one.organization == names::organization(tenant)) {
            if !taken.insert(one.reservation_id.clone()) {
                bail!("{} was taken over twice", one.reservation_id);
            }
            commits.push(Action::Commit(CommitRequest {
                reservation_id: one.reservation_id,
                organization: one.organization,
                handle: one.handle,
                actuals: one.amounts,
                estimated: true,
            }));
        }
        calls.settle(commits).await?;
        sleep(Duration::from_millis(100)).await;
    }
    Ok(taken)
}
