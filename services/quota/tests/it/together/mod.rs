//! Reservations that wait for each other go to the store together, and each is answered as if it had gone alone.

mod settlements;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use weir_quota::domain::handle::Draft;
use weir_quota::domain::{
    Amounts, CalendarUnit, Demand, Kind, Limit, LimitState, OnFailure, Plan, Scope, Subject, Tuning, Unit, Value,
    Window, evaluate,
};
use weir_quota::storage::redis::{Scripts, Store};
use weir_quota::storage::store::{Admission, Contents, Failure, InstallEntry, InstallSubject, Reserve};
use weir_redis::Redis;
use weir_redis::redis::cmd;
use weir_testing::RedisServer;
use weir_types::{OrganizationId, ReservationId, UserId, names};

const TUNING: Tuning = Tuning { exact_up_to: 64, buckets: 60 };

struct Bench {
    server: RedisServer,
    redis: Redis,
    store: Store,
    scripts: Scripts,
    /// When the last reservation was admitted.
    last: AtomicI64,
}

impl Bench {
    async fn new(server: RedisServer) -> Self {
        let mut config = crate::house::settings().redis;
        config.url = server.url().into();
        let redis = Redis::connect(&config).await.unwrap();
        let (store, scripts) = (Store::new(redis.clone()), Scripts::new(1));
        store.load(&scripts).await.unwrap();
        Self { server, redis, store, scripts, last: AtomicI64::new(0) }
    }

    /// Puts the counters of a subject in place, as after a first request.
    async fn warm(&self, plan: &Plan, subject: &Subject) {
        let demand = Demand::nothing(plan, subject, now());
        let fence = self.store.fence(&subject.organization).await.unwrap();
        let subjects: Vec<InstallSubject> = demand
            .parts
            .iter()
            .map(|part| {
                let entries = part.scope.windows.iter().map(|limit| {
                    let entry = match limit.limit.window.kind() {
                        Kind::Rolling(_) => InstallEntry::Rolling(Vec::new()),
                        _ => InstallEntry::Period(limit.period(now()).start, 0, 0),
                    };
                    (limit.id, limit.durable, entry)
                });
                let entries = entries.collect();
                InstallSubject { value: part.value.clone(), layout: part.scope.layout, sweep_after: -1, entries }
            })
            .collect();
        assert!(self.store.install(&self.scripts, &subject.organization, &fence, &subjects).await.unwrap());
    }

    async fn reserve(&self, plan: &Plan, wish: &Wish) -> Outcome {
        let demand = Demand::new(plan, &wish.subject, &wish.amounts, now());
        let draft = Draft::new(wish.id, &wish.subject, &wish.amounts, &demand);
        let reserve = Reserve {
            id: wish.id,
            organization: wish.subject.organization,
            demand: &demand,
            draft: &draft,
            context: b"draft",
            lease: Duration::from_secs(30),
            check_clock: true,
        };
        match self.store.reserve(&self.scripts, &reserve).await.unwrap() {
            Admission::Admitted { decision, at } => {
                self.last.store(at, Ordering::Relaxed);
                Outcome::Admitted(decision.iter().map(|d| (d.used, d.held)).collect())
            }
            Admission::Refused(reading) => {
                let states = evaluate(&demand, &reading.states, &reading.live, 1, reading.at);
                Outcome::Refused(states.into_iter().map(Seen::from).collect())
            }
            Admission::Duplicate(record) => {
                Outcome::Duplicate(record.body.decision.iter().map(|d| (d.used, d.held)).collect())
            }
            Admission::Reused => Outcome::Reused,
            other => Outcome::Other(format!("{other:?}")),
        }
    }

    async fn calls(&self) -> u64 {
        let info: String = self.redis.command(cmd("INFO").arg("commandstats")).await.unwrap();
        let calls = info.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        calls.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
    }
}

#[derive(Debug, Clone)]
struct Wish {
    id: ReservationId,
    subject: Subject,
    amounts: Amounts,
}

impl Wish {
    /// For an organisation as a whole.
    fn of_money(organization: OrganizationId, amount: i64) -> Self {
        let amounts = Amounts::new([("nano_usd", amount)]).unwrap();
        Self { id: ReservationId::new_v7(), subject: subject(organization, None, None), amounts }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Admitted(Vec<(i64, i64)>),
    Refused(Vec<Seen>),
    Duplicate(Vec<(i64, i64)>),
    Reused,
    Other(String),
}

/// What does not depend on the moment.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    limit: Arc<str>,
    cap: i64,
    used: i64,
    held: i64,
    refuses: bool,
    can_fit: bool,
}

impl From<LimitState> for Seen {
    fn from(state: LimitState) -> Self {
        Self {
            limit: state.limit,
            cap: state.cap,
            used: state.used,
            held: state.held,
            refuses: state.refuses,
            can_fit: state.retry_after.is_some(),
        }
    }
}

fn now() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

fn limit(name: &str, scope: Scope, unit: &str, cap: i64, window: Window) -> Limit {
    Limit {
        name: name.to_owned(),
        scope,
        unit: Unit::parse(unit),
        cap,
        window,
        on_failure: OnFailure::Closed,
        alert_percents: Vec::new(),
    }
}

/// Every kind of window; periods and rolling windows so long that no test sees one pass.
fn plan(scale: i64) -> Plan {
    let month = || Window::Calendar(CalendarUnit::Month, chrono_tz::UTC);
    let feature = || Scope::Label("feature".to_owned());
    let limits = [
        limit("budget", Scope::Organization, "nano_usd", 40 * scale, month()),
        limit("tokens", Scope::Organization, "token", 60 * scale, Window::Rolling(3_600_000)),
        limit("at-once", Scope::Organization, "concurrent", 6 * scale, Window::Concurrent),
        limit("user-budget", Scope::User, "nano_usd", 12 * scale, Window::Lifetime),
        limit("user-requests", Scope::User, "request", 4 * scale, Window::Rolling(3_600_000)),
        limit("user-at-once", Scope::User, "concurrent", 3 * scale, Window::Concurrent),
        limit("feature", feature(), "request", 5 * scale, month()),
    ];
    Plan::new(1, (1..).zip(limits), TUNING)
}

fn subject(organization: OrganizationId, user: Option<&UserId>, feature: Option<&str>) -> Subject {
    let user = user.map(|user| names::user(&organization, user)).unwrap_or_default();
    Subject::new(organization, &user, "", "", "", feature.map(|feature| ("feature", feature))).unwrap()
}

/// One request of a random batch: whose, which feature, what, and which earlier one's id it has.
type Random = (usize, usize, i64, i64, bool, bool, Option<usize>);

/// No more than go together: requests of different calls have no order.
fn random() -> impl Strategy<Value = Vec<Random>> {
    let amounts = (0_i64..9, 0_i64..9, any::<bool>(), any::<bool>());
    let one = (0_usize..4, 0_usize..3, amounts, prop::option::weighted(0.15, 0_usize..64));
    let one = one.prop_map(|(user, feature, (money, tokens, requests, live), twin)| {
        (user, feature, money, tokens, requests, live, twin)
    });
    prop::collection::vec(one, 1..=64)
}

fn wishes(organization: OrganizationId, users: &[UserId], list: &[Random]) -> Vec<Wish> {
    let mut wishes: Vec<Wish> = Vec::new();
    for (user, feature, money, tokens, requests, live, twin) in list {
        let subject = subject(organization, users.get(*user), ["chat", "code"].get(*feature).copied());
        let mut amounts = vec![("nano_usd", *money)];
        amounts.extend((*tokens > 2).then_some(("token", *tokens)));
        amounts.extend(requests.then_some(("request", 1)));
        amounts.extend(live.then_some(("concurrent", 1)));
        let amounts = Amounts::new(amounts).unwrap();
        let twin = twin.and_then(|place| wishes.get(place)).cloned();
        wishes.push(match twin {
            // Sometimes the very same request, sometimes another one of the same id.
            Some(twin) if *money < 5 => twin,
            Some(twin) => Wish { id: twin.id, subject, amounts },
            None => Wish { id: ReservationId::new_v7(), subject, amounts },
        });
    }
    wishes
}

#[tokio::test]
async fn a_batch_is_answered_and_counted_as_its_requests_one_by_one() {
    let bench = Bench::new(weir_testing::redis().await.unwrap()).await;
    let mut runner = TestRunner::deterministic();
    for round in 0..40 {
        let list = random().new_tree(&mut runner).unwrap().current();
        let plan = plan([1, 3, 100][round % 3]);
        let users: Vec<UserId> = (0..3).map(|_| UserId::new_v7()).collect();
        let tenants = [OrganizationId::new_v7(), OrganizationId::new_v7()];
        let [together, alone] = tenants.map(|tenant| wishes(tenant, &users, &list));
        for wish in together.iter().chain(&alone) {
            bench.warm(&plan, &wish.subject).await;
        }
        let together = join_all(together.iter().map(|wish| bench.reserve(&plan, wish))).await;
        for (place, (wish, answer)) in alone.iter().zip(&together).enumerate() {
            let expected = bench.reserve(&plan, wish).await;
            assert_eq!(*answer, expected, "request {place} of {list:?}");
        }
        let [one, other] = tenants;
        let (one, other) = (bench.store.contents(&one).await.unwrap(), bench.store.contents(&other).await.unwrap());
        assert_eq!(one.held.len(), other.held.len());
        let counters = |contents: &Contents| {
            let mut counters: Vec<_> = contents
                .subjects
                .iter()
                .flat_map(|(value, state)| {
                    let entries = state.entries.iter();
                    entries
                        .map(|entry| (value.text(), entry.limit, entry.period, entry.spent, entry.held, entry.used()))
                })
                .collect();
            counters.sort();
            counters
        };
        assert_eq!(counters(&one), counters(&other));
        // The records say what the answers said.
        let admitted = together.iter().filter(|outcome| matches!(outcome, Outcome::Admitted(_))).count();
        assert_eq!(one.held.len(), admitted);
    }
}

#[tokio::test]
async fn many_at_once_take_few_calls_and_of_them_exactly_those_that_fit_are_admitted() {
    let bench = Bench::new(weir_testing::private_redis().await.unwrap()).await;
    let plan = plan(1);
    let organization = OrganizationId::new_v7();
    let wish = || Wish::of_money(organization, 1);
    let wishes: Vec<Wish> = (0..200).map(|_| wish()).collect();
    bench.warm(&plan, &wishes[0].subject).await;
    let before = bench.calls().await;
    let outcomes = join_all(wishes.iter().map(|wish| bench.reserve(&plan, wish))).await;
    let calls = bench.calls().await - before;
    assert!(calls <= 6, "{calls} calls for 200 requests");
    let admitted: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Admitted(decision) => Some(decision[0]),
            _ => None,
        })
        .collect();
    assert_eq!(admitted, (1..=40).map(|used| (used, used)).collect::<Vec<_>>(), "in order, each with its own count");
    // A request alone is not held up by anything.
    let before = bench.calls().await;
    assert!(matches!(bench.reserve(&plan, &wish()).await, Outcome::Refused(_)));
    assert_eq!(bench.calls().await - before, 1);
}

#[tokio::test]
async fn several_tenants_and_several_versions_of_a_plan_go_together() {
    let bench = Bench::new(weir_testing::redis().await.unwrap()).await;
    let (small, large) = (plan(1), plan(2));
    let tenants: Vec<OrganizationId> = (0..5).map(|_| OrganizationId::new_v7()).collect();
    for tenant in &tenants {
        bench.warm(&small, &subject(*tenant, None, None)).await;
    }
    // A cap of 40 and one of 80 nano-dollars for the same counter, by turns: what fits either is admitted.
    let wishes: Vec<(usize, Wish)> =
        (0..60).map(|place| (place, Wish::of_money(tenants[place % tenants.len()], 10))).collect();
    let outcomes = join_all(wishes.iter().map(|(place, wish)| {
        let plan = if (place / tenants.len()).is_multiple_of(2) { &small } else { &large };
        bench.reserve(plan, wish)
    }))
    .await;
    for tenant in 0..tenants.len() {
        let of_tenant: Vec<&Outcome> =
            outcomes.iter().enumerate().filter(|(place, _)| place % tenants.len() == tenant).map(|(_, o)| o).collect();
        let admitted = of_tenant.iter().filter(|outcome| matches!(outcome, Outcome::Admitted(_))).count();
        assert_eq!(admitted, if of_tenant.len() > 10 { 8 } else { 6 }, "{of_tenant:?}");
        let refused = |outcome: &&&Outcome| matches!(outcome, Outcome::Refused(states) if states[0].cap == 40 && states[0].used >= 40);
        assert!(of_tenant.iter().any(|outcome| refused(&outcome)));
    }
}

#[tokio::test]
async fn a_request_whose_caller_has_left_neither_holds_anything_nor_holds_up_the_others() {
    let bench = Bench::new(weir_testing::private_redis().await.unwrap()).await;
    let plan = plan(1);
    let organization = OrganizationId::new_v7();
    let wish = || Wish::of_money(organization, 1);
    let wishes: Vec<Wish> = (0..40).map(|_| wish()).collect();
    bench.warm(&plan, &wishes[0].subject).await;
    bench.server.pause(Duration::from_millis(300)).await.unwrap();
    // Two are under way; those that wait behind them and give up were never sent.
    let first = join_all(wishes[..2].iter().enumerate().map(async |(place, wish)| {
        tokio::time::sleep(Duration::from_millis(20 * place as u64)).await;
        bench.reserve(&plan, wish).await
    }));
    let rest = async {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let stay = join_all(wishes[2..10].iter().map(|wish| bench.reserve(&plan, wish)));
        let leave = join_all(wishes[10..].iter().map(|wish| bench.reserve(&plan, wish)));
        let (stay, left) = tokio::join!(stay, tokio::time::timeout(Duration::from_millis(50), leave));
        assert!(left.is_err());
        stay
    };
    let (first, stay) = tokio::join!(first, rest);
    assert!(first.iter().chain(&stay).all(|outcome| matches!(outcome, Outcome::Admitted(_))));
    let contents = bench.store.contents(&organization).await.unwrap();
    assert_eq!(contents.held.len(), 10);
}

#[tokio::test]
async fn an_older_generation_can_not_touch_what_a_newer_one_has() {
    let mut bench = Bench::new(weir_testing::redis().await.unwrap()).await;
    let plan = plan(1);
    let subject = subject(OrganizationId::new_v7(), None, None);
    let wish = || Wish {
        id: ReservationId::new_v7(),
        subject: subject.clone(),
        amounts: Amounts::new([("nano_usd", 30)]).unwrap(),
    };
    bench.warm(&plan, &subject).await;
    let newer = Scripts::new(2);
    bench.store.load(&newer).await.unwrap();
    let older = std::mem::replace(&mut bench.scripts, newer);
    bench.warm(&plan, &subject).await;
    assert_eq!(bench.reserve(&plan, &wish()).await, Outcome::Admitted(vec![(30, 30)]));

    // A process that has not noticed: it would take what is held for forgotten.
    let wish = wish();
    let demand = Demand::new(&plan, &subject, &wish.amounts, now());
    let draft = Draft::new(wish.id, &subject, &wish.amounts, &demand);
    let reserve = Reserve {
        id: wish.id,
        organization: subject.organization,
        demand: &demand,
        draft: &draft,
        context: b"",
        lease: Duration::from_secs(30),
        check_clock: true,
    };
    let answer = bench.store.reserve(&older, &reserve).await;
    assert!(matches!(answer, Err(Failure::OtherGeneration)), "{answer:?}");
    let fence = bench.store.fence(&subject.organization).await.unwrap();
    let anew = InstallSubject {
        value: Value::Organization,
        layout: demand.parts[0].scope.layout,
        sweep_after: -1,
        entries: vec![],
    };
    assert!(!bench.store.install(&older, &subject.organization, &fence, &[anew]).await.unwrap());
    let contents = bench.store.contents(&subject.organization).await.unwrap();
    let budget = contents.subjects[0].1.entry(1).unwrap();
    assert_eq!((contents.subjects[0].1.generation, budget.held), (2, 30));
}
