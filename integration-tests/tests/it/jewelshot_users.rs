//! `deploy/scenarios/jewelshot`: what one user meets with: the same picture again, his own limit, and the k6 plan, with the minute
//! scaled.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use weir_integration_tests::books::{self, Books};
use weir_integration_tests::tenants::Tenant;
use weir_proto::billing::v1::{Lifetime, Limit, OnFailure, Window, window};

use crate::jewelshot::{MINUTE_MS, NEVER, Shop, USERS};

/// Minutes, and how many users there are at their ends.
const PLAN: [(u32, usize); 3] = [(1, 10), (2, 50), (1, 0)];

impl Shop {
    /// A picture of this size; its job.
    async fn drawn(&self, user: &Tenant, prompt: &str, size: &str) -> Value {
        let id = self.order_of(user, prompt, size).await;
        self.picture(user, &id).await.1
    }

    /// What the gallery has of a job.
    async fn kept(&self, job: &Value) -> Vec<u8> {
        let url = job["steps"][1]["result"]["body"]["data"][0]["url"].as_str().unwrap();
        let path = url.strip_prefix("https://api.example.com").unwrap();
        let answer = self.client.get(self.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.headers()["cache-control"].to_str().unwrap().ends_with("immutable"));
        answer.bytes().await.unwrap().to_vec()
    }

    async fn charged(&self, user: &Tenant) -> i64 {
        books::settle(&self.deployment.siblings, Duration::from_secs(60)).await.unwrap();
        let books = Books::of(&self.deployment.siblings, std::slice::from_ref(&user.organization)).await.unwrap();
        assert_eq!(books.usage.totals.cost_nano_usd, books.billing.totals.cost_nano_usd);
        books.billing.totals.cost_nano_usd
    }

    async fn end(self) {
        books::settle(&self.deployment.siblings, Duration::from_secs(60)).await.unwrap();
        let audited = self.deployment.audit().await.unwrap();
        assert!(audited.clean, "{}", audited.text);
    }
}

/// So many pictures, ever, in the place of the plan's so many a day.
fn pictures(amount: i64) -> Limit {
    Limit {
        name: "pictures-per-day".to_owned(),
        scope: "organization".to_owned(),
        unit: "image".to_owned(),
        amount,
        window: Some(Window { kind: Some(window::Kind::Lifetime(Lifetime {})) }),
        on_failure: OnFailure::Closed.into(),
        alert_percents: Vec::new(),
    }
}

#[tokio::test]
async fn the_same_prompt_and_input_is_the_same_picture_and_charged_once() {
    // Wider than the gallery's; one of FAL's megapixels, at $0.025.
    const LARGE: (&str, i64) = ("2048x256", 25_000_000);
    let shop = Shop::open(1, None, NEVER).await;
    let user = &shop.users[0];
    assert_eq!(shop.ask(user, Method::PUT, "/api/v1/cache", Some(&json!({"enabled": true}))).await.status(), 200);
    let first = shop.drawn(user, "a ring", LARGE.0).await;
    let is_cached = |job: &Value| job["steps"][0]["result"]["cached"] == true;
    assert!(!is_cached(&first), "{first}");
    // Keeping takes a moment, and a slow store has none.
    let mut again = first.clone();
    for _ in 0..50 {
        again = shop.drawn(user, "a ring", LARGE.0).await;
        if is_cached(&again) {
            break;
        }
    }
    let paid = shop.submissions().await.len();
    for _ in 0..3 {
        let once_more = shop.drawn(user, "a ring", LARGE.0).await;
        assert!(is_cached(&once_more) && once_more["steps"][0]["result"]["cost_nano_usd"] == 0, "{once_more}");
        assert_eq!(shop.kept(&once_more).await, shop.kept(&again).await);
    }
    assert_eq!(shop.submissions().await.len(), paid);
    assert_eq!(shop.charged(user).await, i64::try_from(paid).unwrap() * LARGE.1);
    // Another input is another picture.
    let other = shop.drawn(user, "a ring", "1024x768").await;
    assert!(!is_cached(&other), "{other}");
    assert_eq!(shop.submissions().await.len(), paid + 1);

    // As it is promised, however large it came.
    let picture = &again["steps"][1]["result"]["body"]["data"][0];
    let [width, height] = ["width", "height"].map(|side| picture[side].as_u64().unwrap());
    assert!(width <= 1920 && width.abs_diff(8 * height) <= 8, "{picture}");
    assert!(shop.kept(&again).await.len() <= 500_000);
    shop.end().await;
}

#[tokio::test]
async fn who_is_over_his_own_limit_waits_and_those_behind_him_do_not() {
    let shop = Shop::open(5, None, NEVER).await;
    let (greedy, others) = shop.users.split_first().unwrap();
    greedy.subscribe(&shop.deployment.siblings, "plans/normal", vec![pictures(1)]).await.unwrap();
    let limited = async || {
        let balance: Value = shop.ask(greedy, Method::GET, "/api/v1/balance", None).await.json().await.unwrap();
        balance["limits"].as_array().unwrap().iter().any(|limit| limit["limit"] == 1)
    };
    while !limited().await {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    shop.drawn(greedy, "first", "1024x768").await;
    let mut second = Vec::new();
    for nth in 0..3 {
        second.push(shop.order(nth, greedy).await);
    }
    let state = async |id: &str| {
        let job = shop.ask(greedy, Method::GET, &format!("/api/v1/jobs/{id}"), None).await;
        job.json::<Value>().await.unwrap()
    };
    // Those behind him have their pictures, and he has none more; nor has his wish failed.
    let orders = join_all(others.iter().enumerate().map(|(nth, user)| shop.order(nth, user))).await;
    join_all(others.iter().zip(&orders).map(|(user, id)| shop.picture(user, id))).await;
    assert_eq!(shop.submissions().await.len(), 1 + others.len());
    for id in &second {
        let job = state(id).await;
        assert!(matches!(job["state"].as_str(), Some("queued" | "processing")), "{job}");
    }
    // There is room again.
    greedy.subscribe(&shop.deployment.siblings, "plans/normal", vec![pictures(4)]).await.unwrap();
    join_all(second.iter().map(|id| shop.picture(greedy, id))).await;
    assert_eq!(shop.submissions().await.len(), 4 + others.len());
    shop.end().await;
}

#[tokio::test]
async fn the_k6_plan_meets_no_error() {
    let shop = Shop::open(USERS, None, NEVER).await;
    let minute = Duration::from_millis(MINUTE_MS);
    let began = Instant::now();
    // Who is there from when to when: users come one after the other, and leave in that order.
    let [(up, few), (further, all), (down, _)] = PLAN;
    assert_eq!(all, USERS);
    let part =
        |of: Duration, nth: usize, count: usize| of * u32::try_from(nth).unwrap() / u32::try_from(count).unwrap();
    let stay = |nth: usize| {
        let from = match nth.checked_sub(few) {
            None => part(up * minute, nth, few),
            Some(nth) => up * minute + part(further * minute, nth, all - few),
        };
        (from, (up + further) * minute + part(down * minute, nth, all))
    };
    let users = shop.users.iter().enumerate().map(async |(nth, user)| {
        let (from, until) = stay(nth);
        tokio::time::sleep_until(began + from).await;
        let mut drawn = Vec::new();
        loop {
            let picture = shop.drawn(user, &format!("ring {nth}-{}", drawn.len()), "1024x768").await;
            drawn.push(picture["id"].as_str().unwrap().to_owned());
            if began.elapsed() >= until {
                return drawn;
            }
        }
    });
    let drawn: Vec<_> = join_all(users).await.into_iter().flatten().collect();
    assert!(drawn.len() >= USERS);
    assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), drawn.len());
    let submitted = shop.submissions().await;
    assert_eq!(submitted.len(), drawn.len(), "each once, and no error");
    shop.check_windows(&submitted, 15);
    shop.end().await;
}
