use std::time::{Duration, Instant};

use tokio::time::sleep;
use weir_types::UserId;

use crate::billing::{limit, rolling};
use crate::house::{House, balance, commit, open, reserve};

/// An admission: it happened between the question and the answer.
struct Admitted {
    asked: Instant,
    answered: Instant,
    amount: i64,
}

/// Never more than `cap` in any span of `window`: of admissions that were certainly inside one, however long a busy machine
/// took for the answers.
fn assert_never_above(admitted: &[Admitted], window: Duration, cap: i64) {
    for (place, last) in admitted.iter().enumerate() {
        let inside = admitted[..=place].iter().filter(|first| last.answered.duration_since(first.asked) < window);
        let sum: i64 = inside.map(|admitted| admitted.amount).sum();
        assert!(sum <= cap, "{sum} within {window:?}");
    }
}

/// A refusal is right only if what could still be inside the window, with one bucket's width and a millisecond's rounding,
/// leaves no room.
fn assert_had_to_refuse(admitted: &[Admitted], asked: Instant, window: Duration, cap: i64, amount: i64) {
    let longest = window + window / 60 + Duration::from_millis(1);
    let inside = admitted.iter().filter(|earlier| asked.duration_since(earlier.answered) <= longest);
    let sum: i64 = inside.map(|admitted| admitted.amount).sum();
    assert!(sum + amount > cap, "refused {amount} with at most {sum} of {cap} used");
}

#[tokio::test]
async fn never_more_than_the_cap_in_any_window_and_not_much_less() {
    const WINDOW: Duration = Duration::from_millis(600);
    let house = House::new().await;
    let engine = house.engine().await;
    // One exact, one in buckets.
    for (cap, amount) in [(15, 1), (1_500, 100)] {
        let tenant = house.tenant(vec![limit("rate", "organization", "token", cap, rolling(600))]);
        let mut client = engine.client();
        let mut admitted: Vec<Admitted> = Vec::new();
        // As many windows as it takes to see the fifth cap's worth, on any machine.
        let enough = usize::try_from(4 * cap / amount + 1).unwrap();
        while admitted.len() < enough {
            let asked = Instant::now();
            match client.reserve(reserve(tenant, &[("token", amount)])).await {
                Ok(_) => admitted.push(Admitted { asked, answered: Instant::now(), amount }),
                Err(_) => assert_had_to_refuse(&admitted, asked, WINDOW, cap, amount),
            }
            sleep(Duration::from_millis(3)).await;
        }
        assert_never_above(&admitted, WINDOW, cap);
    }
}

#[tokio::test]
async fn what_is_returned_counts_only_while_its_bucket_is_inside() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![limit("rate", "organization", "token", 100, rolling(700))]);
    let mut client = engine.client();
    let old = reserve(tenant, &[("token", 90)]);
    let old_handle = client.reserve(old.clone()).await.unwrap().into_inner();
    sleep(Duration::from_millis(750)).await;
    let new = reserve(tenant, &[("token", 80)]);
    let new_handle = client.reserve(new.clone()).await.unwrap().into_inner();
    // Nothing of the old one is left in the window: giving it back must not make room.
    client.commit(commit(&old, &old_handle, &[("token", 0)])).await.unwrap();
    assert_eq!(balance(&mut client, tenant, "rate").await.used, 80);
    assert!(client.reserve(reserve(tenant, &[("token", 21)])).await.is_err());
    client.commit(commit(&new, &new_handle, &[("token", 30)])).await.unwrap();
    assert_eq!(balance(&mut client, tenant, "rate").await.used, 30);
    client.reserve(reserve(tenant, &[("token", 70)])).await.unwrap();
    assert_eq!(engine.status().await.drifts, []);
}

#[tokio::test]
async fn reserving_and_releasing_for_ever_leaves_nothing_behind() {
    let house = House::new().await;
    let engine = house.engine().await;
    let tenant = house.tenant(vec![limit("rate", "organization", "request", 10, rolling(3_600_000))]);
    let mut client = engine.client();
    for _ in 0..100 {
        let request = reserve(tenant, &[("request", 1)]);
        let handle = client.reserve(request.clone()).await.unwrap().into_inner();
        client.commit(commit(&request, &handle, &[])).await.unwrap();
    }
    let contents = house.contents(tenant).await;
    assert_eq!(contents.subjects[0].1.entries[0].queue, Some(Vec::new()), "an empty queue, not 100 empty buckets");
}

#[tokio::test]
async fn what_can_not_matter_any_more_is_swept_away() {
    let house = House::new().await;
    let mut settings = crate::house::settings();
    settings.quota.housekeeping.every = Duration::from_millis(100);
    settings.quota.settlements.remember = Duration::from_millis(300);
    let engine = house.engine_with(settings).await;
    let tenant = house.tenant(vec![limit("rate", "user", "request", 1, rolling(100))]);
    let mut client = engine.client();
    for _ in 0..20 {
        let mut request = reserve(tenant, &[("request", 1)]);
        request.subject.as_mut().unwrap().user = weir_types::names::user(&tenant, &UserId::new_v7());
        let handle = open(client.reserve(request.clone()).await).unwrap();
        client.commit(commit(&request, &handle, &[("request", 1)])).await.unwrap();
    }
    for _ in 0..600 {
        if house.size(tenant).await == 0 {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("marks and windows that have passed are still there");
}
