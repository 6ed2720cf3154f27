//! Leases as Redis keeps them, many in one place: who is held, until when, who counts as under way and what is left behind, after
//! any history, beside a list of what was done.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use weir_quota::domain::handle::Draft;
use weir_quota::domain::{
    Amounts, Demand, Limit, Millis, OnFailure, Plan, Scope, Subject, Tuning, Unit, Value, Window, lease,
};
use weir_quota::storage::redis::{Scripts, Store};
use weir_quota::storage::store::{Admission, Applied, Apply, Ending, Extended, Failure, Reserve, Tenant};
use weir_redis::Redis;
use weir_redis::redis::cmd;
use weir_types::{OrganizationId, ReservationId};

use crate::model::timed::{Cut, TimedRedis};

const BEGIN: Millis = 1_790_000_000_000;
/// Lengths of leases: ends of the shorter ones are multiples of finer grains.
const LEASES: [Millis; 4] = [1_000, 1_400, 30_000, 61_000];
const AT_ONCE: u32 = 1;

#[derive(Debug, Clone)]
enum Step {
    /// At once, with these leases.
    Reserve(Vec<usize>),
    /// Some of those that were ever made, each with its lease.
    Extend(Vec<(usize, usize)>),
    Settle(Vec<usize>),
    /// So many at most.
    TakeOver(usize, usize),
    Tick(Millis),
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lease = || 0..LEASES.len();
    let which = || 0..40_usize;
    let step = prop_oneof![
        4 => prop::collection::vec(lease(), 1..6).prop_map(Step::Reserve),
        3 => prop::collection::vec((which(), lease()), 1..6).prop_map(Step::Extend),
        3 => prop::collection::vec(which(), 1..6).prop_map(Step::Settle),
        3 => (1..9_usize, lease()).prop_map(|(most, lease)| Step::TakeOver(most, lease)),
        4 => prop_oneof![1..20_i64, 900..1_600_i64, 20_000..40_000_i64, -2_000..0_i64].prop_map(Step::Tick),
        1 => Just(Step::Sweep),
    ];
    prop::collection::vec(step, 30)
}

#[derive(Debug, Clone, Copy)]
struct Held {
    ends: Millis,
    under_way_until: Millis,
}

struct Bench {
    redis: TimedRedis,
    connection: Redis,
    store: Store,
    scripts: Scripts,
}

struct Play<'a> {
    bench: &'a Bench,
    plan: Plan,
    cap: i64,
    subject: Subject,
    now: Millis,
    /// All that were made.
    made: Vec<ReservationId>,
    held: BTreeMap<ReservationId, Held>,
}

impl Bench {
    async fn new(url: &str) -> Self {
        let redis = TimedRedis::start(url, BEGIN).await;
        let mut config = crate::house::settings().redis;
        config.url = redis.url().into();
        let connection = Redis::connect(&config).await.unwrap();
        let (store, scripts) = (Store::new(connection.clone()), Scripts::new(1));
        store.load(&scripts).await.unwrap();
        Self { redis, connection, store, scripts }
    }

    fn play(&self, cap: i64) -> Play<'_> {
        let limit = |name: &str, unit: &str, cap, window| Limit {
            name: name.to_owned(),
            scope: Scope::Organization,
            unit: Unit::parse(unit),
            cap,
            window,
            on_failure: OnFailure::Closed,
            alert_percents: Vec::new(),
        };
        let limits = [
            limit("at-once", "concurrent", cap, Window::Concurrent),
            limit("rate", "request", 1_000_000, Window::Rolling(60_000)),
        ];
        let plan = Plan::new(1, (AT_ONCE..).zip(limits), Tuning { exact_up_to: 64, buckets: 60 });
        let subject = Subject { organization: OrganizationId::new_v7(), values: Vec::new() };
        Play { bench: self, plan, cap, subject, now: BEGIN, made: Vec::new(), held: BTreeMap::new() }
    }
}

impl Play<'_> {
    async fn step(&mut self, step: &Step) {
        match step {
            Step::Reserve(leases) => self.reserve(leases).await,
            Step::Extend(which) => self.extend(which).await,
            Step::Settle(which) => self.settle(which).await,
            Step::TakeOver(most, lease) => self.take_over(*most, LEASES[*lease]).await,
            Step::Tick(millis) => self.set(self.now + millis).await,
            Step::Sweep => drop(self.sweep().await),
        }
    }

    async fn set(&mut self, now: Millis) {
        self.now = now;
        self.bench.redis.set(now).await;
    }

    fn live(&self) -> i64 {
        let live = self.held.values().filter(|held| held.under_way_until > self.now);
        i64::try_from(live.count()).unwrap()
    }

    fn lasting(&self, length: Millis) -> Held {
        let ends = lease::end(self.now, length);
        Held { ends, under_way_until: ends }
    }

    async fn reserve(&mut self, leases: &[usize]) {
        let amounts = Amounts::new([("concurrent", 1), ("request", 1)]).unwrap();
        let demand = Demand::new(&self.plan, &self.subject, &amounts, self.now);
        let wanted = leases.iter().map(|place| (ReservationId::new_v7(), LEASES[*place]));
        let wanted: Vec<(ReservationId, Millis, Draft)> =
            wanted.map(|(id, length)| (id, length, Draft::new(id, &self.subject, &amounts, &demand))).collect();
        let (bench, organization, demand) = (self.bench, self.subject.organization, &demand);
        let answers = wanted.iter().map(|(id, length, draft)| async move {
            let reserve = Reserve {
                id: *id,
                organization,
                demand,
                draft,
                context: &context(id),
                lease: duration(*length),
                check_clock: true,
            };
            bench.store.reserve(&bench.scripts, &reserve).await.unwrap()
        });
        let answers = join_all(answers).await;
        let room = usize::try_from(self.cap - self.live()).unwrap_or(0);
        let admitted = answers.iter().filter(|answer| matches!(answer, Admission::Admitted { .. })).count();
        assert_eq!(admitted, room.min(wanted.len()), "{answers:?}");
        for ((id, length, _), answer) in wanted.into_iter().zip(answers) {
            if let Admission::Admitted { .. } = answer {
                self.made.push(id);
                self.held.insert(id, self.lasting(length));
            }
        }
        // Whoever repeats it is told of it, whatever it is kept with.
        if let Some((id, _)) = self.held.last_key_value() {
            let draft = Draft::new(*id, &self.subject, &amounts, demand);
            let reserve = Reserve {
                id: *id,
                organization,
                demand,
                draft: &draft,
                context: b"",
                lease: duration(1_000),
                check_clock: true,
            };
            let answer = self.bench.store.reserve(&self.bench.scripts, &reserve).await.unwrap();
            let Admission::Duplicate(record) = answer else { panic!("{answer:?}") };
            assert_eq!(record.context, context(id));
        }
    }

    /// Those of a step that were ever made, each once.
    fn named(&self, which: impl Iterator<Item = usize>) -> Vec<(usize, ReservationId)> {
        let mut named: Vec<(usize, ReservationId)> = Vec::new();
        for (place, which) in which.enumerate() {
            if let Some(id) = self.made.get(which).filter(|id| !named.iter().any(|(_, known)| known == *id)) {
                named.push((place, *id));
            }
        }
        named
    }

    async fn extend(&mut self, which: &[(usize, usize)]) {
        let named = self.named(which.iter().map(|(which, _)| *which));
        let (store, scripts) = (&self.bench.store, &self.bench.scripts);
        let concurrent = [(AT_ONCE, Value::Organization)];
        let extensions = named.iter().map(|(place, id)| {
            let length = duration(LEASES[which[*place].1]);
            store.extend(scripts, &self.subject.organization, id, &concurrent, length)
        });
        for ((place, id), outcome) in named.iter().zip(join_all(extensions).await) {
            let lasting = self.lasting(LEASES[which[*place].1]);
            let expected = match self.held.get_mut(id) {
                Some(held) => {
                    *held = lasting;
                    Extended::Extended
                }
                None => Extended::Settled,
            };
            assert_eq!(outcome.unwrap(), expected);
        }
    }

    async fn settle(&mut self, which: &[usize]) {
        let named = self.named(which.iter().copied());
        let apply = |(_, id): &(usize, ReservationId)| Apply {
            id: *id,
            ending: Ending::Released,
            written_in: None,
            reserved_at: Some(0),
            counters: Vec::new(),
            concurrent: vec![(AT_ONCE, Value::Organization)],
        };
        let applies: Vec<Apply> = named.iter().map(apply).collect();
        if applies.is_empty() {
            return;
        }
        let answers = self.bench.store.settle(&self.bench.scripts, &self.subject.organization, &applies).await.unwrap();
        for ((_, id), answer) in named.iter().zip(answers) {
            if let Some(held) = self.held.remove(id) {
                assert_eq!(answer, Applied::Done { late: held.ends <= self.now }, "{held:?} at {}", self.now);
            }
        }
    }

    async fn take_over(&mut self, most: usize, length: Millis) {
        let (store, scripts) = (&self.bench.store, &self.bench.scripts);
        let taken = store.take_over(scripts, &self.subject.organization, most, duration(length)).await.unwrap();
        let due = self.held.values().filter(|held| held.ends <= self.now).count();
        assert_eq!(taken.len(), due.min(most), "{:?} at {}", self.held, self.now);
        for expired in taken {
            assert_eq!(expired.record.context, context(&expired.id));
            let now = self.now;
            let held = self.held.get_mut(&expired.id).unwrap();
            assert!(held.ends <= now, "{held:?} was taken over at {now}");
            held.ends = lease::end(now, length);
        }
    }

    /// Answers what is left of the tenant's state.
    async fn sweep(&self) -> u64 {
        let (organization, keep) = (&self.subject.organization, Duration::from_secs(3_600));
        let mut cursor = "0".to_owned();
        loop {
            let (next, left) = self.bench.store.sweep(&self.bench.scripts, organization, &cursor, keep).await.unwrap();
            if next == "0" {
                return left;
            }
            cursor = next;
        }
    }

    /// Whoever looks sees what the list says.
    async fn look(&self) {
        let (store, scripts) = (&self.bench.store, &self.bench.scripts);
        let organization = &self.subject.organization;
        let amounts = Amounts::new([("concurrent", 1)]).unwrap();
        let demand = Demand::new(&self.plan, &self.subject, &amounts, self.now);
        assert_eq!(store.read(scripts, organization, &demand).await.unwrap().live, [self.live()], "{:?}", self.held);

        let ids: Vec<ReservationId> = self.held.keys().copied().collect();
        let contents = store.contents(organization).await.unwrap();
        assert_eq!(contents.held.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids);
        assert!(contents.held.iter().all(|(id, record)| record.context == context(id)));
        let [heads, records] = self.halves().await;
        assert_eq!(heads, records, "of sheets");
        let expired = self.held.values().filter(|held| held.ends <= self.now).count();
        assert_eq!(contents.expired, i64::try_from(expired).unwrap());

        let mut lefts: Vec<(Millis, ReservationId)> =
            self.held.iter().map(|(id, held)| (held.ends - self.now, *id)).collect();
        lefts.sort_unstable();
        for most in [3, 1_000] {
            let holders = store.holders(organization, most).await.unwrap();
            let found: Vec<_> = holders.list.iter().map(|holder| (holder.lease_left, holder.id)).collect();
            assert_eq!(found, lefts[..lefts.len().min(most)]);
            assert!(holders.all >= i64::try_from(lefts.len().min(most + 1)).unwrap());
        }
        let (mut kept, mut cursor) = (Vec::new(), 0);
        loop {
            let (next, some) = store.kept(2, organization, cursor).await.unwrap();
            kept.extend(some.into_iter().map(|(held, ends)| (ends - self.now, held.id)));
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        kept.sort_unstable();
        kept.dedup();
        assert_eq!(kept, lefts, "of another generation");
        let tenant = Tenant { id: *organization, registered: 0, idle: 0 };
        let count = store.lease_counts(&[tenant]).await.unwrap()[0];
        assert!(count.all >= i64::from(!lefts.is_empty()) && count.expired >= i64::from(expired > 0), "{count:?}");
    }

    /// The numbers of the sheets of which there is the one half, and the other.
    async fn halves(&self) -> [Vec<Vec<u8>>; 2] {
        let state = self.state();
        let mut fields: Vec<Vec<u8>> = self.bench.connection.command(cmd("HKEYS").arg(&state)).await.unwrap();
        fields.sort_unstable();
        [b'h', b'b'].map(|half| {
            let of = fields.iter().filter_map(|field| field.strip_prefix(&[half]));
            of.map(<[u8]>::to_vec).collect()
        })
    }

    fn state(&self) -> String {
        format!("wq3:{{{}}}s", self.subject.organization.as_uuid().simple())
    }

    async fn end(&mut self) {
        self.settle(&(0..self.made.len()).collect::<Vec<_>>()).await;
        self.set(self.now.max(BEGIN) + 8_000_000).await;
        assert_eq!(self.sweep().await, 0, "fields are left behind");
        let key = format!("wq3:{{{}}}l", self.subject.organization.as_uuid().simple());
        let leases: i64 = self.bench.connection.command(cmd("ZCARD").arg(&key)).await.unwrap();
        assert_eq!(leases, 0, "leases are left behind");
    }
}

/// What is kept of a reservation is small or large: so a sheet is handed to the script, or goes ahead of it.
fn context(id: &ReservationId) -> Vec<u8> {
    let bytes = id.as_uuid().as_bytes();
    bytes.repeat(if bytes[15].is_multiple_of(4) { 200 } else { 1 })
}

fn duration(millis: Millis) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap())
}

#[tokio::test]
async fn leases_that_are_kept_together_end_each_for_itself() {
    let server = weir_testing::redis().await.unwrap();
    let bench = Bench::new(server.url()).await;
    let mut runner = TestRunner::deterministic();
    for round in 0..40 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        let mut play = bench.play(if round % 2 == 0 { 1_000 } else { 6 });
        play.set(BEGIN).await;
        for step in &steps {
            play.step(step).await;
            play.look().await;
        }
        play.end().await;
    }
}

/// Several that are large enough to go ahead of the script, at once.
async fn reserve_large(play: &Play<'_>, scripts: &Scripts) -> Vec<Result<Admission, Failure>> {
    let amounts = Amounts::new([("concurrent", 1), ("request", 1)]).unwrap();
    let demand = &Demand::new(&play.plan, &play.subject, &amounts, play.now);
    let answers = (0..4).map(|_| {
        let id = ReservationId::new_v7();
        let draft = Draft::new(id, &play.subject, &amounts, demand);
        async move {
            let reserve = Reserve {
                id,
                organization: play.subject.organization,
                demand,
                draft: &draft,
                context: &[1; 2_000],
                lease: duration(LEASES[2]),
                check_clock: true,
            };
            play.bench.store.reserve(scripts, &reserve).await
        }
    });
    join_all(answers).await
}

#[tokio::test]
async fn records_that_went_ahead_of_a_lost_script_are_taken_back() {
    let server = weir_testing::redis().await.unwrap();
    let bench = Bench::new(server.url()).await;
    let play = bench.play(1_000);
    play.bench.redis.set(BEGIN).await;
    let unknown = Scripts::new(2);
    for answer in reserve_large(&play, &unknown).await {
        assert!(matches!(answer, Err(Failure::OtherGeneration)), "{answer:?}");
    }
    let left: i64 = bench.connection.command(cmd("EXISTS").arg(play.state())).await.unwrap();
    assert_eq!(left, 0);

    // Nor do they stay where nobody could take them back.
    assert!(reserve_large(&play, &bench.scripts).await.iter().all(Result::is_ok));
    let [heads, records] = play.halves().await;
    assert_eq!((heads.len(), &heads), (1, &records));
    bench.connection.command::<()>(cmd("HSET").arg(play.state()).arg(b"b12345678").arg("whose?")).await.unwrap();
    play.sweep().await;
    assert_eq!(play.halves().await, [heads, records]);
}

#[tokio::test]
async fn a_batch_whose_connection_breaks_is_there_as_a_whole_or_not_at_all() {
    let server = weir_testing::redis().await.unwrap();
    let bench = Bench::new(server.url()).await;
    for received in [false, true] {
        let play = bench.play(1_000);
        play.bench.redis.set(BEGIN).await;
        bench.redis.cut(Some(Cut { at: 0, received }));
        for answer in reserve_large(&play, &bench.scripts).await {
            assert!(matches!(answer, Err(Failure::Redis(_))), "{answer:?}");
        }
        // The connection comes back by itself.
        let contents = loop {
            match bench.store.contents(&play.subject.organization).await {
                Ok(contents) => break contents,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        assert_eq!(contents.held.len(), if received { 4 } else { 0 });
        let [heads, records] = play.halves().await;
        assert_eq!((heads.len(), heads), (usize::from(received), records));
    }
}
