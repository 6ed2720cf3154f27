//! How many jobs a broker carries out in a second: for a release build, by hand.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::json;
use weir_proto::broker::v1::{Job, JobState, Operation, job_step};
use weir_simulator::Options;

use super::{House, invoke};

/// Jobs in all, and how many are created at once.
const JOBS: usize = 20_000;
const AT_ONCE: usize = 512;

/// `cargo test --release -p weir-ai-broker --test it -- --ignored --nocapture jobs_per_second`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn jobs_per_second() {
    let settings = "max_unsettled = 100000\njobs.concurrency = 1024\njobs.lease = \"60s\"";
    let House { scene, .. } = &House::with(Options::default(), settings).await;
    let mut step = invoke("one", &json!({"model": "sim-small", "input": "one two three"}));
    if let Some(job_step::Action::Invoke(invoke)) = &mut step.action {
        invoke.operation = Operation::Embeddings.into();
    }
    let job = Job { steps: vec![step], ..Job::default() };
    for _ in 0..3 {
        let before = scene.answered();
        let (began, cpu) = (Instant::now(), cpu_seconds());
        let created = futures::stream::iter(0..JOBS).map(|_| scene.create(job.clone())).buffer_unordered(AT_ONCE);
        let names: Vec<String> = created.map(|job| job.name).collect().await;
        let created = began.elapsed();
        while scene.answered() < before + JOBS {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The one that was created last is among the last to end.
        for name in names.iter().rev().take(50) {
            scene.reaches(name, JobState::Complete).await;
        }
        let (took, used) = (began.elapsed(), cpu_seconds() - cpu);
        #[expect(clippy::cast_precision_loss, reason = "few")]
        let jobs = JOBS as f64;
        eprintln!(
            "{:.0} jobs/s (created in {:.1} s, all done after {:.1} s); {:.2} CPU s per 1,000 with the client, the siblings and the provider",
            jobs / took.as_secs_f64(),
            created.as_secs_f64(),
            took.as_secs_f64(),
            used * 1000.0 / jobs,
        );
    }
}

/// Of this process, which has everything but Postgres.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u32 = fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap();
    f64::from(ticks) / 100.0
}
