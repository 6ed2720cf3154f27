//! What the scripts cost beside a bare SET, on this machine: `cargo test -p weir-quota --test it measure -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir_quota::domain::handle::Draft;
use weir_quota::domain::{
    Amounts, CalendarUnit, Demand, Handle, Limit, OnFailure, Plan, Scope, Subject, Tuning, Unit, Window,
};
use weir_quota::storage::redis::{Scripts, Store, reserve_command, settle_command};
use weir_quota::storage::store::{Apply, ApplyCounter, ApplyKind, Ending, InstallEntry, InstallSubject, Reserve};
use weir_redis::Redis;
use weir_redis::redis::cmd;
use weir_types::{ApiKeyId, OrganizationId, ReservationId, UserId, names};

const COUNT: usize = 40_000;
const LIMITS: i64 = 1 << 50;

fn limit(name: &str, scope: Scope, unit: &str, window: Window) -> Limit {
    Limit {
        name: name.to_owned(),
        scope,
        unit: Unit::parse(unit),
        cap: LIMITS,
        window,
        on_failure: OnFailure::Closed,
        alert_percents: Vec::new(),
    }
}

fn six() -> Plan {
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

/// Sends commands in groups of `depth` and waits for each group's answers (of so many bytes each), over several connections;
/// answers the rate.
async fn rate(address: &str, commands: &[Vec<u8>], depth: usize, answer: usize) -> f64 {
    const CONNECTIONS: usize = 8;
    let started = Instant::now();
    let runs = commands.chunks(commands.len().div_ceil(CONNECTIONS)).map(|commands| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut buffer = vec![0; 1 << 16];
        for group in commands.chunks(depth) {
            stream.write_all(&group.concat()).await.unwrap();
            let mut missing = group.len() * answer;
            while missing > 0 {
                let read = stream.read(&mut buffer).await.unwrap();
                assert!(buffer[0] != b'-', "{}", String::from_utf8_lossy(&buffer[..read]));
                missing -= read;
            }
        }
    });
    futures::future::join_all(runs).await;
    #[expect(clippy::cast_precision_loss, reason = "a measurement")]
    let rate = commands.len() as f64 / started.elapsed().as_secs_f64();
    rate
}

/// CPU that the server has used, in microseconds: what a busy machine spoils least.
async fn cpu(redis: &Redis) -> f64 {
    let info: String = redis.command(cmd("INFO").arg("cpu")).await.unwrap();
    let seconds = |key: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.unwrap().trim().parse::<f64>().unwrap()
    };
    1e6 * (seconds("used_cpu_user") + seconds("used_cpu_sys"))
}

#[tokio::test]
#[ignore = "a measurement"]
#[expect(clippy::cast_precision_loss, reason = "a measurement")]
async fn measure_the_scripts() {
    let server = weir_testing::redis().await.unwrap();
    let mut config = crate::house::settings().redis;
    config.url = server.url().into();
    config.deadline = Duration::from_secs(5);
    let redis = Redis::connect(&config).await.unwrap();
    let store = Store::new(redis.clone());
    let scripts = Scripts::new(1);
    store.load(&scripts).await.unwrap();
    let address = server.url().trim_start_matches("redis://").trim_end_matches('/').to_owned();

    let plan = six();
    let organization = OrganizationId::new_v7();
    let user = names::user(&organization, &UserId::new_v7());
    let key = names::api_key(&organization, &ApiKeyId::new_v7());
    let subject = Subject::new(organization, &user, &key, "", "", []).unwrap();
    let amounts = Amounts::new([("request", 1), ("token", 3_000), ("nano_usd", 40_000_000)]).unwrap();
    let now = chrono::Utc::now().timestamp_millis();
    let demand = Demand::new(&plan, &subject, &amounts, now);
    let fence = store.fence(&organization).await.unwrap();
    let subjects: Vec<InstallSubject> = demand
        .parts
        .iter()
        .map(|part| InstallSubject {
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
        })
        .collect();
    assert!(store.install(&scripts, &organization, &fence, &subjects).await.unwrap());

    let ids: Vec<ReservationId> = (0..COUNT).map(|_| ReservationId::new_v7()).collect();
    let context = [7; 200];
    let mut handle = None;
    let reserves: Vec<Vec<u8>> = ids
        .iter()
        .map(|id| {
            let draft = Draft::new(*id, &subject, &amounts, &demand);
            handle = Some(draft.at(now, &[]));
            let lease = Duration::from_secs(30);
            let reserve = Reserve {
                id: *id,
                organization,
                demand: &demand,
                draft: &draft,
                context: &context,
                lease,
                check_clock: true,
            };
            reserve_command(&scripts, &[reserve]).get_packed_command()
        })
        .collect();
    let handle = Handle::decode(&handle.unwrap()).unwrap();
    let apply = |id: &ReservationId| Apply {
        id: *id,
        ending: Ending::Final,
        applied: true,
        counters: handle
            .counters
            .iter()
            .map(|counter| ApplyCounter {
                value: handle.values[counter.value].clone(),
                limit: counter.limit,
                kind: match counter.limit {
                    1 | 2 | 4 => ApplyKind::Rolling(60_000, false),
                    _ => ApplyKind::Total(1, 1),
                },
                place: counter.at,
                reserved: counter.amount,
                actual: counter.amount,
                before: 0,
            })
            .collect(),
        concurrent: Vec::new(),
    };
    let batch = 32;
    let settles: Vec<Vec<u8>> = ids
        .chunks(batch)
        .map(|ids| {
            settle_command(&scripts, &organization, &ids.iter().map(apply).collect::<Vec<_>>()).get_packed_command()
        })
        .collect();
    let sets: Vec<Vec<u8>> =
        ids.iter().map(|id| cmd("SET").arg(id.as_uuid().as_bytes()).arg(&[1_u8; 16]).get_packed_command()).collect();
    eprintln!("reserve command {} bytes", reserves[0].len());
    for depth in [1, 16, 64, 16, 64] {
        let mut used = Vec::new();
        let mut rates = Vec::new();
        for (commands, depth, answer) in [(&sets, depth, 5), (&reserves, depth, 113), (&settles, depth.min(4), 39)] {
            let before = cpu(&redis).await;
            rates.push(rate(&address, commands, depth, answer).await);
            used.push((cpu(&redis).await - before) / COUNT as f64);
        }
        eprintln!(
            "depth {depth:>2}: SET {:.0}/s {:.2} us | reserve {:.0}/s {:.2} us = {:.0} % | settle by {batch} {:.0}/s {:.2} us",
            rates[0],
            used[0],
            rates[1],
            used[1],
            100.0 * used[0] / used[1],
            rates[2] * batch as f64,
            used[2]
        );
        // For the next round the same ids must be free again.
        let state: Vec<Vec<u8>> = redis.command(cmd("KEYS").arg("wq2:{*}s")).await.unwrap();
        for key in state {
            for ids in ids.chunks(1_000) {
                let mut delete = cmd("HDEL");
                delete.arg(&key);
                for id in ids {
                    delete.arg([b"r", id.as_uuid().as_bytes().as_slice()].concat());
                }
                redis.command::<()>(&delete).await.unwrap();
            }
        }
    }
}
