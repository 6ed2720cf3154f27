//! Kills one thing after another in the middle of a replay, and holds the books against what the provider really served.

mod verdict;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use tokio::sync::Notify;
use weir_proto::billing::v1::{CalendarUnit, CalendarWindow, Limit, OnFailure, Window, window};

use crate::books;
use crate::client::Ending;
use crate::deployment::{Deployment, Mode, Options};
use crate::load::{self, Outcome, Plan};
use crate::prices::Prices;
use crate::replay::{Speed, Workload};
use crate::report::say;
use crate::tenants::{Tenant, UNLIMITED};
use crate::trace::{Row, Trace};
pub use verdict::Verdict;

/// Everything that is killed. Redis loses its data too.
pub const VICTIMS: [&str; 8] = ["facade", "ai-broker", "quota", "usage", "billing", "auth", "redis", "postgres"];

/// The provider is slow enough that the kill meets requests in each of their stages.
const PROVIDER: [&str; 4] = ["--latency-ms", "30", "--chunk-ms", "1"];
/// Leases end and are taken over soon, so that a run takes seconds instead of a minute.
const SHORT_LEASES: &str = "[broker]\nlease = \"6s\"\nlease_check = \"1s\"\ntake_over_check = \"1s\"\n";
/// How long the victim stays dead.
const DEAD_FOR: Duration = Duration::from_millis(1_200);
/// How long clients try again what was turned away.
const PATIENCE: Duration = Duration::from_secs(45);
/// Leases end, takers over settle, billing rates: so long after the last answer at most.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);
/// Of the last tenant's expected cost, so much is its budget, in percent.
const BUDGET_PERCENT: i64 = 50;

/// `weir-integration-tests chaos`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The trace to replay.
    #[arg(long, default_value_os_t = Trace::default_path())]
    trace: PathBuf,
    /// How many of its requests each run sends.
    #[arg(long, default_value_t = 1_200)]
    rows: usize,
    /// How many connections the clients hold.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// What to kill; repeatable. Everything, one after another, without it.
    #[arg(long = "victim", value_parser = clap::builder::PossibleValuesParser::new(VICTIMS))]
    victims: Vec<String>,
}

/// One run.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// What was killed.
    pub victim: String,
    /// Answers that came completely, were refused, broke off.
    pub complete: usize,
    /// Answers with an HTTP error, among them the refusals of the small budget.
    pub refused: usize,
    /// Answers that broke off.
    pub broken: usize,
    /// Requests that were turned away and sent again.
    pub retries: usize,
    /// Answers that came while the victim was dead.
    pub meanwhile: usize,
    /// The requests that did not come completely or not at once, by status and reason.
    pub reasons: BTreeMap<String, usize>,
    /// From the last answer until everything was settled and rated.
    pub settled_after_seconds: f64,
    /// The comparison of the books with the provider's.
    #[serde(flatten)]
    verdict: Verdict,
    /// Whether quota, usage and billing agree with each other.
    pub audit: bool,
}

impl Run {
    /// Whether nothing is missing, doubled, wrong or overspent, and no client was told of a defect of ours.
    #[must_use]
    pub fn clean(&self) -> bool {
        let defects = self.reasons.keys().any(|reason| reason.starts_with("500 "));
        self.audit && self.verdict.clean() && !defects
    }

    /// The comparison of the books with the provider's.
    #[must_use]
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }
}

/// Runs them all. Answers whether every run is clean.
///
/// # Errors
/// Something does not come up again, or does not settle.
pub async fn run(args: &Args) -> anyhow::Result<bool> {
    let rows = rows(Trace::read(&args.trace)?, args.rows);
    let victims: Vec<&str> =
        if args.victims.is_empty() { VICTIMS.to_vec() } else { args.victims.iter().map(String::as_str).collect() };
    let mut runs = Vec::new();
    for victim in victims {
        let run =
            kill(victim, &rows, args.connections).await.with_context(|| format!("the run that kills {victim}"))?;
        say(describe(&run))?;
        runs.push(run);
    }
    let clean = runs.iter().all(Run::clean);
    say(serde_json::to_string(&serde_json::json!({"runs": runs, "clean": clean}))?)?;
    Ok(clean)
}

/// So many rows; a short trace goes round.
fn rows(trace: Trace, count: usize) -> Vec<Row> {
    trace.rows.iter().copied().cycle().take(count).collect()
}

/// One run in a deployment of its own: a kill in the middle of a replay, and a restart a moment later.
///
/// # Errors
/// Something does not come up again, or does not settle.
pub async fn kill(victim: &str, rows: &[Row], connections: usize) -> anyhow::Result<Run> {
    let options = Options {
        provider_args: PROVIDER.map(str::to_owned).to_vec(),
        more_config: SHORT_LEASES.to_owned(),
        ..Options::new(Mode::Separate)
    };
    let mut deployment = Deployment::start(options).await?;
    let run = kill_in(&mut deployment, victim, rows, connections).await;
    match run {
        Ok(run) => {
            deployment.stop().await?;
            Ok(run)
        }
        Err(error) => {
            let kept = deployment.keep_logs();
            Err(error.context(format!("the logs are in {}", kept.display())))
        }
    }
}

async fn kill_in(deployment: &mut Deployment, victim: &str, rows: &[Row], connections: usize) -> anyhow::Result<Run> {
    let prices = deployment.prices().await?;
    let (tenants, budget) = tenants(deployment, rows, &prices).await?;
    let workload = Workload::new(rows, &tenants, Speed::Max)?;
    let (answered, quarter) = (Cell::new(0), Notify::new());
    let progress = |_: &_| {
        answered.set(answered.get() + 1);
        if answered.get() == rows.len() / 4 {
            quarter.notify_one();
        }
    };
    let plan = Plan { address: deployment.facade(), connections, requests: rows.len(), patience: PATIENCE };
    let load = load::send(plan, |n| workload.request(n), |_| None, progress);
    let murder = async {
        quarter.notified().await;
        deployment.kill9(victim).await?;
        let before = answered.get();
        tokio::time::sleep(DEAD_FOR).await;
        let meanwhile = answered.get() - before;
        deployment.restart(victim).await.map(|()| meanwhile)
    };
    let (outcome, murder) = tokio::join!(load, murder);
    let meanwhile = murder?;
    deployment.ready().await?;
    let settled = books::settle(&deployment.siblings, SETTLED_WITHIN).await?;
    let audited = deployment.audit().await?;
    if !audited.clean {
        say(&audited.text)?;
    }
    let served = deployment.provider.served().await?;
    let recorded = books::events(&deployment.siblings).await?;
    let verdict = Verdict::of(&served, &recorded, &prices, &tenants[tenants.len() - 1].organization, budget)?;
    Ok(Run { meanwhile, ..count(victim, &outcome, settled, verdict, audited.clean) })
}

/// Two tenants without bounds, and one whose budget ends in the middle.
async fn tenants(deployment: &Deployment, rows: &[Row], prices: &Prices) -> anyhow::Result<(Vec<Tenant>, i64)> {
    let siblings = &deployment.siblings;
    let mut tenants = vec![
        Tenant::create(siblings, "First", UNLIMITED, Vec::new()).await?,
        Tenant::create(siblings, "Second", UNLIMITED, Vec::new()).await?,
    ];
    let third = Tenant::create(siblings, "Third", UNLIMITED, Vec::new()).await?;
    tenants.push(third.clone());
    let expected = {
        let workload = Workload::new(rows, &tenants, Speed::Max)?;
        let mut cost = 0;
        for (number, row) in rows.iter().enumerate().filter(|(number, _)| number % tenants.len() == tenants.len() - 1) {
            let (input, output) = (i64::try_from(row.input)?, i64::try_from(row.output)?);
            cost += prices.request(workload.model(number), input, output)?.cost_nano_usd;
        }
        cost
    };
    let budget = expected * BUDGET_PERCENT / 100;
    third.subscribe(siblings, UNLIMITED, vec![monthly_budget(budget)]).await?;
    Ok((tenants, budget))
}

/// A hard limit on money in a calendar month, in place of the plan's.
#[must_use]
pub fn monthly_budget(amount: i64) -> Limit {
    let month = CalendarWindow { unit: CalendarUnit::Month.into(), time_zone: "UTC".to_owned() };
    Limit {
        name: "budget".to_owned(),
        scope: "organization".to_owned(),
        unit: "nano_usd".to_owned(),
        amount,
        window: Some(Window { kind: Some(window::Kind::Calendar(month)) }),
        on_failure: OnFailure::Closed.into(),
        alert_percents: Vec::new(),
    }
}

fn count(victim: &str, outcome: &Outcome, settled: Duration, verdict: Verdict, audit: bool) -> Run {
    let ended = |as_one: fn(&Ending) -> bool| outcome.answers.iter().filter(|(.., one)| as_one(&one.ending)).count();
    let mut reasons = outcome.turned_away.clone();
    for (.., observed) in outcome.answers.iter().filter(|(.., observed)| observed.ending != Ending::Complete) {
        *reasons.entry(observed.reason()).or_default() += 1;
    }
    Run {
        victim: victim.to_owned(),
        meanwhile: 0,
        reasons,
        complete: ended(|ending| *ending == Ending::Complete),
        refused: ended(|ending| matches!(ending, Ending::Refused(_))),
        broken: ended(|ending| matches!(ending, Ending::Broken(_) | Ending::Unreachable(_))),
        retries: outcome.retries(),
        settled_after_seconds: settled.as_secs_f64(),
        verdict,
        audit,
    }
}

fn describe(run: &Run) -> String {
    let Run { victim, complete, refused, broken, retries, meanwhile, settled_after_seconds, verdict, audit, .. } = run;
    let reasons: String = run.reasons.iter().map(|(reason, times)| format!("    {times} x {reason}\n")).collect();
    let books = if *audit { "quota, usage and billing agree" } else { "quota, usage and billing DISAGREE" };
    format!(
        "killed {victim}: {complete} complete ({meanwhile} answers while it was dead), {refused} refused, {broken} broken off, \
         {retries} sent again; settled after {settled_after_seconds:.1} s; {books}\n{reasons}{verdict}"
    )
}
