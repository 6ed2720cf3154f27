//! How many jobs a broker carries out in a second: for a release build, by hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::json;
use weir_ai_broker::MIGRATION;
use weir_database::{Database, migrate};
use weir_proto::broker::v1::{Job, JobState, Operation, job_step};
use weir_simulator::{Options, Simulator};
use weir_testing::PostgresServer;

use super::invoke;
use crate::database;
use crate::scene::Scene;

/// Jobs in all, and how many are created at once.
const JOBS: usize = 20_000;
const AT_ONCE: usize = 512;

/// `cargo test --release -p weir-ai-broker --test it -- --ignored --nocapture jobs_per_second`
///
/// On a Postgres of its own that waits for the disk, as the one that other tests share does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn jobs_per_second() {
    let server = PostgresServer::start().await.unwrap();
    migrate(&server.url().to_owned().into(), &database::master(), &[MIGRATION]).await.unwrap();
    let provider = Arc::new(Simulator::start(Options::default()).await.unwrap());
    // Beats as seldom as they are: twenty a second would rewrite each job that is under way as often.
    let settings = "max_unsettled = 100000\njobs.concurrency = 1024";
    let scene = &Scene::with_jobs(&provider, database::connect(server.url()).await, settings).await;
    let mut step = invoke("one", &json!({"model": "sim-small", "input": "one two three"}));
    if let Some(job_step::Action::Invoke(invoke)) = &mut step.action {
        invoke.operation = Operation::Embeddings.into();
    }
    let job = Job { steps: vec![step], ..Job::default() };
    #[expect(clippy::cast_precision_loss, reason = "few")]
    let jobs = JOBS as f64;
    for _ in 0..3 {
        // Counting what was served in full would cost more than serving it.
        let target = provider.stats().charged_requests + JOBS as u64;
        let (began, cpu, commits) = (Instant::now(), cpu_seconds(), commits(&scene.database).await);
        let created = futures::stream::iter(0..JOBS).map(|_| scene.create(job.clone())).buffer_unordered(AT_ONCE);
        let names: Vec<String> = created.map(|job| job.name).collect().await;
        let created = began.elapsed();
        while provider.stats().charged_requests < target {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The one that was created last is among the last to end.
        for name in names.iter().rev().take(50) {
            scene.reaches(name, JobState::Complete).await;
        }
        let (took, used) = (began.elapsed(), cpu_seconds() - cpu);
        // Postgres counts them a second late.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let commits = self::commits(&scene.database).await - commits;
        eprintln!(
            "{:.0} jobs/s (created in {:.1} s, all done after {:.1} s); for 1,000 {:.0} transactions and {:.2} CPU s with the \
             client, the siblings and the provider",
            jobs / took.as_secs_f64(),
            created.as_secs_f64(),
            took.as_secs_f64(),
            commits * 1000.0 / jobs,
            used * 1000.0 / jobs,
        );
    }
}

/// Transactions that Postgres has committed.
async fn commits(database: &Database) -> f64 {
    let commits = "select xact_commit::float8 from pg_stat_database where datname = current_database()";
    sqlx::query_scalar(commits).fetch_one(database.pool()).await.unwrap()
}

/// Of this process, which has everything but Postgres.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u32 = fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap();
    f64::from(ticks) / 100.0
}
