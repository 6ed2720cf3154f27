//! `deploy/scenarios/jewelshot`: fifty users at once on a provider that takes fifteen a minute, with the minute scaled to three seconds
//! and everything else with it. Two brokers, of which one is killed halfway.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio_postgres::NoTls;
use toml::Table;
use weir_integration_tests::books::{self, Book, Books};
use weir_integration_tests::deployment::{Deployment, Mode, Options};
use weir_integration_tests::process::{Process, weir_executable};
use weir_integration_tests::provider::Provider;
use weir_integration_tests::tenants::Tenant;
use weir_integration_tests::totals::Totals;
use weir_simulator::{Fault, Served};

use crate::brokers::{begun_at, most_within, second_broker, started_anew};
use crate::scenarios::{Scenario, set};

/// A minute, scaled by twenty.
pub(crate) const MINUTE_MS: u64 = 3_000;
pub(crate) const USERS: usize = 50;

const SCENARIO: Scenario = Scenario("jewelshot");

/// How soon a broker that says nothing is taken for dead: what it has asked of the provider would be asked twice, and its calls lose
/// their places in line.
#[derive(Clone, Copy)]
pub(crate) struct Silence {
    jobs: &'static str,
    /// A fifth of it.
    line: &'static str,
}

pub(crate) const QUICK: Silence = Silence { jobs: "12s", line: "100ms" };
/// However slow the machine is.
pub(crate) const NEVER: Silence = Silence { jobs: "300s", line: "60s" };

/// The scenario's configuration with `accounts`, for the simulated provider and a folder.
fn config(provider: &Provider, folder: &Path, accounts: Option<&str>, silence: Silence) -> String {
    let mut config = SCENARIO.read("weir.toml");
    if let Some(accounts) = accounts.map(|file| SCENARIO.read(file)) {
        set(&mut config, &["quota", "shared"], accounts["quota"]["shared"].clone());
        set(
            &mut config,
            &["broker", "providers", "fal", "keys"],
            accounts["broker"]["providers"]["fal"]["keys"].clone(),
        );
    }
    let keys = config["broker"]["providers"]["fal"]["keys"].as_table_mut().unwrap();
    for (name, secret) in keys.iter_mut() {
        *secret = format!("fal-{name}").into();
    }
    let limits = config["quota"]["shared"].as_array_mut().unwrap();
    let [limit] = limits.as_mut_slice() else { panic!("one limit: {limits:?}") };
    assert_eq!(limit["window"]["rolling"].as_str(), Some("60s"));
    set(limit.as_table_mut().unwrap(), &["window", "rolling"], format!("{MINUTE_MS}ms"));
    set(&mut config, &["billing", "plans"], SCENARIO.list("plans.toml"));
    set(&mut config, &["billing", "price_books"], SCENARIO.list("prices.toml"));
    set(&mut config, &["broker", "providers", "fal", "base_url"], format!("http://{}", provider.address()));
    // On a slow machine a look-up may take its time.
    set(&mut config, &["broker", "cache"], "deadline = \"1s\"".parse::<Table>().unwrap());
    // A folder in place of the bucket, and receivers inside.
    set(&mut config, &["broker", "results", "bucket", "name"], "");
    set(&mut config, &["broker", "results", "folder"], folder.display().to_string());
    let quick = "beat = \"200ms\"\npoll = \"50ms\"\n[webhooks]\nallow_private = true\n";
    set(&mut config, &["broker", "jobs"], quick.parse::<Table>().unwrap());
    set(&mut config, &["broker", "jobs", "lease"], silence.jobs);
    set(&mut config, &["broker", "queue", "beat"], silence.line);
    // On a slow machine nobody loses the turn that he is about to use.
    set(&mut config, &["broker", "queue", "turn"], "30s");
    toml::to_string(&config).unwrap()
}

/// Who is told of pictures: every third one only at the second try.
#[derive(Clone, Default)]
struct Receiver {
    /// By `webhook-id`: how often it came, and what it said.
    told: Arc<Mutex<HashMap<String, (usize, Value)>>>,
}

impl Receiver {
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let app = axum::Router::new().route("/", axum::routing::post(take)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        url
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> StatusCode {
    let id = headers["webhook-id"].to_str().unwrap().to_owned();
    let mut told = receiver.told.lock().await;
    let third = told.len() % 3 == 2;
    let (times, _) = told.entry(id).and_modify(|(times, _)| *times += 1).or_insert_with(|| (1, body.parse().unwrap()));
    if *times == 1 && third { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
}

/// The shop: a deployment, a second broker, tenants with their galleries on, and who is told.
pub(crate) struct Shop {
    pub(crate) deployment: Deployment,
    second: Option<Process>,
    pub(crate) users: Vec<Tenant>,
    receiver: Receiver,
    hook: String,
    pub(crate) client: reqwest::Client,
    gallery: TempDir,
    /// When the provider's clock said 0, at the latest.
    zero: u64,
}

impl Shop {
    pub(crate) async fn open(users: usize, accounts: Option<&str>, silence: Silence) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let gallery = tempfile::tempdir().unwrap();
        let minute = (MINUTE_MS / 1000).to_string();
        // 20 to 45 seconds.
        // It would take far more: who keeps to its limits is Weir alone.
        let limit = "requests:1000";
        let args =
            ["--limits", limit, "--rate-window-secs", &minute, "--generation-ms", "1000-2250", "--runners", "50"];
        let provider = Provider::start(&weir_executable().unwrap(), gallery.path(), &args).await.unwrap();
        let folder = gallery.path().join("pictures");
        let more_config = config(&provider, &folder, accounts, silence);
        let options = Options { provider: Some(Rc::new(provider)), more_config, ..Options::new(Mode::Separate) };
        let deployment = Deployment::start(options).await.unwrap();
        let second = second_broker(&deployment).await;
        let users = join_all((0..users).map(async |nth| {
            Tenant::create(&deployment.siblings, &format!("User {nth}"), "plans/normal", Vec::new()).await.unwrap()
        }));
        let users = users.await;
        let receiver = Receiver::default();
        let hook = receiver.start().await;
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
        let zero = started_anew(&deployment.provider).await;
        let shop = Self { deployment, second: Some(second), users, receiver, hook, client, gallery, zero };
        join_all(shop.users.iter().map(|user| shop.turn_gallery_on(user))).await;
        shop
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.deployment.facade())
    }

    /// Asks as clients do: again after a 503, which changed nothing.
    pub(crate) async fn ask(
        &self,
        user: &Tenant,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> reqwest::Response {
        let key = uuid::Uuid::new_v4().to_string();
        for _ in 0..100 {
            let request = self.client.request(method.clone(), self.url(path)).bearer_auth(&user.secret);
            let request = request.header("idempotency-key", &key);
            let request = body.iter().fold(request, |request, body| request.json(body));
            let answer = request.send().await.unwrap();
            if answer.status() != 503 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("{path} is not available");
    }

    async fn turn_gallery_on(&self, user: &Tenant) {
        let answer = self.ask(user, Method::PUT, "/api/v1/result-settings", Some(&json!({"enabled": true}))).await;
        assert_eq!(answer.status(), 200);
    }

    /// Asks for a picture; the job's id.
    pub(crate) async fn order(&self, nth: usize, user: &Tenant) -> String {
        self.order_of(user, &format!("ring {nth}"), "1024x768").await
    }

    pub(crate) async fn order_of(&self, user: &Tenant, prompt: &str, size: &str) -> String {
        let body = json!({"model": "jewellery", "prompt": prompt, "size": size});
        let job = json!({"steps": [
            {"key": "generate", "operation": "images.generations", "body": body},
            {"key": "gallery", "store": {"from": "generate", "public": true}},
            {"key": "notify", "backoff_seconds": 0,
             "webhook": {"url": self.hook, "body": {"picture": {"$from": "gallery#/data/0/url"}}}},
        ]});
        let created = self.ask(user, Method::POST, "/api/v1/jobs", Some(&job)).await;
        assert_eq!(created.status(), 201);
        created.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// Polls as its front-end does, every two seconds of a minute, until the picture is there; where it stood meanwhile.
    pub(crate) async fn picture(&self, user: &Tenant, id: &str) -> (Vec<i64>, Value) {
        let mut positions = Vec::new();
        for _ in 0..1200 {
            let answer = self.ask(user, Method::GET, &format!("/api/v1/jobs/{id}"), None).await;
            let job: Value = answer.json().await.unwrap();
            positions.extend(job["queue"]["position"].as_i64());
            match job["state"].as_str().unwrap_or_default() {
                "queued" | "processing" => tokio::time::sleep(Duration::from_millis(100)).await,
                "complete" => return (positions, job),
                _ => panic!("{job}"),
            }
        }
        panic!("no picture for {id}");
    }

    /// What was asked of the provider, in the order in which it came; it has taken all of it.
    pub(crate) async fn submissions(&self) -> Vec<Served> {
        let served = self.deployment.provider.served().await.unwrap();
        let submitted: Vec<_> = served.into_iter().filter(|served| served.operation == "queue.submit").collect();
        assert!(submitted.iter().all(|served| matches!(served.status, 0 | 200)), "{submitted:?}");
        submitted
    }

    /// How many submissions could be fetched by another broker.
    async fn written_down(&self) -> usize {
        let (database, connection) = tokio_postgres::connect(self.deployment.postgres_url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        let count = database.query_one("select count(*) from broker.job_submissions", &[]).await.unwrap();
        usize::try_from(count.get::<_, i64>(0)).unwrap()
    }

    /// As the provider has seen it, no window of a minute has more than `most`.
    pub(crate) fn check_windows(&self, submitted: &[Served], most: u64) {
        let seen = most_within(submitted, self.zero, MINUTE_MS, |_| 1);
        assert!(seen <= most, "{seen} in a minute");
    }

    /// Waits until a job stands in the provider's line.
    async fn stands_in_line(&self, user: &Tenant, id: &str) {
        for _ in 0..1200 {
            let job = self.ask(user, Method::GET, &format!("/api/v1/jobs/{id}"), None).await;
            let job: Value = job.json().await.unwrap();
            if job["state"] == "processing" && job["queue"]["position"].is_number() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{id} never stands in line");
    }

    /// The reservation of a user's only picture.
    async fn reservation(&self, user: &Tenant) -> String {
        let events: Value = self.ask(user, Method::GET, "/api/v1/usage/events", None).await.json().await.unwrap();
        let [event] = events["events"].as_array().unwrap().as_slice() else { panic!("one picture: {events}") };
        event["id"].as_str().unwrap().to_owned()
    }

    /// The gallery's files have the size that is promised, and there is one for each user.
    fn check_gallery(&self) {
        let tenants = std::fs::read_dir(self.gallery.path().join("pictures")).unwrap();
        let files: Vec<PathBuf> = tenants
            .flat_map(|tenant| std::fs::read_dir(tenant.unwrap().path()).unwrap())
            .map(|file| file.unwrap().path())
            .collect();
        assert_eq!(files.len(), USERS);
        assert!(files.iter().all(|file| std::fs::metadata(file).unwrap().len() <= 500_000));
    }

    /// Every picture is in the books once, and nothing else is. Of a broker that is killed between the last byte and the books only
    /// its draft is known, which says as much here; at most so many are `estimated`.
    async fn check_books(&self, estimated: i64) {
        books::settle(&self.deployment.siblings, Duration::from_secs(60)).await.unwrap();
        let audited = self.deployment.audit().await.unwrap();
        assert!(audited.clean, "{}", audited.text);
        let organizations: Vec<String> = self.users.iter().map(|user| user.organization.clone()).collect();
        let books = Books::of(&self.deployment.siblings, &organizations).await.unwrap();
        // A megapixel each, at $0.025.
        let requests = i64::try_from(self.users.len()).unwrap();
        let totals = Totals { requests, cost_nano_usd: requests * 25_000_000, ..Totals::default() };
        let book = Book { totals, ..books.usage };
        assert_eq!((books.quota, books.usage, books.billing), (book, book, book));
        assert!(book.estimated <= estimated, "{book:?}");
    }
}

#[tokio::test]
async fn fifty_users_at_once_get_a_picture_each_although_a_broker_is_killed_halfway() {
    let mut shop = Shop::open(USERS, None, QUICK).await;
    let orders = join_all(shop.users.iter().enumerate().map(|(nth, user)| shop.order(nth, user))).await;
    let mut second = shop.second.take().unwrap();
    let pictures = join_all(shop.users.iter().zip(&orders).map(|(user, id)| shop.picture(user, id)));
    let killed = async {
        // Halfway: the second minute's pictures are asked for, and written down. (Of one that is killed between the provider's
        // answer and that line nobody can know that it is paid for: decisions/0016.)
        loop {
            let submitted = shop.submissions().await;
            if submitted.len() >= 30 && shop.written_down().await == submitted.len() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        second.kill9().await.unwrap();
    };
    let (pictures, ()) = tokio::join!(pictures, killed);

    for (positions, job) in &pictures {
        assert!(positions.is_sorted_by(|before, after| before >= after), "{positions:?}");
        assert!(positions.iter().all(|position| (1..=50).contains(position)), "{positions:?}");
        let kept = &job["steps"][1]["result"]["body"]["data"][0];
        assert!(kept["width"].as_u64() <= Some(1920) && kept["height"].as_u64() <= Some(1920), "{job}");
    }
    let waited = pictures.iter().filter(|(positions, _)| !positions.is_empty()).count();
    assert!(waited >= 20, "{waited} were told where they stand");
    let urls: HashSet<&str> =
        pictures.iter().map(|(_, job)| job["steps"][1]["result"]["body"]["data"][0]["url"].as_str().unwrap()).collect();
    assert_eq!(urls.len(), USERS);

    let submitted = shop.submissions().await;
    assert_eq!(submitted.len(), USERS, "no picture was paid for twice");
    shop.check_windows(&submitted, 15);
    let told = shop.receiver.told.lock().await;
    let of: HashSet<&str> = told.values().map(|(_, body)| body["picture"].as_str().unwrap()).collect();
    assert_eq!((told.len(), &of), (USERS, &urls), "each is told of once, under an id of its own");
    assert!(told.values().any(|(times, _)| *times > 1), "some were told again");
    shop.check_gallery();
    // The second broker had a part of thirty.
    shop.check_books(30).await;

    // The picture is there for everybody, and may be kept.
    let path = urls.iter().next().unwrap().strip_prefix("https://api.example.com").unwrap();
    let picture = shop.client.get(shop.url(path)).send().await.unwrap();
    let header = |name: &str| picture.headers()[name].to_str().unwrap().to_owned();
    assert!(
        header("cache-control").starts_with("public, max-age=3153") && header("cache-control").ends_with("immutable")
    );
    let tag = header("etag");
    let again = shop.client.get(shop.url(path)).header("if-none-match", tag).send().await.unwrap();
    assert_eq!(again.status(), 304);
}

#[tokio::test]
async fn four_accounts_of_ten_a_minute_add_up() {
    let shop = Shop::open(USERS, Some("accounts.toml"), QUICK).await;
    let orders = join_all(shop.users.iter().enumerate().map(|(nth, user)| shop.order(nth, user))).await;
    join_all(shop.users.iter().zip(&orders).map(|(user, id)| shop.picture(user, id))).await;
    let submitted = shop.submissions().await;
    assert_eq!(submitted.len(), USERS);
    let mut accounts: HashMap<String, Vec<Served>> = HashMap::new();
    for served in submitted {
        accounts.entry(served.api_key.clone()).or_default().push(served);
    }
    assert_eq!(accounts.len(), 4);
    for submitted in accounts.values() {
        shop.check_windows(submitted, 10);
        assert!(submitted.len() >= 10, "{}", submitted.len());
    }
    shop.check_books(0).await;
}

#[tokio::test]
async fn high_goes_before_normal_and_of_each_who_came_first() {
    const NORMAL: usize = 5;
    const HIGH: usize = 3;
    let shop = Shop::open(NORMAL + HIGH, None, NEVER).await;
    for user in &shop.users[NORMAL..] {
        user.subscribe(&shop.deployment.siblings, "plans/high", Vec::new()).await.unwrap();
    }
    // No room for anybody until all stand in line, one behind the other.
    let full = Fault { simulate: "status=429,retry_after=1".parse().unwrap(), ..Fault::default() };
    shop.deployment.provider.add_fault(&full).await.unwrap();
    let mut orders = Vec::new();
    for (nth, user) in shop.users.iter().enumerate() {
        let id = shop.order(nth, user).await;
        shop.stands_in_line(user, &id).await;
        orders.push(id);
    }
    shop.deployment.provider.clear_faults().await.unwrap();
    join_all(shop.users.iter().zip(&orders).map(|(user, id)| shop.picture(user, id))).await;
    shop.check_books(0).await;

    // Who looks for room makes a reservation, whose id says when.
    let reservations = join_all(shop.users.iter().map(|user| shop.reservation(user))).await;
    let mut turns: Vec<(u64, usize)> =
        reservations.iter().enumerate().map(|(nth, id)| (begun_at(id), (nth + HIGH) % (NORMAL + HIGH))).collect();
    // The first normal one may have had the turn already when the first high one came.
    let first_normal = turns.remove(0).0;
    turns.sort_by_key(|(_, place)| *place);
    assert!(turns.is_sorted(), "high ones as they came, then normal ones as they came: {turns:?}");
    assert!(first_normal <= turns[HIGH].0, "{first_normal} {turns:?}");
}
