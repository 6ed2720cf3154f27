//! Reservations of six limits in an engine alone: what is timed is the demand (from plan, subject and amounts), the draft of the
//! handle, the decision, the record and the lease. There is no RPC, no Postgres and no other thread.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_quota::domain::handle::Draft;
use weir_quota::domain::{
    Amounts, CalendarUnit, Demand, Limit, Millis, OnFailure, Plan, Scope, Subject, Tuning, Unit, Value, Window,
};
use weir_quota::storage::memory::Store;
use weir_quota::storage::store::{
    Admission, Applied, Apply, ApplyCounter, ApplyKind, Ending, InstallEntry, InstallSubject, Reserve,
};
use weir_types::{ApiKeyId, OrganizationId, ReservationId, SystemClock, UserId};

/// How many tenants, and users in each of them; each user has a key of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Tenants.
    pub(crate) tenants: u32,
    /// Users of each.
    pub(crate) users: u32,
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    /// Reservations of six limits per second of one core.
    pub(crate) reserves: f64,
    /// Commits of them per second of one core.
    pub(crate) commits: f64,
    /// How many counters there are.
    pub(crate) counters: u64,
    /// Resident bytes per counter that nothing was counted in yet.
    pub(crate) idle_bytes: f64,
    /// Resident bytes per counter with two calls in its window.
    pub(crate) active_bytes: f64,
}

/// Calls between two looks at the clock.
const GROUP: usize = 1 << 15;
const GENERATION: u64 = 1;
const LEASE: Duration = Duration::from_secs(30);

struct Bench {
    store: Store,
    plan: Plan,
    amounts: Amounts,
    shape: Shape,
    tenants: Vec<OrganizationId>,
    users: Vec<(UserId, ApiKeyId)>,
    random: u64,
}

/// Reserves for random users and commits, `count` times. Their counters were loaded before.
pub(crate) fn engine(shape: Shape, count: usize) -> Rates {
    let users = shape.tenants * shape.users;
    let mut bench = Bench {
        store: Store::new(Arc::new(SystemClock), usize::MAX, None),
        plan: six_limits(),
        amounts: Amounts::new([("request", 1), ("token", 3_000), ("nano_usd", 40_000_000)]).unwrap(),
        shape,
        tenants: (0..shape.tenants).map(|_| OrganizationId::new_v7()).collect(),
        users: (0..users).map(|_| (UserId::new_v7(), ApiKeyId::new_v7())).collect(),
        random: 0x9e37_79b9_7f4a_7c15,
    };
    bench.store.begin_alone(GENERATION);
    let empty = resident_bytes();
    (0..users).for_each(|user| bench.install(user));
    let idle = resident_bytes();
    let (mut reserving, mut committing, mut done) = (Duration::ZERO, Duration::ZERO, 0);
    while done < count {
        let subjects: Vec<Subject> = (0..GROUP)
            .map(|_| {
                let user = bench.next();
                bench.subject(user)
            })
            .collect();
        let ids: Vec<ReservationId> = subjects.iter().map(|_| ReservationId::new_v7()).collect();
        let mut times = Vec::with_capacity(GROUP);
        reserving +=
            cpu_time(|| times.extend(subjects.iter().zip(&ids).map(|(subject, id)| bench.reserve(subject, *id))));
        let reserved = subjects.iter().zip(ids).zip(times);
        let applies: Vec<Apply> = reserved.map(|((subject, id), at)| bench.apply(subject, id, at)).collect();
        committing += cpu_time(|| {
            for (subject, apply) in subjects.iter().zip(&applies) {
                bench.commit(&subject.organization, std::slice::from_ref(apply));
            }
        });
        done += GROUP;
    }
    bench.forget_settled();
    for _ in 0..2 {
        for user in 0..users {
            let (subject, id) = (bench.subject(user), ReservationId::new_v7());
            let at = bench.reserve(&subject, id);
            bench.commit(&subject.organization, &[bench.apply(&subject, id, at)]);
        }
        bench.forget_settled();
        // The next bucket of a minute in sixty of them.
        std::thread::sleep(Duration::from_secs(1));
    }
    let active = resident_bytes();
    let counters = 3 * u64::from(shape.tenants) + 3 * u64::from(users);
    let each = |bytes: u64| ratio(bytes, counters);
    let rate = |time: Duration| ratio(done as u64 * 1_000_000_000, u64::try_from(time.as_nanos()).unwrap());
    Rates {
        reserves: rate(reserving),
        commits: rate(committing),
        counters,
        idle_bytes: each(idle.saturating_sub(empty)),
        active_bytes: each(active.saturating_sub(empty)),
    }
}

/// Two rates and a budget of the tenant, a rate and a budget of the user, a budget of the key.
fn six_limits() -> Plan {
    let limit = |name: &str, scope: Scope, unit: &str, window: Window| {
        let (name, unit) = (name.to_owned(), Unit::parse(unit));
        Limit { name, scope, unit, cap: 1 << 50, window, on_failure: OnFailure::Closed, alert_percents: Vec::new() }
    };
    let month = || Window::Calendar(CalendarUnit::Month, chrono_tz::UTC);
    let limits = [
        limit("requests-per-minute", Scope::Organization, "request", Window::Rolling(60_000)),
        limit("tokens-per-minute", Scope::Organization, "token", Window::Rolling(60_000)),
        limit("budget", Scope::Organization, "nano_usd", month()),
        limit("user-requests", Scope::User, "request", Window::Rolling(60_000)),
        limit("user-budget", Scope::User, "nano_usd", month()),
        limit("key-budget", Scope::ApiKey, "nano_usd", month()),
    ];
    Plan::new(1, (1..).zip(limits), Tuning { exact_up_to: 64, buckets: 60 })
}

impl Bench {
    /// Any user (xorshift).
    fn next(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        u32::try_from(self.random % self.users.len() as u64).unwrap()
    }

    fn subject(&self, user: u32) -> Subject {
        let organization = self.tenants[(user / self.shape.users) as usize];
        let (user, key) = self.users[user as usize];
        Subject { organization, values: vec![Value::User(user), Value::ApiKey(key)] }
    }

    fn install(&self, user: u32) {
        let subject = self.subject(user);
        let now = now();
        let demand = Demand::new(&self.plan, &subject, &self.amounts, now);
        let subjects = demand.parts.iter().map(|part| InstallSubject {
            value: part.value.clone(),
            layout: part.scope.layout,
            sweep_after: -1,
            entries: part
                .scope
                .windows
                .iter()
                .map(|limit| {
                    let entry = match limit.rolling() {
                        Some(_) => InstallEntry::Rolling(Vec::new()),
                        None => InstallEntry::Period(limit.period(now).start, 0, 0),
                    };
                    (limit.id, limit.durable, entry)
                })
                .collect(),
        });
        let subjects: Vec<_> = subjects.collect();
        let fence = self.store.fence(&subject.organization).unwrap();
        assert!(self.store.install(GENERATION, &subject.organization, &fence, &subjects).unwrap());
    }

    /// Answers when.
    fn reserve(&self, subject: &Subject, id: ReservationId) -> Millis {
        let demand = Demand::new(&self.plan, subject, &self.amounts, now());
        let draft = Draft::new(id, subject, &self.amounts, &demand);
        let reserve = Reserve {
            id,
            organization: subject.organization,
            demand: &demand,
            draft: &draft,
            context: b"",
            lease: LEASE,
            check_clock: true,
        };
        match self.store.reserve(GENERATION, &reserve).unwrap() {
            Admission::Admitted { at, .. } => at,
            other => panic!("{other:?}"),
        }
    }

    /// What the settler makes of a commit of half the tokens and money.
    fn apply(&self, subject: &Subject, id: ReservationId, at: Millis) -> Apply {
        let demand = Demand::new(&self.plan, subject, &self.amounts, now());
        let counters = demand.windows().map(|(part, limit, touch)| {
            let actual = (touch.amount + 1) / 2;
            let kind = match limit.rolling() {
                Some(length) => ApplyKind::Rolling(length, false),
                None => ApplyKind::Total(0, 0),
            };
            let place = limit
                .rolling()
                .map_or(touch.period.start, |_| weir_quota::domain::demand::bucket_end(now(), limit.grain));
            let (value, limit, reserved) = (part.value.clone(), limit.id, touch.amount);
            ApplyCounter { value, limit, kind, place, reserved, actual, before: 0 }
        });
        let counters = counters.collect();
        let reserved_at = Some(at);
        Apply { id, ending: Ending::Final, written_in: None, reserved_at, counters, concurrent: Vec::new() }
    }

    fn commit(&self, organization: &OrganizationId, applies: &[Apply]) {
        assert_eq!(self.store.settle(GENERATION, organization, applies).unwrap(), [Applied::Done { late: false }]);
    }

    /// As if the time were over for which marks of settlements are kept.
    fn forget_settled(&self) {
        for tenant in &self.tenants {
            let mut cursor = "0".to_owned();
            loop {
                cursor = self.store.sweep(GENERATION, tenant, &cursor, Duration::ZERO).unwrap().0;
                if cursor == "0" {
                    break;
                }
            }
        }
    }
}

fn now() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// The time that this thread ran, which other programs on the machine do not spoil; by the wall where the kernel does not tell.
fn cpu_time(work: impl FnOnce()) -> Duration {
    let ran = || {
        // The kernel brings it up to date when the thread is switched.
        std::thread::yield_now();
        fs::read_to_string("/proc/thread-self/schedstat")
            .ok()?
            .split(' ')
            .next()?
            .parse()
            .ok()
            .map(Duration::from_nanos)
    };
    let (started, before) = (Instant::now(), ran());
    work();
    match (before, ran()) {
        (Some(before), Some(after)) if after > before => after - before,
        _ => started.elapsed(),
    }
}

fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4_096
}

#[expect(clippy::cast_precision_loss, reason = "a measurement")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b.max(1) as f64
}
