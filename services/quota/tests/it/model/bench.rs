//! Two engines on one pair of stores, and what happens to them.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use weir_proto::billing::v1::{AnchoredWindow, CalendarWindow, Limit, window};
use weir_proto::quota::v1::{CounterDrift, ExtendRequest, GetBalanceRequest};
use weir_quota::domain::Millis;
use weir_quota::storage::memory::Store as Memory;
use weir_types::{ManualClock, OrganizationId, names};

use super::client::Play;
use super::history::{History, SUBJECTS, Step, Then};
use super::reference::{self, Scope, Window};
use super::timed::{Cut, TimedRedis};
use crate::billing::{concurrent, lifetime, limit, rolling};
use crate::house::{Client, Engine, House, settings};

/// Long enough for the slowest machine; nothing waits for it otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// What all histories share.
pub(crate) struct Bench {
    pub(crate) house: House,
    store: Fast,
    clocks: [Arc<ManualClock>; 2],
    engines: Mutex<[Engine; 2]>,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let house = House::new().await;
        let store = Fast::Redis(TimedRedis::start(house.redis.url(), 1_790_000_000_000).await);
        Self::over(house, store).await
    }

    /// Over a store in memory, which outlives the engines; nothing breaks between it and them.
    pub(crate) async fn in_memory() -> Self {
        let clock = Arc::new(ManualClock::new(DateTime::UNIX_EPOCH));
        let store = Memory::new(Arc::clone(&clock) as _, 1 << 30, None);
        Self::over(House::new().await, Fast::Memory(store, clock)).await
    }

    async fn over(house: House, store: Fast) -> Self {
        let clocks = [(); 2].map(|()| Arc::new(ManualClock::new(DateTime::UNIX_EPOCH)));
        let engines = [store.engine(&house, &clocks[0]).await, store.engine(&house, &clocks[1]).await];
        Self { house, store, clocks, engines: Mutex::new(engines) }
    }

    pub(crate) async fn client(&self, engine: usize) -> Client {
        self.engines.lock().await[engine].client()
    }

    /// As by `kill -9`, and another one in its place.
    pub(crate) async fn restart(&self, number: usize) {
        let new = self.store.engine(&self.house, &self.clocks[number]).await;
        drop(std::mem::replace(&mut self.engines.lock().await[number], new));
    }

    /// What time it is for the store and, but for their skew, for the engines.
    pub(crate) async fn set_clock(&self, now: Millis, skew: [Millis; 2]) {
        self.store.set(now).await;
        for (clock, skew) in self.clocks.iter().zip(skew) {
            clock.set(DateTime::from_timestamp_millis(now + skew).unwrap());
        }
    }

    /// The store is empty, and both engines have noticed.
    pub(crate) async fn lose(&self, now: Millis) {
        let mut before = 0;
        for engine in 0..2 {
            before = before.max(self.epoch(engine).await);
        }
        self.store.lose(now).await;
        let until = Instant::now() + PATIENCE;
        for engine in 0..2 {
            while self.epoch(engine).await <= before {
                assert!(Instant::now() < until, "the loss was not noticed");
                sleep(Duration::from_millis(5)).await;
            }
        }
    }

    async fn epoch(&self, engine: usize) -> u64 {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.client(engine).await.extend(ExtendRequest { leases: Vec::new() }).await {
                Ok(answer) => return answer.into_inner().epoch,
                Err(status) => assert!(Instant::now() < until, "{status}"),
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Both engines go by this plan.
    async fn set_plan(&self, tenant: OrganizationId, reference: &reference::Reference) {
        let limits: Vec<Limit> = reference.plan().into_iter().map(|(spec, cap)| billed(spec, cap)).collect();
        let mut wanted: Vec<(String, i64)> = limits.iter().map(|limit| (limit.name.clone(), limit.amount)).collect();
        wanted.sort();
        self.house.billing.set(tenant, limits);
        let until = Instant::now() + PATIENCE;
        for engine in 0..2 {
            loop {
                let who = super::wire::subject(tenant, SUBJECTS[0]);
                let answer = self.client(engine).await.get_balance(GetBalanceRequest { subject: Some(who) }).await;
                let states = answer.map(|answer| answer.into_inner().limits).unwrap_or_default();
                let mut known: Vec<(String, i64)> = states.into_iter().map(|state| (state.limit, state.cap)).collect();
                known.sort();
                if known == wanted {
                    break;
                }
                assert!(Instant::now() < until, "{known:?} instead of {wanted:?}");
                sleep(Duration::from_millis(2)).await;
            }
        }
    }

    /// Plays a history with a tenant of its own.
    ///
    /// # Errors
    /// Says where the engine did not do what the reference does.
    pub(crate) async fn play(&self, history: &History) -> Result<(), String> {
        let tenant = OrganizationId::new_v7();
        self.store.cut(None);
        self.set_clock(history.begins, history.skew).await;
        self.lose(history.begins).await;
        let (limits, caps) = history.limits.iter().cloned().unzip();
        let mut play = Play::new(self, tenant, reference::Reference::new(limits, caps, history.begins));
        self.set_plan(tenant, play.reference()).await;
        let mut now = history.begins;
        for (number, step) in history.steps.iter().enumerate() {
            let told = |error: String| format!("step {number}, {step:?}: {error}");
            match step {
                Step::Call { call, engine, trouble } => {
                    self.store.cut(trouble.map(|trouble| trouble.cut));
                    let then = trouble.map_or(Then::AskAgain, |trouble| trouble.then);
                    play.call(call, *engine, then).await.map_err(told)?;
                    self.store.cut(None);
                }
                Step::Clock(by) => {
                    now += by;
                    self.set_clock(now, history.skew).await;
                    play.each(|world| world.set_clock(now));
                }
                Step::Cap { limit, cap } if *limit < history.limits.len() => {
                    let is_concurrent = history.limits[*limit].0.window == Window::Concurrent;
                    let cap = cap.map(|cap| if is_concurrent { cap % 4 } else { cap });
                    play.each(|world| world.set_cap(*limit, cap));
                    self.set_plan(tenant, play.reference()).await;
                }
                Step::Cap { .. } => {}
                Step::Lose { announce } => {
                    self.lose(now).await;
                    play.each(reference::Reference::lose);
                    if *announce {
                        play.announce().await.map_err(told)?;
                    }
                }
                Step::Restart(engine) => self.restart(*engine).await,
            }
            for (place, who) in SUBJECTS.into_iter().enumerate() {
                play.compare(who, (number + place) % 2).await.map_err(told)?;
            }
        }
        // Past all leases, whatever is still held is settled by somebody; then nothing may be left.
        now += 7_200_000;
        self.set_clock(now, history.skew).await;
        play.each(|world| world.set_clock(now));
        play.settle_all().await.map_err(|error| format!("at the end: {error}"))?;
        let status = self.engines.lock().await[0].status().await;
        let ours = names::organization(&tenant);
        let is_ours = |drift: &&CounterDrift| drift.organization == ours && !play.reference().may_drift(&drift.limit);
        let drifts: Vec<_> = status.drifts.iter().filter(is_ours).collect();
        if drifts.is_empty() && status.held == 0 {
            Ok(())
        } else {
            Err(format!("at the end: {} held, {drifts:?}", status.held))
        }
    }
}

/// The fast store.
enum Fast {
    Redis(TimedRedis),
    Memory(Memory, Arc<ManualClock>),
}

impl Fast {
    async fn set(&self, now: Millis) {
        match self {
            Self::Redis(redis) => redis.set(now).await,
            Self::Memory(_, clock) => clock.set(DateTime::from_timestamp_millis(now).unwrap()),
        }
    }

    async fn lose(&self, now: Millis) {
        match self {
            Self::Redis(redis) => redis.lose(now).await,
            Self::Memory(memory, _) => memory.lose(),
        }
    }

    fn cut(&self, cut: Option<Cut>) {
        match self {
            Self::Redis(redis) => redis.cut(cut),
            Self::Memory(..) => {}
        }
    }

    async fn engine(&self, house: &House, clock: &Arc<ManualClock>) -> Engine {
        let mut settings = settings();
        settings.quota.rebuild.window = Duration::from_millis(20);
        settings.quota.rebuild.check_every = Duration::from_millis(20);
        settings.quota.housekeeping.every = Duration::from_secs(3_600);
        match self {
            Self::Redis(redis) => {
                settings.redis.url = redis.url().into();
                house.engine_by(settings, Arc::clone(clock) as _).await
            }
            Self::Memory(memory, _) => house.engine_over(memory.clone().into(), settings, Arc::clone(clock) as _).await,
        }
    }
}

fn billed(spec: &reference::Limit, cap: i64) -> Limit {
    let scope = match spec.scope {
        Scope::Organization => "organization",
        Scope::User => "user",
        Scope::ApiKey => "api_key",
        Scope::Ip => "ip",
        Scope::Feature => "feature",
    };
    let kind = match &spec.window {
        Window::Rolling(length) => rolling(*length),
        Window::Calendar(unit, zone) => {
            window::Kind::Calendar(CalendarWindow { unit: (*unit).into(), time_zone: (*zone).to_owned() })
        }
        Window::Anchored(anchor, zone) => {
            let nanos = i32::try_from(anchor.rem_euclid(1_000)).unwrap() * 1_000_000;
            let anchor = Some(prost_types::Timestamp { seconds: anchor.div_euclid(1_000), nanos });
            window::Kind::Anchored(AnchoredWindow { anchor, time_zone: (*zone).to_owned() })
        }
        Window::Lifetime => lifetime(),
        Window::Concurrent => concurrent(),
    };
    limit(spec.name, scope, spec.unit, cap, kind)
}
