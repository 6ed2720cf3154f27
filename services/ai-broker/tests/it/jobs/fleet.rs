//! Many jobs, several brokers, and one that is killed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use weir_proto::broker::v1::{GetJobRequest, Job, JobState, WatchJobRequest};
use weir_simulator::{ApiKey, Fault, Options, Simulator};

use super::{House, QUICK, invoke, one_step};
use crate::database;
use crate::scene::{Scene, chat};

/// Fifteen per window, which is a second instead of a minute.
fn fifteen() -> Options {
    Options { api_keys: vec![ApiKey::limited("sk-one", 15)], rate_window: Duration::from_secs(1), ..Options::default() }
}

#[tokio::test]
async fn fifty_jobs_at_once_on_a_provider_of_fifteen_a_window_all_complete_and_positions_only_fall() {
    let House { scene, .. } = &House::with(fifteen(), "queue.beat = \"20ms\"").await;
    // No room until everybody has been told where he stands.
    let simulate = "status=429,retry_after=0.1".parse().unwrap();
    scene.provider.add_fault(Fault { simulate, ..Fault::default() });
    let jobs = join_all((0..50).map(|_| scene.create(one_step("")))).await;
    let know = AtomicUsize::new(0);
    let watched = jobs.iter().map(|job| async {
        let request = scene.bearer.request(WatchJobRequest { name: job.name.clone(), ..WatchJobRequest::default() });
        let mut stream = scene.jobs.clone().watch_job(request).await.unwrap().into_inner();
        let (mut told, mut knows): (Vec<Job>, bool) = (Vec::new(), false);
        while let Some(next) = stream.message().await.unwrap() {
            let job = next.job.unwrap();
            if job.standing.is_some()
                && !std::mem::replace(&mut knows, true)
                && know.fetch_add(1, Ordering::Relaxed) == 49
            {
                scene.provider.clear_faults();
            }
            told.push(job);
        }
        assert_eq!(told.last().unwrap().state(), JobState::Complete, "{:?}", told.last());
        told.iter().filter_map(|job| Some(job.standing?.position)).collect::<Vec<_>>()
    });
    let positions = join_all(watched).await;
    assert!(positions.iter().all(|told| told.is_sorted_by(|a, b| a >= b)), "{positions:?}");
    assert!(positions.iter().any(|told| told.len() > 1), "{positions:?}");
    assert!(positions.iter().flatten().all(|position| (1..=50).contains(position)), "{positions:?}");
    assert_eq!(scene.answered(), 50, "each was done once");
}

#[tokio::test]
async fn many_jobs_of_one_tenant_do_not_keep_those_of_another_waiting() {
    let House { scene, .. } = &House::with(Options::default(), "jobs.concurrency = 1\njobs.spacing = \"1s\"").await;
    let ours = join_all((0..20).map(|_| scene.create(one_step("latency_ms=50")))).await;
    let request = weir_proto::broker::v1::CreateJobRequest {
        parent: weir_types::names::organization(&scene.strange),
        job: Some(one_step("")),
        ..Default::default()
    };
    let theirs = scene.jobs.clone().create_job(scene.stranger.request(request)).await.unwrap().into_inner();
    let ended = async || {
        let request = GetJobRequest { name: theirs.name.clone(), ..GetJobRequest::default() };
        scene.jobs.clone().get_job(scene.stranger.request(request)).await.unwrap().into_inner().end_time.is_some()
    };
    while !ended().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let complete = scene.listed(JobState::Complete).await.len();
    assert!(complete < 10, "the stranger waited for {complete} of 20");
    for job in ours {
        scene.reaches(&job.name, JobState::Complete).await;
    }
}

/// Two brokers, each in a runtime of its own, so that one can end without a word.
#[test]
fn when_a_broker_is_killed_halfway_every_job_completes_and_no_result_is_made_twice() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (here, there) = (runtime(), runtime());
    // Long enough for a busy machine: whoever lives keeps what he has.
    let settings = format!("{QUICK}\njobs.lease = \"10s\"\njobs.concurrency = 10");
    let (provider, admin) = here.block_on(async {
        (Arc::new(Simulator::start(Options::default()).await.unwrap()), database::database().await)
    });
    let scene = async || Scene::with_jobs(&provider, database::connect(&admin.url).await, &settings).await;
    let survivor = here.block_on(scene());
    let victim = there.block_on(scene());
    let before = here.block_on(async {
        let jobs = join_all((0..60).map(|_| {
            let steps = vec![invoke("one", &chat(1, "latency_ms=40")), invoke("two", &chat(1, "latency_ms=40"))];
            survivor.create(Job { steps, ..Job::default() })
        }));
        let jobs = jobs.await;
        survivor.eventually("half is done", async |_| victim.answered() >= 50).await;
        // Those whose first step is done already.
        let stored = join_all(jobs.iter().map(|job| survivor.job(&job.name))).await;
        there.shutdown_background();
        stored
    });
    here.block_on(async {
        for job in &before {
            let ended = survivor.reaches(&job.name, JobState::Complete).await;
            for (then, now) in job.steps.iter().zip(&ended.steps) {
                let now = now.result.as_ref().unwrap();
                assert!(then.result.as_ref().is_none_or(|then| then == now), "a result was made anew");
            }
        }
        // Each call has a reservation of its own; what the victim had under way was begun anew, and nothing else was.
        let mut calls: HashMap<String, HashSet<String>> = HashMap::new();
        let siblings = [&survivor.siblings, &victim.siblings];
        for reserved in
            siblings.iter().flat_map(|siblings| siblings.reserved.lock().values().cloned().collect::<Vec<_>>())
        {
            let draft: weir_proto::usage::v1::UsageEvent = prost::Message::decode(reserved.context).unwrap();
            let (step, attempt) = draft.request_id.rsplit_once('-').unwrap();
            assert!(calls.entry(step.into()).or_default().insert(attempt.into()), "{} twice", draft.request_id);
        }
        assert_eq!(calls.len(), 120);
        let again = calls.values().map(|attempts| attempts.len() - 1).sum::<usize>();
        assert!(again <= 10, "{again} steps were begun anew, and the victim had at most 10");
    });
}

#[tokio::test]
async fn a_shutdown_hands_its_jobs_on() {
    let admin = database::database().await;
    let provider = Arc::new(Simulator::start(fifteen()).await.unwrap());
    let settings = format!("{QUICK}\njobs.lease = \"1h\"");
    let scene = async || Scene::with_jobs(&provider, database::connect(&admin.url).await, &settings).await;
    let first = scene().await;
    let jobs = join_all((0..25).map(|_| first.create(one_step("")))).await;
    first.eventually("some are done", async |first| first.answered() >= 10).await;
    first.shut_down().await;
    let mut second = scene().await;
    second.adopt(&first);
    for job in jobs {
        second.reaches(&job.name, JobState::Complete).await;
    }
    assert_eq!(second.answered(), 25, "no lease had to end, and nothing was done twice");
}

#[tokio::test]
async fn a_job_that_is_being_taken_when_the_shutdown_begins_is_handed_on() {
    let admin = database::database().await;
    let provider = Arc::new(Simulator::start(Options::default()).await.unwrap());
    let settings = format!("{QUICK}\njobs.lease = \"1h\"");
    let scene = Scene::with_jobs(&provider, database::connect(&admin.url).await, &settings).await;
    let in_an_hour = chrono::Utc::now().timestamp() + 3_600;
    let run_time = Some(prost_types::Timestamp { seconds: in_an_hour, nanos: 0 });
    scene.create(Job { run_time, ..one_step("") }).await;
    // Whoever takes jobs waits for the table, in which the job is ready then.
    let mut held = scene.database.pool().begin().await.unwrap();
    for statement in ["lock table broker.jobs in exclusive mode", "update broker.jobs set state = 1, due_at = now()"] {
        sqlx::query(statement).execute(&mut *held).await.unwrap();
    }
    let taking = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%j.attempt + 1%'
                  and datname = current_database()";
    let taking =
        async |scene: &Scene| sqlx::query_scalar::<_, i64>(taking).fetch_one(scene.database.pool()).await.unwrap() > 0;
    scene.eventually("the job is being taken", taking).await;
    let letting_go = async {
        // Long enough for all who have nothing to do to end.
        tokio::time::sleep(Duration::from_millis(200)).await;
        held.commit().await.unwrap();
    };
    tokio::join!(scene.shut_down(), letting_go);
    let (state, attempt): (i16, i32) =
        sqlx::query_as("select state, attempt from broker.jobs").fetch_one(scene.database.pool()).await.unwrap();
    assert_eq!((state, attempt), (1, 1), "it was taken, and is ready for another broker");
}

#[tokio::test]
async fn a_broker_whose_job_another_one_has_writes_nothing_more() {
    let admin = database::database().await;
    let provider = Arc::new(Simulator::start(Options::default()).await.unwrap());
    // It hears of nothing before it writes.
    let settings = QUICK.replace("beat = \"50ms\"", "beat = \"5s\"");
    let scene = Scene::with_jobs(&provider, database::connect(&admin.url).await, &settings).await;
    let job = scene.create(one_step("latency_ms=500")).await;
    scene.eventually("it is under way", async |scene| !scene.siblings.reserved.lock().is_empty()).await;
    // As if it had been taken for lost, and another broker had it for two seconds and died.
    let taken = "update broker.jobs set attempt = 7, leased_until = now() + interval '2 seconds' where state = 2";
    assert_eq!(sqlx::query(taken).execute(scene.database.pool()).await.unwrap().rows_affected(), 1);
    scene.eventually("the first attempt is answered", async |scene| scene.answered() == 1).await;
    scene.reaches(&job.name, JobState::Complete).await;
    assert_eq!(scene.answered(), 2, "the first attempt's answer was not written");
    let attempt: i32 =
        sqlx::query_scalar("select attempt from broker.jobs").fetch_one(scene.database.pool()).await.unwrap();
    assert_eq!(attempt, 8);
    let together =
        "select r.ended_at = j.ended_at from broker.job_results r join broker.jobs j using (organization_id, job_id)";
    let together: bool = sqlx::query_scalar(together).fetch_one(scene.database.pool()).await.unwrap();
    assert!(together, "the result is the first attempt's");
}
