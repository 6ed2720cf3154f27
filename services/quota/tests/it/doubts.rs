//! Requests whose answers are lost: what they took of limits across tenants counts if they were carried out, and only then.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::*;
use weir_types::{Clock as _, OrganizationId, SystemClock};

use crate::house::{Client, Engine, House, amounts, balance, commit, extension, open, release, reserve};
use crate::model::timed::{Cut, TimedRedis};
use crate::shared::{one, shared};

/// Longer than anybody is in doubt.
const PATIENCE: Duration = Duration::from_secs(30);

struct Scene {
    _house: House,
    redis: Arc<TimedRedis>,
    ticking: JoinHandle<()>,
    /// The first over a connection that breaks.
    engines: [Engine; 2],
    alice: OrganizationId,
    bob: OrganizationId,
}

impl Scene {
    /// All tenants together have 20 tokens.
    async fn new(window: &str) -> Self {
        let house = House::new().await;
        let now = || SystemClock.now().timestamp_millis();
        let redis = Arc::new(TimedRedis::start(house.redis.url(), now()).await);
        let clock = Arc::clone(&redis);
        let ticking = tokio::spawn(async move {
            loop {
                clock.set(now()).await;
                sleep(Duration::from_millis(10)).await;
            }
        });
        let settings = || {
            let mut settings = shared(&one("all", "product", "token", "20", window));
            settings.redis.url = redis.url().into();
            settings.quota.slices.wait = Duration::from_millis(200);
            settings
        };
        let first = house.engine_by(settings(), Arc::new(SystemClock)).await;
        first.status().await;
        let engines = [first, house.engine_by(settings(), Arc::new(SystemClock)).await];
        let (alice, bob) = (house.tenant(Vec::new()), house.tenant(Vec::new()));
        Self { _house: house, redis, ticking, engines, alice, bob }
    }

    fn client(&self) -> Client {
        self.engines[0].client()
    }

    /// Asks, and loses the answer to the script of this number among those of Alice's reservations: before the store has it, or
    /// after.
    async fn lose<T>(&self, at: usize, received: bool, answer: impl Future<Output = Result<T, tonic::Status>>) {
        // Nothing grows in the millisecond in which it was made.
        sleep(Duration::from_millis(50)).await;
        let key = self.alice.as_uuid().simple().to_string();
        self.redis.cut_of(&key, Some(Cut { at, received }));
        let answer = answer.await;
        assert!(answer.is_err() && !self.redis.is_due(), "its answer is lost");
    }

    /// Bob takes `amount`, as soon as it is there.
    async fn bob_takes(&self, amount: i64) {
        let until = Instant::now() + PATIENCE;
        while let Err(failure) = open(self.engines[1].client().reserve(reserve(self.bob, &[("token", amount)])).await) {
            assert!(Instant::now() < until, "{failure}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn bob_is_refused(&self, amount: i64) {
        let failure =
            open(self.engines[1].client().reserve(reserve(self.bob, &[("token", amount)])).await).unwrap_err();
        assert!(matches!(failure.reason(), ErrorReason::QuotaExceeded | ErrorReason::BudgetExhausted), "{failure}");
    }

    async fn ends_as(&self, used: i64, held: i64) {
        for engine in &self.engines {
            let until = Instant::now() + PATIENCE;
            loop {
                let state = balance(&mut engine.client(), self.alice, "all").await;
                if (state.used, state.held) == (used, held) {
                    break;
                }
                assert!(Instant::now() < until, "{state:?}");
                sleep(Duration::from_millis(50)).await;
            }
        }
        assert_eq!(self.engines[1].status().await.drifts, []);
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.ticking.abort();
    }
}

fn growth(request: &ReserveRequest, handle: &ReserveResponse, whole: i64) -> ExtendRequest {
    let lease = LeaseExtension { amounts: amounts(&[("token", whole)]), ..extension(request, handle, 30) };
    ExtendRequest { leases: vec![lease] }
}

async fn grown(mut client: Client, request: &ReserveRequest, handle: &ReserveResponse, whole: i64) -> ReserveResponse {
    let until = Instant::now() + PATIENCE;
    loop {
        match open(client.extend(growth(request, handle, whole)).await) {
            Ok(answer) => return answer.grown.unwrap(),
            Err(failure) => assert!(Instant::now() < until && failure.is_transient(), "{failure}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

const WINDOWS: [&str; 2] = ["rolling = '1h'", "calendar = 'day'"];

/// Of the scripts of a growth the first lengthens the lease, the second is the growth.
const GROWTH: usize = 1;

#[tokio::test]
async fn a_growth_that_was_lost_and_is_repeated_with_more_counts_as_what_it_became() {
    for window in WINDOWS {
        let scene = Scene::new(window).await;
        let request = reserve(scene.alice, &[("token", 2)]);
        let handle = scene.client().reserve(request.clone()).await.unwrap().into_inner();
        scene.lose(GROWTH, false, scene.client().extend(growth(&request, &handle, 5))).await;
        // Through either process, while nobody knows what became of the first.
        let whole = grown(scene.engines[0].client(), &request, &handle, 8).await;
        let whole = grown(scene.engines[1].client(), &request, &whole, 9).await;
        scene.bob_takes(11).await;
        scene.bob_is_refused(1).await;
        scene.ends_as(20, 20).await;
        scene.client().commit(commit(&request, &whole, &[("token", 9)])).await.unwrap();
        scene.bob_is_refused(1).await;
        scene.ends_as(20, 11).await;
    }
}

#[tokio::test]
async fn a_growth_that_was_lost_and_is_repeated_elsewhere_is_counted_once() {
    for window in WINDOWS {
        let scene = Scene::new(window).await;
        let request = reserve(scene.alice, &[("token", 2)]);
        let handle = scene.client().reserve(request.clone()).await.unwrap().into_inner();
        scene.lose(GROWTH, false, scene.client().extend(growth(&request, &handle, 5))).await;
        let whole = grown(scene.engines[1].client(), &request, &handle, 5).await;
        scene.bob_takes(15).await;
        scene.bob_is_refused(1).await;
        scene.client().release(release(&request, &whole)).await.unwrap();
        scene.bob_takes(5).await;
        scene.ends_as(20, 20).await;
    }
}

#[tokio::test]
async fn a_growth_that_was_carried_out_counts_although_its_answer_was_lost() {
    for window in WINDOWS {
        let scene = Scene::new(window).await;
        let request = reserve(scene.alice, &[("token", 2)]);
        let handle = scene.client().reserve(request.clone()).await.unwrap().into_inner();
        scene.lose(GROWTH, true, scene.client().extend(growth(&request, &handle, 5))).await;
        scene.bob_is_refused(16).await;
        scene.ends_as(5, 5).await;
        let whole = grown(scene.engines[1].client(), &request, &handle, 6).await;
        scene.bob_takes(14).await;
        scene.bob_is_refused(1).await;
        scene.client().commit(commit(&request, &whole, &[("token", 3)])).await.unwrap();
        scene.bob_takes(3).await;
        scene.ends_as(20, 17).await;
    }
}

#[tokio::test]
async fn a_reservation_that_was_lost_is_free_again_and_counts_when_it_is_made_later() {
    for window in WINDOWS {
        let scene = Scene::new(window).await;
        let request = reserve(scene.alice, &[("token", 5)]);
        scene.lose(0, false, scene.client().reserve(request.clone())).await;
        // Nobody has it.
        let all = reserve(scene.alice, &[("token", 20)]);
        let until = Instant::now() + PATIENCE;
        let taken = loop {
            match open(scene.engines[1].client().reserve(all.clone()).await) {
                Ok(taken) => break taken,
                Err(failure) => assert!(Instant::now() < until, "{failure}"),
            }
            sleep(Duration::from_millis(50)).await;
        };
        scene.client().release(release(&all, &taken)).await.unwrap();
        let handle = open(scene.client().reserve(request.clone()).await).unwrap();
        scene.bob_is_refused(16).await;
        scene.bob_takes(15).await;
        scene.client().commit(commit(&request, &handle, &[("token", 4)])).await.unwrap();
        scene.bob_takes(1).await;
        scene.ends_as(20, 16).await;
    }
}

#[tokio::test]
async fn what_a_process_did_not_know_of_when_it_left_is_found_by_another() {
    for received in [false, true] {
        let scene = Scene::new("calendar = 'day'").await;
        let request = reserve(scene.alice, &[("token", 2)]);
        let handle = scene.client().reserve(request.clone()).await.unwrap().into_inner();
        scene.lose(GROWTH, received, scene.client().extend(growth(&request, &handle, 5))).await;
        scene.engines[0].stop().await;
        let left = if received { 15 } else { 18 };
        scene.bob_takes(left).await;
        scene.bob_is_refused(1).await;
    }
}
