//! A database with the schema, a service on it, and events to record.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use deadpool_postgres::Pool;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_config::{Loader, MasterKey, Secret};
use weir_database::{copy, migrate, service_url};
use weir_testing::TestDatabase;
use weir_types::{ApiKeyId, ManualClock, OrganizationId, ReservationId, UserId};
use weir_usage::app::{Answer, Feed, Recorder};
use weir_usage::domain::{Disposition, Event, Outcome};
use weir_usage::storage::Store;
use weir_usage::{Config, DEFAULTS, MIGRATION, NAME};

/// One key for all tests: roles and their passwords belong to the server that the tests share.
pub(crate) fn master() -> MasterKey {
    MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap()
}

/// What time it is in every test.
pub(crate) fn now() -> DateTime<Utc> {
    "2026-11-15T12:34:56.789012Z".parse().unwrap()
}

pub(crate) async fn database() -> TestDatabase {
    weir_testing::database("usage", async |url: String| Ok(migrate(&url.into(), &master(), &[MIGRATION]).await?))
        .await
        .unwrap()
}

/// The service's defaults.
pub(crate) fn config() -> Config {
    #[derive(serde::Deserialize)]
    struct All {
        usage: Config,
    }
    impl weir_config::Validate for All {
        fn validate(&self, _: &str, problems: &mut Vec<weir_config::Problem>) {
            self.usage.validate("usage", problems);
        }
    }
    Loader::new().section(DEFAULTS).load::<All>().unwrap().usage
}

pub(crate) fn pool(admin_url: &str) -> Pool {
    copy::deadpool(&pool_config(service_url(&admin_url.into(), &master(), NAME)), NAME).unwrap()
}

pub(crate) fn pool_config(url: Secret) -> weir_database::Config {
    weir_database::Config {
        url,
        max_connections: 8,
        min_connections: 0,
        acquire_timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(60),
        max_lifetime: Duration::from_secs(60),
        statement_timeout: Duration::from_secs(20),
        statement_cache_capacity: 100,
    }
}

/// One replica of the service, without its RPCs.
pub(crate) struct Usage {
    pub(crate) store: Store,
    pub(crate) feed: Feed,
    pub(crate) recorder: Recorder,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) pool: Pool,
}

impl Usage {
    pub(crate) fn start(admin_url: &str) -> Self {
        Self::start_with(admin_url, &config())
    }

    pub(crate) fn start_with(admin_url: &str, config: &Config) -> Self {
        let pool = pool(admin_url);
        let store = Store::new(pool.clone(), Duration::from_secs(10));
        let feed = Feed::new(store.clone());
        let clock = Arc::new(ManualClock::new(now()));
        let (recorder, writer) = Recorder::new(config, store.clone(), feed.clone(), clock);
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(writer.run());
        tasks.spawn(feed.clone().run(Duration::from_millis(20), shutdown.clone()));
        Self { store, feed, recorder, shutdown, tasks, pool }
    }

    /// Records valid events.
    pub(crate) async fn record(&self, events: &[Event]) -> Vec<Disposition> {
        let answers = self.recorder.record(events.iter().cloned().map(Ok).collect(), None).await.unwrap();
        answers.into_iter().map(taken).collect()
    }

    pub(crate) async fn count(&self, what: &str) -> i64 {
        self.pool.get().await.unwrap().query_one(&format!("select {what}"), &[]).await.unwrap().get(0)
    }

    /// The invariants that hold at any time: sums are the sums over events, positions are unique up to the head, and
    /// what was superseded is kept.
    pub(crate) async fn assert_balanced(&self) {
        let drift = self
            .count(
                "count(*) from (select organization_id, date_trunc('hour', event_time, 'UTC') as hour,
                    coalesce(user_id, uuid_nil.id) as user_id, coalesce(api_key_id, uuid_nil.id) as api_key_id,
                    model, provider, operation, sum(requests) as requests, sum(input_tokens) as i,
                    sum(cached_input_tokens) as c, sum(output_tokens) as o, sum(cost_nano_usd) as n,
                    count(*) filter (where estimated) as e
                  from usage.events, (select '00000000-0000-0000-0000-000000000000'::uuid as id) as uuid_nil
                  group by 1, 2, 3, 4, 5, 6, 7) as events
                full join (select * from usage.rollups_hourly where requests > 0 or input_tokens > 0
                  or output_tokens > 0 or cost_nano_usd > 0 or estimated_requests > 0) as rollups
                using (organization_id, hour, user_id, api_key_id, model, provider, operation)
                where (events.requests, i, c, o, n, e) is distinct from (rollups.requests, input_tokens,
                  cached_input_tokens, output_tokens, cost_nano_usd, estimated_requests)",
            )
            .await;
        assert_eq!(drift, 0, "sums that are not the sums over events");
        let beyond = self.count("count(*) from usage.events where position > (select head from usage.feed)").await;
        assert_eq!(beyond, 0, "events beyond the head");
        let revisions = self.count("coalesce(sum(revision), 0)::bigint from usage.events").await;
        let kept =
            self.count("(select count(*) from usage.events) + (select count(*) from usage.event_originals)").await;
        assert_eq!(revisions, kept, "each superseded revision is kept");
    }
}

pub(crate) fn taken(answer: Answer) -> Disposition {
    match answer {
        Answer::Taken(disposition) => disposition,
        Answer::Invalid(invalid) => panic!("refused: {invalid}"),
    }
}

/// An event of `organization` that is valid in every way.
pub(crate) fn event(organization: OrganizationId) -> Event {
    Event {
        id: ReservationId::new_v7(),
        source: "ai-broker".to_owned(),
        organization,
        user: Some(UserId::new_v7()),
        api_key: Some(ApiKeyId::new_v7()),
        provider: "openai".to_owned(),
        model: "gpt-4.1-mini".to_owned(),
        operation: "chat.completions".to_owned(),
        event_time: now() - TimeDelta::minutes(5),
        input_tokens: 1000,
        cached_input_tokens: 200,
        output_tokens: 50,
        quantities: [("audio_second".to_owned(), 61)].into(),
        cost_nano_usd: 420_000,
        price_version: "2026-11-01".to_owned(),
        estimated: false,
        outcome: Outcome::Complete,
        latency_ms: 900,
        first_byte_ms: 120,
        request_id: "req-1".to_owned(),
        provider_key: None,
        requests: 1,
    }
}

/// An event that stands for so many requests which used nothing.
pub(crate) fn without_use(organization: OrganizationId, requests: i64) -> Event {
    Event {
        input_tokens: 0,
        cached_input_tokens: 0,
        output_tokens: 0,
        quantities: [].into(),
        cost_nano_usd: 0,
        requests,
        ..event(organization)
    }
}

/// The estimate that a take-over would send for `actual`.
pub(crate) fn estimate_of(actual: &Event) -> Event {
    Event { estimated: true, outcome: Outcome::Unknown, input_tokens: 5000, output_tokens: 4000, ..actual.clone() }
}
