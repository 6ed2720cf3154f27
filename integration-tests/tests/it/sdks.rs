//! OpenAI's and Anthropic's own Python SDKs, as they are, in both ways to run; `integration-tests/python` has the checks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::process::Command;
use weir_integration_tests::books::Books;
use weir_integration_tests::deployment::{Mode, Options};
use weir_integration_tests::tenants::{Tenant, UNLIMITED};
use weir_proto::auth::v1::{CreateApiKeyRequest, RevokeApiKeyRequest};
use weir_proto::billing::v1::{Limit, OnFailure, Window, window};

use crate::World;

/// The Python that `make test` installs the SDKs for.
fn python() -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin/python");
    let named = std::env::var_os("WEIR_TEST_PYTHON").filter(|path| !path.is_empty());
    let python = named.map_or(installed, PathBuf::from);
    assert!(python.exists(), "no Python with the SDKs: run `scripts/install-missing python`, or `make test`");
    python
}

/// Runs a script of `python/` with the base URL and one more argument.
async fn run(world: &World, script: &str, argument: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script);
    let run = Command::new(python())
        .args([script.as_os_str(), world.deployment.base_url().as_ref(), argument.as_ref()])
        .env_remove("OPENAI_API_KEY")
        .env_remove("OPENAI_BASE_URL")
        .env_remove("ANTHROPIC_API_KEY")
        .env_remove("ANTHROPIC_AUTH_TOKEN")
        .env_remove("ANTHROPIC_BASE_URL")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(120), run).await.unwrap().unwrap();
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(output.status.success(), "{told}");
}

/// `free`: calls of the script that are recorded and cost nothing at the provider.
async fn check(mode: Mode, script: &str, free: i64) {
    let world = World::start(Options::new(mode)).await;
    run(&world, script, &world.tenant.secret).await;
    let books = world.books().await;
    let charged = world.deployment.provider.stats().await.unwrap().charged_requests;
    assert_eq!(books.usage.totals.requests, i64::try_from(charged).unwrap() + free);
}

#[tokio::test]
async fn openais_python_sdk_works_as_it_is_in_one_process() {
    check(Mode::One, "openai_sdk.py", 0).await;
}

#[tokio::test]
async fn openais_python_sdk_works_as_it_is_in_separate_processes() {
    check(Mode::Separate, "openai_sdk.py", 0).await;
}

#[tokio::test]
async fn both_sdks_work_with_models_of_both_kinds_in_one_process() {
    check(Mode::One, "anthropic_sdk.py", 1).await;
}

#[tokio::test]
async fn both_sdks_work_with_models_of_both_kinds_in_separate_processes() {
    check(Mode::Separate, "anthropic_sdk.py", 1).await;
}

/// A tenant's key that may send so many requests in so many seconds.
async fn limited(world: &World, unit: &str, amount: i64, seconds: i64) -> String {
    let rolling = prost_types::Duration { seconds, nanos: 0 };
    let limit = Limit {
        name: format!("within-{seconds}-seconds"),
        scope: "organization".to_owned(),
        unit: unit.to_owned(),
        amount,
        window: Some(Window { kind: Some(window::Kind::Rolling(rolling)) }),
        on_failure: OnFailure::Closed.into(),
        alert_percents: Vec::new(),
    };
    Tenant::create(&world.deployment.siblings, "Limited", UNLIMITED, vec![limit]).await.unwrap().secret
}

#[tokio::test]
async fn openais_python_sdk_understands_every_refusal() {
    let world = World::in_one_process().await;
    let auth = world.deployment.siblings.auth();
    let key = async |scope: &str| {
        let request = CreateApiKeyRequest {
            parent: world.tenant.organization.clone(),
            display_name: "key".to_owned(),
            scopes: vec![scope.to_owned()],
            ..CreateApiKeyRequest::default()
        };
        auth.clone().create_api_key(request).await.unwrap().into_inner()
    };
    let revoked = key("ai.invoke").await;
    let request = RevokeApiKeyRequest { name: revoked.api_key.unwrap().name };
    auth.clone().revoke_api_key(request).await.unwrap();
    let keys = json!({
        "good": world.tenant.secret,
        "narrow": key("usage.read").await.secret,
        "revoked": revoked.secret,
        "quick": limited(&world, "request", 2, 3).await,
        "hourly": limited(&world, "request", 1, 3600).await,
        "poor": limited(&world, "nano_usd", 1, 3600).await,
    });
    run(&world, "openai_sdk_refusals.py", &keys.to_string()).await;
    assert_eq!(world.books().await, Books::default(), "every call of this tenant was refused");
    assert_eq!(world.deployment.provider.stats().await.unwrap().charged_requests, 4);
}
