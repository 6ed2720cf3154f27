//! `deploy/scenarios/live-coaching` under the Artillery plan, scaled: its arrivals by a tenth, its minutes by a twentieth; and 50 and
//! 500 users at once. (5,000 connections at once are `make streams`, on a release build.) How fast the answers are depends on the
//! machine and is not looked at: none may be an error, of the database or of the provider.

use std::time::Duration;

use futures::future::join_all;
use futures::stream::FuturesUnordered;
use futures::{StreamExt as _, future};
use serde_json::json;
use tokio::time::Instant;
use tokio_postgres::NoTls;
use toml::Table;
use weir_integration_tests::tenants::Tenant;

use crate::live_coaching::{SCENARIO, config};
use crate::scenarios::{Stage, set};

/// Seconds and arrivals a second.
const PLAN: [(u64, u64); 3] = [(60, 10), (300, 50), (60, 200)];
const SHORTER: u64 = 20;
const FEWER: u64 = 10;

/// A provider that refuses beyond what the limits say.
const PROVIDER: [&str; 6] =
    ["--limits", "requests:10000/concurrent:50", "--rate-window-secs", "60", "--latency-ms", "50"];

async fn begin() -> Stage {
    let config = |provider: &_| {
        let mut config: Table = config(provider).parse().unwrap();
        // The true figures.
        for (limit, amount) in config["quota"]["shared"].as_array_mut().unwrap().iter_mut().zip([9_000, 50]) {
            let limit = limit.as_table_mut().unwrap();
            set(limit, &["amount"], amount);
            if amount == 9_000 {
                set(limit, &["window", "rolling"], "60s");
            }
        }
        // A machine that is slow takes longer, and that is all.
        set(&mut config, &["broker", "providers", "openai", "max_wait"], "150s");
        toml::to_string(&config).unwrap()
    };
    let database = SCENARIO.read("weir.toml")["database"].as_table().unwrap().clone();
    assert_eq!(["max_connections", "min_connections"].map(|key| database[key].as_integer()), [Some(4), Some(1)]);
    // What a slow machine may take is no figure of the scenario's.
    let env = database.iter().filter(|(key, _)| *key != "acquire_timeout").map(|(key, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (format!("WEIR_DATABASE__{}", key.to_uppercase()), value)
    });
    Stage::begin_with(&PROVIDER, env.collect(), config).await
}

impl Stage {
    /// Whether a chat is answered; it is asked once.
    async fn coaches(&self, user: &Tenant) -> bool {
        let messages = [json!({"role": "user", "content": "how was I"})];
        let body = json!({"model": "coach", "messages": messages, "max_completion_tokens": 4});
        let answer = self.post(user, "/v1/chat/completions").json(&body).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        if status != 200 {
            eprintln!("{status} {text}");
        }
        status == 200
    }

    /// The most connections that the services have to the database, looked at again and again.
    async fn most_connections(&self) -> i64 {
        let (database, connection) = tokio_postgres::connect(self.deployment.postgres_url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        let mut most = 0;
        loop {
            let count = "select count(*) from pg_stat_activity where usename like 'weir%' and pid <> pg_backend_pid()";
            most = database.query_one(count, &[]).await.unwrap().get::<_, i64>(0).max(most);
            assert!(most <= 20, "{most} connections");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Nothing that has to do with the database or the provider's limits went wrong.
    async fn check(&self) {
        let stats = self.deployment.provider.stats().await.unwrap();
        assert_eq!(stats.statuses.get(&429), None, "{stats:?}");
        let metrics = self.client.get(format!("http://{}/metrics", self.deployment.admin("all"))).send().await.unwrap();
        let metrics = metrics.text().await.unwrap();
        assert!(metrics.contains("weir_broker_in_flight"), "{metrics}");
        let errors: Vec<_> = metrics
            .lines()
            .filter(|line| line.starts_with("weir_database_errors_total") && !line.ends_with(" 0"))
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
}

#[tokio::test]
async fn the_artillery_plan_meets_no_error() {
    let stage = begin().await;
    let users = join_all((0..20).map(|_| stage.user("premium", Vec::new()))).await;
    let arrivals = async {
        let (mut under_way, mut at, mut count) = (FuturesUnordered::new(), Instant::now(), 0);
        for (seconds, per_second) in PLAN {
            for _ in 0..seconds / SHORTER * per_second / FEWER {
                under_way.push({
                    let (stage, user) = (&stage, &users[count % users.len()]);
                    async move {
                        tokio::time::sleep_until(at).await;
                        stage.coaches(user).await
                    }
                });
                count += 1;
                at += Duration::from_secs(FEWER) / u32::try_from(per_second).unwrap();
            }
        }
        let mut failed = 0;
        while let Some(is_answered) = under_way.next().await {
            failed += usize::from(!is_answered);
        }
        assert_eq!(count, 138);
        assert!(failed * 100 < count, "{failed} of {count}");
    };
    future::select(Box::pin(arrivals), Box::pin(stage.most_connections())).await;
    stage.check().await;
    stage.end().await;
}

#[tokio::test]
async fn fifty_users_at_once_and_five_hundred_are_all_answered() {
    let stage = begin().await;
    for users in [5, 50] {
        let plans = ["free", "premium"];
        let users = join_all((0..users).map(|nth| stage.user(plans[nth % 2], Vec::new()))).await;
        let calls = users.iter().flat_map(|user| std::iter::repeat_n(user, 10)).map(|user| stage.coaches(user));
        let answered = future::select(Box::pin(join_all(calls)), Box::pin(stage.most_connections())).await;
        let future::Either::Left((answered, _)) = answered else { unreachable!() };
        assert!(answered.iter().all(|is_answered| *is_answered), "{answered:?}");
    }
    stage.check().await;
    stage.end().await;
}
