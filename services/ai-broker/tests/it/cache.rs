//! Answers that are kept and given again, with a real Redis and a real Postgres.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use weir_database::Database;
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_proto::broker::v1::{
    Accounting, CacheDirectives, CachePolicy, InvokeRequest, InvokeResponse, Operation, PurgeCacheRequest,
    UpdateCachePolicyRequest,
};
use weir_proto::common::v1::ErrorReason;
use weir_proto::usage::v1::UsageEvent;
use weir_rpc::{Bearer, Failure};
use weir_simulator::{Options, Simulator};
use weir_testing::{RedisServer, TestDatabase};
use weir_types::{OrganizationId, names};

use crate::database;
use crate::scene::Scene;

pub(crate) const ROUTES: &str = "[broker.routes.kept]\nprovider = \"sim\"\nmodel = \"sim-small\"\ncache = { ttl = \"1h\" }\n\
    [broker.routes.own]\nprovider = \"sim\"\nmodel = \"sim-small\"\ncache = { ttl = \"1h\", scope = \"user\" }\n\
    [broker.routes.common]\nprovider = \"sim\"\nmodel = \"sim-small\"\ncache = { ttl = \"1h\", scope = \"shared\" }\n\
    [broker.routes.spoken]\nprovider = \"sim\"\nmodel = \"tts-1\"\ncache = { ttl = \"1h\" }\n\
    [broker.routes.careful]\nprovider = \"sim\"\nmodel = \"sim-small\"\nfallback = [\"sim-claude\"]\ncache = { ttl = \"1h\" }\n";

/// Brokers that keep answers, and what is behind them.
pub(crate) struct House {
    pub(crate) scene: Scene,
    pub(crate) provider: Arc<Simulator>,
    pub(crate) redis: RedisServer,
    /// Dropped last: with it the database goes.
    admin: TestDatabase,
}

impl House {
    pub(crate) async fn new() -> Self {
        Self::with("", ROUTES).await
    }

    /// With an organisation that has turned keeping on.
    pub(crate) async fn with(settings: &str, routes: &str) -> Self {
        let admin = database::database().await;
        let redis = weir_testing::private_redis().await.unwrap();
        let provider = Arc::new(Simulator::start(Options::default()).await.unwrap());
        let scene = scene(&provider, &redis, database::connect(&admin.url).await, settings, routes).await;
        let house = Self { scene, provider, redis, admin };
        house.allow(house.scene.organization, &house.scene.bearer, true, false).await;
        house
    }

    /// Another broker, whose callers are those of the first.
    pub(crate) async fn second(&mut self, routes: &str) -> Scene {
        let database = database::connect(&self.admin.url).await;
        let mut second = scene(&self.provider, &self.redis, database, "", routes).await;
        second.adopt(&self.scene);
        self.scene.adopt(&second);
        second
    }

    pub(crate) async fn allow(&self, organization: OrganizationId, bearer: &Bearer, enabled: bool, shared: bool) {
        let name = format!("{}/cachePolicy", names::organization(&organization));
        let policy = Some(CachePolicy { name, enabled, shared, max_ttl: None });
        let request = bearer.request(UpdateCachePolicyRequest { policy });
        self.scene.cache.clone().update_cache_policy(request).await.unwrap();
    }

    pub(crate) fn calls(&self) -> usize {
        self.provider.served().len()
    }

    /// How often brokers have looked into Redis for an answer.
    pub(crate) async fn looks(&self) -> u64 {
        let client = weir_redis::redis::Client::open(self.redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let stats: String =
            weir_redis::redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap();
        let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_mget:calls="));
        calls.map_or(0, |calls| calls.split(',').next().unwrap().parse().unwrap())
    }

    /// How many answers Redis has.
    async fn entries(&self) -> usize {
        dump(&self.redis).await.iter().filter(|(key, _)| key.len() > 90).count()
    }

    /// Asks until the answer is a kept one: it is stored beside the call.
    async fn kept(&self, body: &Value) -> InvokeResponse {
        for _ in 0..6_000 {
            let answer = ask(&self.scene, body).await;
            if answer.accounting.as_ref().unwrap().cached {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never kept: {body}");
    }

    pub(crate) async fn purge(&self) -> i64 {
        let name = format!("{}/cachePolicy", names::organization(&self.scene.organization));
        let request = self.scene.bearer.request(PurgeCacheRequest { name });
        self.scene.cache.clone().purge_cache(request).await.unwrap().into_inner().entries
    }
}

async fn scene(
    provider: &Arc<Simulator>,
    redis: &RedisServer,
    database: Database,
    settings: &str,
    routes: &str,
) -> Scene {
    Scene::keeping(provider, redis, database, &format!("cache.deadline = \"1s\"\n{settings}"), routes).await
}

/// Everything that is in Redis, strings with their values.
async fn dump(redis: &RedisServer) -> Vec<(String, Vec<u8>)> {
    let client = weir_redis::redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> =
        weir_redis::redis::cmd("KEYS").arg("weir:answers:*").query_async(&mut connection).await.unwrap();
    let mut all = Vec::new();
    for key in keys {
        let value: Result<Vec<u8>, _> = weir_redis::redis::cmd("GET").arg(&key).query_async(&mut connection).await;
        all.push((key, value.unwrap_or_default()));
    }
    all
}

pub(crate) fn of(route: &str, text: &str) -> Value {
    json!({"model": route, "max_tokens": 5, "messages": [{"role": "user", "content": text}]})
}

fn request(operation: Operation, body: &Value, cache: Option<CacheDirectives>) -> InvokeRequest {
    InvokeRequest { operation: operation.into(), body: body.to_string().into(), cache, ..InvokeRequest::default() }
}

async fn try_ask(scene: &Scene, body: &Value, cache: CacheDirectives) -> Result<InvokeResponse, Failure> {
    scene.invoke_request(request(Operation::ChatCompletions, body, Some(cache))).await
}

async fn ask(scene: &Scene, body: &Value) -> InvokeResponse {
    try_ask(scene, body, CacheDirectives::default()).await.unwrap()
}

async fn is_cached(scene: &Scene, body: &Value) -> bool {
    ask(scene, body).await.accounting.unwrap().cached
}

async fn ask_as(scene: &Scene, bearer: &Bearer, body: &Value) -> Accounting {
    let request = bearer.request(request(Operation::ChatCompletions, body, None));
    scene.broker.clone().invoke(request).await.unwrap().into_inner().accounting.unwrap()
}

/// A stream's start, its bytes and its accounting.
async fn play(scene: &Scene, operation: Operation, body: &Value) -> (String, Vec<u8>, Accounting) {
    let mut parts = scene.stream_request(request(operation, body, None)).await.unwrap();
    let (mut kind, mut bytes, mut end) = (String::new(), Vec::new(), Accounting::default());
    while let Some(part) = parts.message().await.unwrap() {
        match part.part.unwrap() {
            Part::Start(start) => kind = start.content_type,
            Part::Chunk(chunk) => bytes.extend_from_slice(&chunk),
            Part::Accounting(accounting) => end = accounting,
            Part::Queued(_) => {}
        }
    }
    (kind, bytes, end)
}

#[tokio::test]
async fn the_second_request_gets_the_kept_answer_and_costs_nothing() {
    let house = House::new().await;
    let body = of("kept", "hello");
    let first = ask(&house.scene, &body).await;
    let again = house.kept(&body).await;
    let (first_json, again_json): (Value, Value) =
        (serde_json::from_slice(&first.body).unwrap(), serde_json::from_slice(&again.body).unwrap());
    assert_eq!(again_json["cached"], true);
    assert_eq!(again_json["choices"], first_json["choices"]);
    assert_eq!(again.content_type, first.content_type);
    let accounting = again.accounting.unwrap();
    assert_eq!((accounting.cost_nano_usd, accounting.attempts, accounting.model.as_str()), (0, 0, "sim-small"));
    let calls = house.calls();
    assert_eq!(ask(&house.scene, &body).await.body, again.body);
    assert_eq!(house.calls(), calls);
    // Nothing is reserved for it, and the books have it at no cost.
    house
        .scene
        .eventually("the hit is recorded", async |scene| {
            scene.siblings.recorded.lock().contains_key(&accounting.reservation_id)
        })
        .await;
    let event: UsageEvent = house.scene.siblings.recorded.lock()[&accounting.reservation_id].clone();
    assert_eq!((event.source.as_str(), event.cost_nano_usd, event.input_tokens), ("ai-broker-cache", 0, 0));
    assert_eq!((event.model.as_str(), event.operation.as_str()), ("sim-small", "chat.completions"));
    assert_eq!(house.scene.siblings.reserved.lock().len(), calls);
}

#[tokio::test]
async fn a_kept_stream_is_the_same_stream_and_a_kept_sound_the_same_sound() {
    let house = House::new().await;
    let mut chat = of("kept", "hello");
    chat["stream"] = true.into();
    let speech = json!({"model": "spoken", "input": "Hello there", "voice": "alloy"});
    for (operation, body) in [(Operation::ChatCompletions, chat), (Operation::Speech, speech)] {
        let first = play(&house.scene, operation, &body).await;
        assert!(!first.2.cached && first.1.len() > 50);
        house.scene.eventually("it is kept", async |scene| play(scene, operation, &body).await.2.cached).await;
        let again = play(&house.scene, operation, &body).await;
        assert_eq!((&again.0, &again.2.cost_nano_usd), (&first.0, &0));
        let calls = house.calls();
        assert_eq!(play(&house.scene, operation, &body).await.1, again.1);
        assert_eq!(house.calls(), calls);
        if operation == Operation::ChatCompletions {
            assert!(again.1.ends_with(b"data: [DONE]\n\n"));
        }
    }
    assert!(!is_cached(&house.scene, &of("kept", "hello")).await, "a plain answer is another one than a stream");
}

#[tokio::test]
async fn route_tenant_and_request_must_all_allow_it() {
    let house = House::new().await;
    let body = of("kept", "hello");
    let unkept = of("fast", "hello");
    ask(&house.scene, &unkept).await;
    // A tenant that never turned it on.
    ask_as(&house.scene, &house.scene.stranger, &body).await;
    let no_store = || CacheDirectives { no_store: true, ..CacheDirectives::default() };
    try_ask(&house.scene, &body, no_store()).await.unwrap();
    assert_eq!(house.entries().await, 0);
    house.kept(&body).await;
    assert!(!is_cached(&house.scene, &unkept).await);
    assert!(!ask_as(&house.scene, &house.scene.stranger, &body).await.cached);
    assert!(!try_ask(&house.scene, &body, no_store()).await.unwrap().accounting.unwrap().cached);
    let refresh = CacheDirectives { no_cache: true, ..CacheDirectives::default() };
    let refreshed = try_ask(&house.scene, &body, refresh).await.unwrap();
    assert!(!refreshed.accounting.unwrap().cached);
    let id = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["id"].clone();
    house
        .scene
        .eventually("the newer one is kept", async |scene| id(&ask(scene, &body).await.body) == id(&refreshed.body))
        .await;
    let max_age = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let fresh = async |seconds| {
        let directives = CacheDirectives { max_age: max_age(seconds), ..CacheDirectives::default() };
        try_ask(&house.scene, &body, directives).await.unwrap().accounting.unwrap().cached
    };
    assert!(fresh(600).await);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(!fresh(1).await);
}

#[tokio::test]
async fn nobody_gets_what_is_anothers_unless_it_is_shared_on_purpose() {
    let house = House::new().await;
    let (scene, stranger) = (&house.scene, &house.scene.stranger);
    house.allow(scene.strange, stranger, true, false).await;
    for route in ["kept", "own", "common"] {
        let body = of(route, route);
        house.kept(&body).await;
        assert!(!ask_as(scene, stranger, &body).await.cached, "{route}");
    }
    house.allow(scene.strange, stranger, true, true).await;
    house.allow(scene.organization, &scene.bearer, true, true).await;
    let body = of("common", "shared");
    house.kept(&body).await;
    assert!(ask_as(scene, stranger, &body).await.cached);
    let named = CacheDirectives { key: "k".into(), ..CacheDirectives::default() };
    try_ask(scene, &body, named.clone()).await.unwrap();
    let named = stranger.request(request(Operation::ChatCompletions, &body, Some(named)));
    let named = scene.broker.clone().invoke(named).await.unwrap().into_inner();
    assert!(!named.accounting.unwrap().cached, "what a client names itself means nothing to others");
}

#[tokio::test]
async fn a_users_own_answers_are_not_given_to_colleagues() {
    let mut house = House::new().await;
    for route in ["kept", "own"] {
        house.kept(&of(route, "hello")).await;
    }
    // Of the same organisation, and nobody's in particular.
    house.second(ROUTES).await;
    assert!(is_cached(&house.scene, &of("kept", "hello")).await);
    assert!(!is_cached(&house.scene, &of("own", "hello")).await);
}

#[tokio::test]
async fn what_changes_the_answer_makes_another_request_and_what_does_not_does_not() {
    let house = House::new().await;
    let body = of("kept", "hello");
    house.kept(&body).await;
    for (field, value) in [("user", json!("u-7")), ("metadata", json!({"a": "b"})), ("safety_identifier", json!("x"))] {
        let mut same = body.clone();
        same[field] = value;
        assert!(is_cached(&house.scene, &same).await, "{field}");
    }
    let spaced = format!(" {}", serde_json::to_string_pretty(&body).unwrap());
    let spaced = InvokeRequest { body: spaced.into(), ..request(Operation::ChatCompletions, &body, None) };
    assert!(house.scene.invoke_request(spaced).await.unwrap().accounting.unwrap().cached);
    assert!(is_cached(&house.scene, &of("common", "hello")).await, "another name for the same model");
    for (field, value) in [("temperature", json!(0)), ("max_tokens", json!(6)), ("n", json!(2)), ("seed", json!(1))] {
        let mut other = body.clone();
        other[field] = value;
        assert!(!is_cached(&house.scene, &other).await, "{field}");
    }
    let mut stored = body.clone();
    stored["store"] = true.into();
    ask(&house.scene, &stored).await;
    assert!(!is_cached(&house.scene, &stored).await, "the provider is to store something");
}

#[tokio::test]
async fn a_key_of_the_clients_own_says_what_is_the_same() {
    let house = House::new().await;
    let key = |key: &str| CacheDirectives { key: key.into(), ..CacheDirectives::default() };
    let cached = async |text: &str, name: &str| {
        try_ask(&house.scene, &of("kept", text), key(name)).await.unwrap().accounting.unwrap().cached
    };
    assert!(!cached("analyse at 10:00", "session-7").await);
    house.scene.eventually("it is kept", async |_| cached("analyse at 10:01", "session-7").await).await;
    assert!(!cached("analyse at 10:00", "session-8").await);
    assert!(!is_cached(&house.scene, &of("kept", "analyse at 10:00")).await);
}

#[tokio::test]
async fn a_cache_that_is_away_or_lost_its_data_is_a_miss() {
    // Without answers at hand, which outlive Redis for a moment.
    let house = House::with("cache.memory_bytes = 0", ROUTES).await;
    let body = of("kept", "hello");
    house.kept(&body).await;
    house.redis.flush().await.unwrap();
    assert!(!is_cached(&house.scene, &body).await);
    house.kept(&body).await;
    house.redis.kill().await.unwrap();
    for _ in 0..3 {
        assert!(!is_cached(&house.scene, &body).await);
    }
    let mut stream = body.clone();
    stream["stream"] = true.into();
    assert!(!play(&house.scene, Operation::ChatCompletions, &stream).await.2.cached);
    house.redis.restart().await.unwrap();
    house.kept(&body).await;
}

#[tokio::test]
async fn only_whole_answers_of_who_was_asked_are_kept() {
    let house = House::with("rests.failed = \"1ms\"\nrests.failed_most = \"1ms\"", ROUTES).await;
    let directed = |route: &str, directive: &str| {
        let mut body = of(route, directive);
        body["metadata"] = json!({"simulate": directive});
        body
    };
    // The key rests after each failure.
    let rested = async || tokio::time::sleep(Duration::from_millis(50)).await;
    for directive in ["status=400", "status=500", "body=malformed", "usage=none", "cut_after=1"] {
        rested().await;
        let refused = try_ask(&house.scene, &directed("kept", directive), CacheDirectives::default()).await;
        assert_eq!(refused.is_err(), directive != "usage=none", "{directive}");
    }
    for directive in ["cut_after=2", "error_after=2", "end_after=2"] {
        let mut body = directed("kept", directive);
        body["stream"] = true.into();
        rested().await;
        let (_, _, error) = house.scene.stream_whole(&body).await;
        assert!(error.is_some(), "{directive}");
    }
    // A stand-in answers.
    rested().await;
    let stood_in = ask(&house.scene, &directed("careful", "status=500, fail_times=2")).await;
    assert_eq!(stood_in.accounting.unwrap().provider, "claude");
    rested().await;
    house.kept(&of("kept", "a good one")).await;
    assert_eq!(house.entries().await, 1);
}

#[tokio::test]
async fn a_tenant_has_so_much_room_and_an_answer_so_much() {
    let house = House::with("cache.max_entry_bytes = 1500\ncache.max_tenant_bytes = 4000", ROUTES).await;
    for n in 0..12 {
        house.kept(&of("kept", &format!("question {n}"))).await;
    }
    let sizes: usize =
        dump(&house.redis).await.iter().filter(|(key, _)| key.len() > 90).map(|(_, value)| value.len()).sum();
    let entries = house.entries().await;
    assert!(entries > 1 && entries < 12 && sizes <= 4000, "{entries} of {sizes} bytes");
    assert!(is_cached(&house.scene, &of("kept", "question 11")).await, "the newest is there");
    let mut long = of("kept", "long");
    long["max_tokens"] = 1000.into();
    ask(&house.scene, &long).await;
    house.kept(&of("kept", "another")).await;
    assert!(!is_cached(&house.scene, &long).await);
}

#[tokio::test]
async fn a_purge_is_seen_by_every_broker_at_once_and_by_calls_under_way() {
    let mut house = House::new().await;
    let second = house.second(ROUTES).await;
    let body = of("kept", "hello");
    house.kept(&body).await;
    second.eventually("the second broker has it, too", async |second| is_cached(second, &body).await).await;
    assert_eq!(house.purge().await, 1);
    assert_eq!(house.entries().await, 0);
    assert!(!is_cached(&second, &body).await);
    house.kept(&body).await;
    let mut slow = of("kept", "slow");
    slow["metadata"] = json!({"simulate": "latency_ms=300"});
    let purge = async {
        house.scene.eventually("it is under way", async |_| house.provider.stats().in_flight == 1).await;
        house.purge().await
    };
    let (answer, purged) = tokio::join!(ask(&house.scene, &slow), purge);
    assert!(!answer.accounting.unwrap().cached && purged == 1);
    house.kept(&of("kept", "later")).await;
    assert_eq!(house.entries().await, 1, "what was asked before the purge is not kept after it");
}

#[tokio::test]
async fn turned_off_everything_is_gone_and_no_broker_goes_on() {
    let mut house = House::new().await;
    let second = house.second(ROUTES).await;
    let body = of("kept", "hello");
    house.kept(&body).await;
    second.eventually("the second broker has it, too", async |second| is_cached(second, &body).await).await;
    house.allow(house.scene.organization, &house.scene.bearer, false, false).await;
    assert_eq!(house.entries().await, 0);
    for _ in 0..3 {
        assert!(!is_cached(&second, &body).await && !is_cached(&house.scene, &body).await);
    }
    assert_eq!(house.entries().await, 0, "the second broker still goes by the old policy, and Redis tells it");
    house.allow(house.scene.organization, &house.scene.bearer, true, false).await;
    house.kept(&body).await;
}

#[tokio::test]
async fn neither_question_nor_answer_lies_in_redis() {
    let house = House::new().await;
    let answer = house.kept(&of("kept", "a very secret question")).await;
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    let said = answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    let all = dump(&house.redis).await;
    assert!(all.iter().any(|(_, value)| value.len() > 200));
    for (key, value) in all {
        let text = String::from_utf8_lossy(&value);
        for secret in ["secret", "choices", "sim-small", &said[..10.min(said.len())]] {
            assert!(!text.contains(secret) && !key.contains(secret), "{secret} in {key}");
        }
    }
}

#[tokio::test]
async fn a_policy_is_its_organisations_own() {
    let house = House::new().await;
    let theirs = format!("{}/cachePolicy", names::organization(&house.scene.strange));
    let policy = Some(CachePolicy { name: theirs, enabled: true, ..CachePolicy::default() });
    let request = house.scene.bearer.request(UpdateCachePolicyRequest { policy });
    let refused = house.scene.cache.clone().update_cache_policy(request).await.unwrap_err();
    assert_eq!(Failure::from(refused).reason(), ErrorReason::NotFound);
}
