//! How long it takes until every counter is back after Redis has lost them all, and whether each is right as soon as it answers.

use std::fmt;
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt as _;
use futures::future::try_join_all;
use tokio::time::{Instant, sleep};
use weir_proto::quota::v1::settle::Action;
use weir_proto::quota::v1::{CheckRequest, ExtendRequest, ReserveRequest, ReserveResponse, Subject};
use weir_redis::Redis;
use weir_redis::redis::cmd;
use weir_types::{OrganizationId, UserId, names};

use super::calls::{Calls, Decision, commit, extension, request};
use super::fleet::Fleet;
use super::limits::{MONEY, amounts, limit, month, per_user};
use crate::process::cpu_seconds;
use crate::report::say;

/// What happens to Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Loss {
    /// `FLUSHALL`.
    Flush,
    /// It is stopped and started again, without its data.
    Restart,
    /// `kill -9`, and its data is gone.
    Kill,
}

/// `weir-integration-tests quota rebuild`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Counters in Postgres, one of each user.
    #[arg(long, default_value_t = 1_000_000)]
    pub counters: usize,
    /// Between how many organisations they are shared.
    #[arg(long, default_value_t = 1_000)]
    pub organizations: usize,
    /// Quota processes.
    #[arg(long, default_value_t = 2)]
    pub processes: usize,
    /// Counters that are asked for, from the moment of the loss on.
    #[arg(long, default_value_t = 5_000)]
    pub sample: usize,
    /// Leases that are held throughout.
    #[arg(long, default_value_t = 200)]
    pub leases: usize,
    /// What happens to Redis; one after another.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Loss::Flush, Loss::Restart, Loss::Kill])]
    pub losses: Vec<Loss>,
}

/// What one loss did.
#[derive(Debug, Clone)]
pub struct Report {
    /// Of this kind.
    pub loss: Loss,
    /// From the loss until every counter was in Redis again.
    pub loaded: Duration,
    /// From the loss until each counter of the sample had answered.
    pub answered: Duration,
    /// Of the sample, how many had answers that were not right.
    pub wrong: usize,
    /// Seconds of CPU of all quota processes, and of Redis.
    pub cpu: (f64, f64),
}

/// A counter of the sample.
struct Known {
    organization: OrganizationId,
    user: UserId,
    /// Committed, and held by a lease of this run.
    used: i64,
}

const LEASE: Duration = Duration::from_secs(600);
const WITHIN: Duration = Duration::from_secs(300);
const LIMIT: &str = "per-user";

/// Answers whether all answers were right.
///
/// # Errors
/// Something does not start, or counters do not come back.
pub async fn run(args: &Args) -> anyhow::Result<bool> {
    let mut fleet = Fleet::start(args.processes, false, "").await?;
    let reports = measure(&mut fleet, args).await?;
    let Args { counters, organizations, processes, sample, leases, .. } = args;
    say(format!(
        "{counters} counters of {organizations} organisations, {leases} leases, {processes} processes; {sample} asked for"
    ))?;
    for report in &reports {
        say(report)?;
    }
    fleet.stop().await?;
    Ok(reports.iter().all(|report| report.wrong == 0))
}

/// One loss after another.
///
/// # Errors
/// Somebody does not answer, or counters do not come back.
pub async fn measure(fleet: &mut Fleet, args: &Args) -> anyhow::Result<Vec<Report>> {
    let calls = Calls::new(fleet.clients());
    let (mut sample, leases) = fill(fleet, &calls, args).await?;
    let mut reports = Vec::new();
    for &loss in &args.losses {
        reports.push(lose(fleet, &calls, args, loss, &sample, &leases).await?);
    }
    // The leases end as they began: what was lost in between changes nothing of it.
    let commits = leases.iter().map(|(request, reserved)| Action::Commit(commit(request, reserved)));
    calls.settle(commits.collect()).await?;
    sample.truncate(leases.len());
    let wrong =
        try_join_all(sample.iter().map(|known| right(&calls, known))).await?.iter().filter(|right| !**right).count();
    anyhow::ensure!(wrong == 0, "{wrong} counters are wrong after their leases were settled");
    Ok(reports)
}

/// Makes organisations and their counters, and takes leases on some.
async fn fill(
    fleet: &Fleet,
    calls: &Calls,
    args: &Args,
) -> anyhow::Result<(Vec<Known>, Vec<(ReserveRequest, ReserveResponse)>)> {
    let money = amounts(&[MONEY]);
    for _ in 0..args.organizations {
        let limits = vec![limit("budget", MONEY.0, 1 << 50, month()), per_user(LIMIT, MONEY.0, 1 << 45, month())];
        let organization = fleet.tenant(limits).await?;
        let first = of_user(request(&organization, &money, LEASE), &organization, UserId::new_v7());
        if let Decision::Admitted(reserved) = calls.reserve(&first).await? {
            calls.settle(vec![Action::Commit(commit(&first, &reserved))]).await?;
        }
    }
    let (database, connection) = tokio_postgres::connect(fleet.postgres_url(), tokio_postgres::NoTls).await?;
    let work = async {
        let users = i64::try_from(args.counters / args.organizations)? - 1;
        database
            .execute(
                "insert into quota.counters (organization_id, limit_id, subject, period, committed, version, expires_at)
                 select c.organization_id, c.limit_id, md5(c.organization_id::text || n)::uuid::text, c.period, 1000 + n, 1,
                     c.expires_at
                 from quota.counters c join quota.limits l on l.id = c.limit_id and l.name = $2, generate_series(1, $1::bigint) n",
                &[&users, &LIMIT],
            )
            .await?;
        database.batch_execute("analyze quota.counters").await?;
        let sample = i64::try_from(args.sample)?;
        let rows = database
            .query(
                "select c.organization_id::text, c.subject, c.committed
                 from quota.counters c join quota.limits l on l.id = c.limit_id and l.name = $2 order by random() limit $1",
                &[&sample, &LIMIT],
            )
            .await?;
        rows.iter()
            .map(|row| {
                let (organization, user): (String, String) = (row.get(0), row.get(1));
                Ok(Known { organization: organization.parse()?, user: user.parse()?, used: row.get(2) })
            })
            .collect::<anyhow::Result<Vec<Known>>>()
    };
    let driver = async { connection.await.context("postgres") };
    let mut sample = tokio::select! {
        sample = work => sample?,
        ended = driver => { ended?; anyhow::bail!("postgres has gone") }
    };
    let mut leases = Vec::new();
    for known in sample.iter_mut().take(args.leases) {
        let request = of_user(request(&known.organization, &money, LEASE), &known.organization, known.user);
        if let Decision::Admitted(reserved) = calls.reserve(&request).await? {
            known.used += MONEY.1;
            leases.push((request, reserved));
        }
    }
    Ok((sample, leases))
}

fn of_user(request: ReserveRequest, organization: &OrganizationId, user: UserId) -> ReserveRequest {
    ReserveRequest { subject: Some(subject(organization, user)), ..request }
}

fn subject(organization: &OrganizationId, user: UserId) -> Subject {
    Subject {
        organization: names::organization(organization),
        user: names::user(organization, &user),
        ..Default::default()
    }
}

async fn lose(
    fleet: &mut Fleet,
    calls: &Calls,
    args: &Args,
    loss: Loss,
    sample: &[Known],
    leases: &[(ReserveRequest, ReserveResponse)],
) -> anyhow::Result<Report> {
    let before: f64 = fleet.pids().into_iter().map(cpu_seconds).sum();
    let redis_before = fleet.redis_pid().map_or(0.0, cpu_seconds);
    let began = Instant::now();
    match loss {
        Loss::Flush => {
            let redis = connect(fleet).await?;
            redis.command::<()>(&cmd("FLUSHALL")).await?;
        }
        Loss::Restart => fleet.restart_redis().await?,
        Loss::Kill => {
            fleet.lose_data();
            fleet.restart_redis().await?;
        }
    }
    let redis = connect(fleet).await?;
    let announcing = async {
        let leases: Vec<_> = leases.iter().map(|(request, reserved)| extension(request, reserved)).collect();
        loop {
            for leases in leases.chunks(200) {
                let message = ExtendRequest { leases: leases.to_vec() };
                let (answer, _) = calls.until_answered(&message, async |mut to, ask| to.extend(ask).await).await?;
                answer?;
            }
            sleep(Duration::from_millis(500)).await;
        }
        #[expect(unreachable_code, reason = "names the type")]
        anyhow::Ok(())
    };
    let counting = async {
        while counted(&redis).await? < args.counters {
            anyhow::ensure!(began.elapsed() < WITHIN, "only {} counters are back", counted(&redis).await?);
            sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(began.elapsed())
    };
    let asking = async {
        let mut answers = futures::stream::iter(sample).map(|known| right(calls, known)).buffer_unordered(64);
        let mut wrong = 0;
        while let Some(right) = answers.next().await {
            wrong += usize::from(!right?);
        }
        anyhow::Ok((began.elapsed(), wrong))
    };
    let (loaded, (answered, wrong)) = tokio::select! {
        both = async { tokio::try_join!(counting, asking) } => both?,
        ended = announcing => { ended?; anyhow::bail!("nobody announces") }
    };
    let quota: f64 = fleet.pids().into_iter().map(cpu_seconds).sum::<f64>() - before;
    let redis_before = if loss == Loss::Flush { redis_before } else { 0.0 };
    let redis = fleet.redis_pid().map_or(0.0, cpu_seconds) - redis_before;
    Ok(Report { loss, loaded, answered, wrong, cpu: (quota, redis) })
}

/// Asks whether a request would be admitted until there is an answer; whether it counts on what it must.
async fn right(calls: &Calls, known: &Known) -> anyhow::Result<bool> {
    let ask = CheckRequest { subject: Some(subject(&known.organization, known.user)), amounts: amounts(&[MONEY]) };
    let (answer, _) = calls.until_answered(&ask, async |mut to, ask| to.check(ask).await).await?;
    Ok(answer?.limits.iter().any(|limit| limit.limit == LIMIT && limit.used == known.used))
}

async fn connect(fleet: &Fleet) -> anyhow::Result<Redis> {
    let config = weir_redis::Config {
        url: fleet.redis_url().to_owned().into(),
        cluster: false,
        deadline: Duration::from_secs(5),
        connections: 1,
    };
    Ok(Redis::connect(&config).await?)
}

/// Users whose counters are in Redis.
async fn counted(redis: &Redis) -> anyhow::Result<usize> {
    let keys: Vec<Vec<u8>> = redis.command(cmd("KEYS").arg("wq*:{*}s")).await?;
    let lengths = try_join_all(keys.iter().map(async |key| redis.command::<usize>(cmd("HLEN").arg(key)).await)).await?;
    Ok(lengths.into_iter().sum())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { loss, loaded, answered, wrong, cpu } = self;
        write!(
            f,
            "{loss:?}: every counter back after {:.1} s (CPU: quota {:.1} s, Redis {:.1} s); the sample answered after {:.1} s, {wrong} wrong",
            loaded.as_secs_f64(),
            cpu.0,
            cpu.1,
            answered.as_secs_f64(),
        )
    }
}
