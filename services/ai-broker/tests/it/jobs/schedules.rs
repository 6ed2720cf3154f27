//! Jobs that are created at times.

use std::time::Duration;

use weir_proto::broker::v1::{
    CreateScheduleRequest, DeleteScheduleRequest, Job, JobState, ListSchedulesRequest, Schedule, schedule,
};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Failure;
use weir_types::names;

use super::{House, one_step};
use crate::scene::Scene;

async fn create(scene: &Scene, schedule: Schedule) -> Result<Schedule, Failure> {
    let request = CreateScheduleRequest { parent: names::organization(&scene.organization), schedule: Some(schedule) };
    let answer = scene.jobs.clone().create_schedule(scene.bearer.request(request)).await;
    answer.map(tonic::Response::into_inner).map_err(Failure::from)
}

fn every_second(job: Job) -> Schedule {
    let every = prost_types::Duration { seconds: 1, nanos: 0 };
    Schedule { job: Some(job), pace: Some(schedule::Pace::Every(every)), ..Schedule::default() }
}

#[tokio::test]
async fn a_schedule_creates_a_job_at_each_of_its_times_until_it_is_deleted() {
    let House { scene, .. } = &House::new().await;
    let schedule = create(scene, every_second(one_step(""))).await.unwrap();
    scene.eventually("two times have come", async |scene| scene.listed(JobState::Complete).await.len() >= 2).await;
    assert!(scene.listed(JobState::Complete).await.iter().all(|job| job.schedule == schedule.name));
    let parent = names::organization(&scene.organization);
    let list = ListSchedulesRequest { parent, ..ListSchedulesRequest::default() };
    let listed = scene.jobs.clone().list_schedules(scene.bearer.request(list.clone())).await.unwrap().into_inner();
    assert_eq!(listed.schedules.iter().map(|one| &one.name).collect::<Vec<_>>(), [&schedule.name]);
    let delete = DeleteScheduleRequest { name: schedule.name };
    scene.jobs.clone().delete_schedule(scene.bearer.request(delete.clone())).await.unwrap();
    let listed = scene.jobs.clone().list_schedules(scene.bearer.request(list)).await.unwrap().into_inner();
    assert!(listed.schedules.is_empty());
    assert!(scene.jobs.clone().delete_schedule(scene.bearer.request(delete)).await.is_err());
    let count = scene.listed(JobState::Unspecified).await.len();
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert_eq!(scene.listed(JobState::Unspecified).await.len(), count);
}

#[tokio::test]
async fn work_for_a_feature_that_the_plan_does_not_include_is_refused_when_it_is_asked_for() {
    let House { mut scene, _database } = House::new().await;
    // An organisation whose plan has not been asked for yet.
    (scene.organization, scene.bearer) = (scene.strange, scene.stranger.clone());
    *scene.siblings.features.lock() = vec!["interview".into()];
    let of = |feature: &str| Job { feature: feature.into(), ..one_step("") };
    let refused = scene.try_create(of("coaching"), "").await.unwrap_err();
    assert_eq!(refused.reason(), ErrorReason::FeatureNotAllowed);
    let refused = create(&scene, every_second(of("coaching"))).await.unwrap_err();
    assert_eq!(refused.reason(), ErrorReason::FeatureNotAllowed);
    assert_eq!(scene.try_create(of("a b"), "").await.unwrap_err().fields()[0].subject, "job.feature");
    let job = scene.create(of("interview")).await;
    assert_eq!(scene.reaches(&job.name, JobState::Complete).await.feature, "interview");
    let schedule = create(&scene, every_second(of("interview"))).await.unwrap();
    assert_eq!(schedule.job.unwrap().feature, "interview");
    let reserved = scene.siblings.reserved.lock();
    let of_call = |one: &weir_proto::quota::v1::ReserveRequest| one.subject.clone().unwrap().labels["feature"].clone();
    assert!(!reserved.is_empty() && reserved.values().map(of_call).all(|feature| feature == "interview"));
}

#[tokio::test]
async fn a_schedule_that_can_not_be_kept_is_refused() {
    let House { scene, .. } = &House::with(weir_simulator::Options::default(), "jobs.schedules = 1").await;
    let cron = |pattern: &str, zone: &str| Schedule {
        job: Some(one_step("")),
        pace: Some(schedule::Pace::Cron(pattern.into())),
        time_zone: zone.into(),
        ..Schedule::default()
    };
    for (wrong, field) in [
        (cron("every day", ""), "schedule.cron"),
        (cron("0 0 30 2 *", ""), "schedule.cron"),
        (cron("0 9 * * *", "Mars/Base"), "schedule.time_zone"),
        (Schedule { pace: None, ..cron("", "") }, "schedule.pace"),
        (every_second(Job::default()), "job.steps"),
    ] {
        assert_eq!(create(scene, wrong).await.unwrap_err().fields()[0].subject, field);
    }
    let kept = create(scene, cron("0 9 * * MON-FRI", "Europe/Berlin")).await.unwrap();
    assert_eq!(kept.time_zone, "Europe/Berlin");
    assert!(create(scene, cron("@daily", "")).await.unwrap_err().message().contains("at most 1"));
}
