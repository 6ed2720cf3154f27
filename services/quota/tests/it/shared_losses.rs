//! What losses do to limits across tenants: nothing is oversold, and what was held comes back when it is said to.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use weir_proto::common::v1::ErrorReason;
use weir_proto::quota::v1::*;
use weir_types::OrganizationId;

use crate::house::{Client, House, Settings, balance, commit, extension, open, reserve};
use crate::shared::shared;

fn one(name: &str, unit: &str, amount: &str, window: &str, more: &str) -> String {
    format!(
        "[[shared]]\nname = '{name}'\nscope = 'product'\nunit = '{unit}'\namount = {amount}\nwindow = {{ {window} }}\n{more}"
    )
}

fn quick(text: &str) -> Settings {
    let mut settings = shared(text);
    settings.quota.slices.lease = Duration::from_millis(800);
    settings
}

/// A process that reserves `count` times and is gone from one moment to the next: its runtime ends with all its tasks.
fn crashes(
    house: &House,
    settings: Settings,
    tenant: OrganizationId,
    unit: &'static str,
    amount: i64,
    (count, pause): (usize, Duration),
) -> Vec<(ReserveRequest, ReserveResponse)> {
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let engine = runtime.block_on(async {
                let engine = house.engine_with(settings).await;
                let mut client = engine.client();
                for number in 0..count {
                    if number > 0 && !pause.is_zero() {
                        sleep(pause).await;
                    }
                    let request = reserve(tenant, &[(unit, amount)]);
                    // Two processes that begin at once may both take the store for one that has lost its data.
                    let handle = loop {
                        match open(client.reserve(request.clone()).await) {
                            Ok(handle) => break handle,
                            Err(failure) => assert!(failure.is_transient(), "{failure}"),
                        }
                        sleep(Duration::from_millis(50)).await;
                    };
                    sender.send((request, handle)).unwrap();
                }
                engine
            });
            runtime.shutdown_timeout(Duration::ZERO);
            drop(engine);
            drop(sender);
        });
    });
    receiver.into_iter().collect()
}

async fn admitted_until_full(client: &mut Client, tenant: OrganizationId, unit: &str, amount: i64) -> i64 {
    let mut admitted = 0;
    loop {
        match open(client.reserve(reserve(tenant, &[(unit, amount)])).await) {
            Ok(_) => admitted += amount,
            Err(failure) if failure.is_transient() => sleep(Duration::from_millis(50)).await,
            Err(failure) => {
                assert!(
                    matches!(failure.reason(), ErrorReason::QuotaExceeded | ErrorReason::BudgetExhausted),
                    "{failure}"
                );
                return admitted;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_process_oversells_nothing_and_its_slice_leaves_with_the_window() {
    let house = House::new().await;
    let text = one("rate", "token", "1000", "rolling = '2s'", "");
    let survivor = house.engine_with(quick(&text)).await;
    survivor.status().await;
    let tenant = house.tenant(Vec::new());
    let began = Instant::now();
    let held = tokio::task::block_in_place(|| crashes(&house, quick(&text), tenant, "token", 5, (60, Duration::ZERO)));
    assert_eq!(held.len(), 60);
    let mut client = survivor.client();
    let more = admitted_until_full(&mut client, tenant, "token", 5).await;
    if began.elapsed() < Duration::from_millis(1_900) {
        assert!(300 + more <= 1_000, "{more} beside the 300 that are gone");
    }
    // The lease, then the window: everything is there again.
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let state = balance(&mut client, tenant, "rate").await;
        if state.used == 0 {
            break;
        }
        assert!(Instant::now() < until, "{state:?}");
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(admitted_until_full(&mut client, tenant, "token", 100).await, 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reservations_of_a_crashed_process_are_settled_by_another() {
    let house = House::new().await;
    let text = one("money", "nano_usd", "'0.000001'", "calendar = 'month'", "");
    let survivor = house.engine_with(quick(&text)).await;
    survivor.status().await;
    let tenant = house.tenant(Vec::new());
    let held =
        tokio::task::block_in_place(|| crashes(&house, quick(&text), tenant, "nano_usd", 100, (5, Duration::ZERO)));
    let mut client = survivor.client();
    let more = admitted_until_full(&mut client, tenant, "nano_usd", 100).await;
    assert!(500 + more <= 1_000, "{more}");
    for (request, handle) in &held {
        client.commit(commit(request, handle, &[("nano_usd", 60)])).await.unwrap();
        client.commit(commit(request, handle, &[("nano_usd", 60)])).await.unwrap();
    }
    // What the dead process had not given out comes back after its lease, long before the month is over.
    let until = Instant::now() + Duration::from_secs(60);
    let mut left = 0;
    while 300 + more + left < 1_000 {
        left += admitted_until_full(&mut client, tenant, "nano_usd", 1).await;
        assert!(Instant::now() < until, "{more} before, 300 settled, {left} after");
    }
    assert_eq!(300 + more + left, 1_000, "all of it can be used, and no more");
    assert!(client.reserve(reserve(tenant, &[("nano_usd", 1)])).await.is_err());
    assert_eq!(survivor.status().await.drifts, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crashed_process_gave_out_is_found_and_counts() {
    let house = House::new().await;
    let text = one("sum", "token", "1000", "calendar = 'day'", "");
    let mut settings = quick(&text);
    // What it gave out last it takes from stock, and dies before it says so.
    settings.quota.slices.report_every = Duration::from_millis(190);
    let survivor = house.engine_with(quick(&text)).await;
    survivor.status().await;
    let tenants = [house.tenant(Vec::new()), house.tenant(Vec::new())];
    let held = tokio::task::block_in_place(|| {
        crashes(&house, settings, tenants[0], "token", 10, (2, Duration::from_millis(100)))
    });
    let mut client = survivor.client();
    let until = Instant::now() + Duration::from_secs(60);
    let mut more = 0;
    while 20 + more < 1_000 {
        more += admitted_until_full(&mut client, tenants[1], "token", 10).await;
        assert!(Instant::now() < until, "{more}");
    }
    assert_eq!(more, 980);
    // Until its lease has ended, what it gave out last is in its slice.
    loop {
        let state = balance(&mut client, tenants[0], "sum").await;
        if (state.used, state.held) == (1_000, 1_000) && survivor.status().await.drifts.is_empty() {
            break;
        }
        assert!(Instant::now() < until, "{state:?}");
    }
    assert_eq!(survivor.status().await.drifts, []);
    for (request, handle) in &held {
        client.commit(commit(request, handle, &[("token", 1)])).await.unwrap();
    }
    let state = balance(&mut client, tenants[0], "sum").await;
    assert_eq!((state.used, state.held), (982, 980));
    assert_eq!(survivor.status().await.drifts, []);
}

#[tokio::test]
async fn flushall_oversells_no_budget_across_tenants_and_loses_none() {
    let house = House::new().await;
    let text = one("money", "nano_usd", "'0.000001'", "calendar = 'month'", "")
        + &one("at-once", "concurrent", "3", "concurrent = true", "");
    let one = house.engine_with(quick(&text)).await;
    one.status().await;
    let two = house.engine_with(quick(&text)).await;
    // A tenant's own budget tells of the loss at once; without one, what is left of a slice may be given out until it is noticed.
    let own = || vec![crate::billing::limit("own", "organization", "nano_usd", 1_000_000, crate::billing::lifetime())];
    let tenants = [house.tenant(own()), house.tenant(own())];
    let without = house.tenant(Vec::new());
    let mut client = one.client();
    let spent = reserve(tenants[0], &[("nano_usd", 300)]);
    let handle = client.reserve(spent.clone()).await.unwrap().into_inner();
    client.commit(commit(&spent, &handle, &[("nano_usd", 250)])).await.unwrap();
    let alive = reserve(tenants[1], &[("nano_usd", 400), ("concurrent", 1)]);
    let handle = two.client().reserve(alive.clone()).await.unwrap().into_inner();

    // The account knows it, so the loss is one.
    while balance(&mut client, tenants[0], "money").await.used < 650 {
        sleep(Duration::from_millis(20)).await;
    }
    house.redis.flush().await.unwrap();
    for engine in [&one, &two] {
        // Then who has no limits of its own is refused as well.
        for tenant in [tenants[0], without] {
            let failure = open(engine.client().reserve(reserve(tenant, &[("nano_usd", 1)])).await).unwrap_err();
            assert_eq!(failure.reason(), ErrorReason::Rebuilding, "{failure}");
        }
    }
    let leases = vec![extension(&alive, &handle, 30)];
    for outcome in [LeaseOutcome::Announced, LeaseOutcome::Extended] {
        let answer = client.extend(ExtendRequest { leases: leases.clone() }).await.unwrap().into_inner();
        assert_eq!(answer.outcomes, [i32::from(outcome)]);
    }
    sleep(Duration::from_millis(1_050)).await;
    for engine in [&one, &two] {
        let state = balance(&mut engine.client(), tenants[0], "money").await;
        assert_eq!((state.used, state.held), (650, 400));
        assert_eq!(balance(&mut engine.client(), tenants[0], "at-once").await.used, 1);
    }
    let failure = open(two.client().reserve(reserve(tenants[0], &[("nano_usd", 351)])).await).unwrap_err();
    assert_eq!(failure.reason(), ErrorReason::BudgetExhausted);
    two.client().reserve(reserve(tenants[0], &[("nano_usd", 350)])).await.unwrap();
    assert!(client.reserve(reserve(tenants[1], &[("nano_usd", 1)])).await.is_err());
    one.client().commit(commit(&alive, &handle, &[("nano_usd", 100)])).await.unwrap();
    let state = balance(&mut client, tenants[0], "money").await;
    assert_eq!((state.used, state.held), (700, 350));
    assert_eq!(one.status().await.drifts, []);
}

#[tokio::test]
async fn a_drift_of_an_account_is_named() {
    let house = House::new().await;
    let text = one("money", "nano_usd", "'0.000001'", "calendar = 'month'", "");
    let engine = house.engine_with(quick(&text)).await;
    let tenant = house.tenant(Vec::new());
    let mut client = engine.client();
    let request = reserve(tenant, &[("nano_usd", 300)]);
    let handle = client.reserve(request.clone()).await.unwrap().into_inner();
    client.commit(commit(&request, &handle, &[("nano_usd", 250)])).await.unwrap();
    client.reserve(reserve(tenant, &[("nano_usd", 40)])).await.unwrap();
    let status = engine.status().await;
    assert_eq!((status.drifts, status.counters), (Vec::new(), 2), "the total in Postgres, and the account");
    // Somebody changes the total behind our back: it is neither what settlements make of it nor what the account has.
    sqlx::query("update quota.counters set committed = 240 where committed = 250")
        .execute(house.database().await.pool())
        .await
        .unwrap();
    let drift = |counter, expected| CounterDrift {
        organization: "organizations/00000000-0000-0000-0000-000000000000".to_owned(),
        limit: "money".to_owned(),
        subject: String::new(),
        counter,
        expected,
    };
    assert_eq!(engine.status().await.drifts, [drift(240, 250), drift(290, 280)]);
}

#[tokio::test]
async fn while_the_store_is_away_only_what_is_in_the_slice_is_given_out_and_only_where_that_is_wanted() {
    let house = House::new().await;
    let local = one("local", "token", "100000", "calendar = 'day'", "on_failure = 'local'");
    let mut settings = shared(&local);
    settings.redis.deadline = Duration::from_millis(100);
    settings.quota.slices.lease = Duration::from_secs(30);
    let engine = house.engine_with(settings).await;
    let own = crate::billing::open(crate::billing::limit(
        "own",
        "organization",
        "token",
        1_000_000,
        crate::billing::rolling(60_000),
    ));
    let tenant = house.tenant(vec![own]);
    let mut client = engine.client();
    for _ in 0..200 {
        client.reserve(reserve(tenant, &[("token", 10)])).await.unwrap();
    }
    house.redis.kill().await.unwrap();
    let mut without = 0;
    while let Ok(answer) = open(client.reserve(reserve(tenant, &[("token", 10)])).await) {
        assert!(!answer.handle.is_empty());
        without += 10;
    }
    assert!(without > 0 && without <= 50_000, "the slice, no more: {without}");
}

/// Reserves until the budget is gone, keeps its leases alive, and repeats what is not answered.
struct Caller {
    client: Client,
    tenant: OrganizationId,
    live: Mutex<Vec<(ReserveRequest, ReserveResponse)>>,
    paid: AtomicI64,
    done: AtomicBool,
}

const PRICE: i64 = 1_000;

impl Caller {
    async fn call(&self, work: Duration) -> bool {
        let request = reserve(self.tenant, &[("nano_usd", PRICE), ("request", 1)]);
        let handle = loop {
            match open(self.client.clone().reserve(request.clone()).await) {
                Ok(handle) => break handle,
                Err(failure) if failure.is_transient() => sleep(Duration::from_millis(20)).await,
                Err(failure) => {
                    assert_eq!(failure.reason(), ErrorReason::BudgetExhausted, "{failure}");
                    return false;
                }
            }
        };
        self.live.lock().push((request.clone(), handle.clone()));
        self.paid.fetch_add(PRICE, SeqCst);
        sleep(work).await;
        loop {
            let actuals = commit(&request, &handle, &[("nano_usd", PRICE), ("request", 1)]);
            match open(self.client.clone().commit(actuals).await) {
                Ok(_) => break,
                Err(failure) => assert!(failure.is_transient(), "{failure}"),
            }
            sleep(Duration::from_millis(20)).await;
        }
        self.live.lock().retain(|(other, _)| other.reservation_id != request.reservation_id);
        true
    }

    async fn keep_alive(&self) {
        while !self.done.load(SeqCst) {
            let live = self.live.lock().clone();
            let leases = live.iter().map(|(request, handle)| extension(request, handle, 30)).collect();
            let _ = self.client.clone().extend(ExtendRequest { leases }).await;
            sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test]
async fn losses_in_a_storm_oversell_no_budget_across_tenants_and_withhold_none() {
    const FITS: i64 = 400;
    let house = House::new().await;
    let text = one("money", "nano_usd", "'0.0004'", "calendar = 'month'", "")
        + &one("rate", "request", "100000", "rolling = '60s'", "");
    let engines = [house.engine_with(quick(&text)).await, house.engine_with(quick(&text)).await];
    let callers: Vec<Caller> = engines
        .iter()
        .map(|engine| Caller {
            client: engine.client(),
            tenant: house.tenant(Vec::new()),
            live: Mutex::default(),
            paid: AtomicI64::new(0),
            done: AtomicBool::new(false),
        })
        .collect();
    let clients = callers.iter().flat_map(|caller| {
        (0..10)
            .map(move |number| async move { while caller.call(Duration::from_millis(5 + 90 * (number % 4))).await {} })
    });
    let clients = async {
        futures::future::join_all(clients).await;
        // Right after a loss a refusal may be too careful; with nothing under way any more, what fits must be admitted.
        let until = Instant::now() + Duration::from_secs(60);
        while callers.iter().map(|caller| caller.paid.load(SeqCst)).sum::<i64>() < FITS * PRICE {
            callers[0].call(Duration::ZERO).await;
            assert!(Instant::now() < until, "something is withheld");
        }
        assert!(!callers[1].call(Duration::ZERO).await, "not one more");
        callers.iter().for_each(|caller| caller.done.store(true, SeqCst));
    };
    let harm = async {
        for _ in 0..2 {
            sleep(Duration::from_millis(300)).await;
            house.redis.flush().await.unwrap();
        }
        sleep(Duration::from_millis(200)).await;
        house.redis.kill().await.unwrap();
        sleep(Duration::from_millis(200)).await;
        house.redis.restart().await.unwrap();
    };
    let kept = futures::future::join_all(callers.iter().map(Caller::keep_alive));
    tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(clients, kept, harm) }).await.unwrap();
    let paid: i64 = callers.iter().map(|caller| caller.paid.load(SeqCst)).sum();
    assert_eq!(paid, FITS * PRICE);
    let state = balance(&mut engines[1].client(), callers[0].tenant, "money").await;
    assert_eq!((state.used, state.held), (paid, 0));
    engines[0].assert_balanced().await;
}
