//! How many calls a line takes in and lets go in a second: for a release build, by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use weir_redis::{Redis, redis};
use weir_types::{OrganizationId, SystemClock};

use super::{Line, Newcomer, QueueOptions};
use crate::app::background::Presence;
use crate::domain::queue::Rules;
use crate::storage::lines::Lines;

const PAIRS: u32 = 100_000;
/// Callers, each waiting again as soon as it has had its turn; and their tenants.
const CALLERS: u128 = 1_000;
const TENANTS: u128 = 50;

const RULES: Rules = Rules { capacity: 10_000, aging: 3_000, turn: 2_000 };
/// As `config.defaults.toml` has them.
const OPTIONS: QueueOptions = QueueOptions {
    turns: 16,
    turn: Duration::from_secs(2),
    look: Duration::from_millis(25),
    beat: Duration::from_secs(1),
};

/// `cargo test --release -p weir-ai-broker --lib -- --ignored --nocapture pairs_per_second`
#[tokio::test]
#[ignore = "measures"]
async fn pairs_per_second() {
    let server = weir_testing::redis().await.unwrap();
    let config = weir_redis::Config {
        url: weir_config::Secret::from(server.url().to_owned()),
        cluster: false,
        deadline: Duration::from_secs(5),
        connections: 1,
    };
    let redis = Redis::connect(&config).await.unwrap();
    let lease = 5 * OPTIONS.beat;
    for _ in 0..3 {
        let before = redis_cpu_seconds(&redis).await;
        measure("shared by Redis", Lines::shared(redis.clone(), Uuid::new_v4(), RULES, lease)).await;
        let used = redis_cpu_seconds(&redis).await - before;
        eprintln!("    and {:.1} CPU µs of Redis", used * 1e6 / f64::from(PAIRS));
        measure("in memory", Lines::own(RULES, Arc::new(SystemClock))).await;
    }
}

async fn measure(what: &str, lines: Lines) {
    let (line, stop) = (Arc::new(Line::default()), CancellationToken::new());
    let name = Uuid::new_v4().to_string();
    let talk = tokio::spawn(Arc::clone(&line).run(name, lines, OPTIONS, stop.clone()));
    let left = Arc::new(AtomicU32::new(PAIRS));
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let callers: Vec<_> =
        (0..CALLERS).map(|number| tokio::spawn(calls(Arc::clone(&line), Arc::clone(&left), number))).collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let (took, used) = (began.elapsed(), cpu_seconds() - cpu);
    stop.cancel();
    talk.await.unwrap();
    let (rate, each) = (f64::from(PAIRS) / took.as_secs_f64(), used * 1e6 / f64::from(PAIRS));
    eprintln!("{what}: {rate:.0} pairs/s, {each:.1} CPU µs each in this process");
}

async fn calls(line: Arc<Line>, left: Arc<AtomicU32>, number: u128) {
    let tenant = OrganizationId::from(Uuid::from_u128(number % TENANTS));
    let one_less = |left: u32| left.checked_sub(1);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
        let now = Instant::now();
        let until = now + Duration::from_secs(600);
        let mut place = line.join(Newcomer { tenant, priority: 0, cost: 1, since: now, until });
        place.turn(&Presence::default(), |_| ()).await.unwrap();
        place.served();
    }
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u32 = fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap();
    f64::from(ticks) / 100.0
}

async fn redis_cpu_seconds(redis: &Redis) -> f64 {
    let mut info = redis::cmd("INFO");
    info.arg("cpu");
    let info: String = redis.command(&info).await.unwrap();
    let of = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok()).unwrap();
    of("used_cpu_user:") + of("used_cpu_sys:")
}
