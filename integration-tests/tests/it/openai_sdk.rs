//! OpenAI's own Python SDK, as it is, in both ways to run; `integration-tests/python/openai_sdk.py` has the checks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;
use weir_integration_tests::deployment::{Mode, Options};

use crate::World;

/// The Python that `make test` installs the SDK for.
fn python() -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin/python");
    let named = std::env::var_os("WEIR_TEST_PYTHON").filter(|path| !path.is_empty());
    let python = named.map_or(installed, PathBuf::from);
    assert!(python.exists(), "no Python with OpenAI's SDK: run `scripts/install-missing python`, or `make test`");
    python
}

async fn check(mode: Mode) {
    let world = World::start(Options::new(mode)).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/openai_sdk.py");
    let run = Command::new(python())
        .args([script.as_os_str(), world.deployment.base_url().as_ref(), world.tenant.secret.as_ref()])
        .env_remove("OPENAI_API_KEY")
        .env_remove("OPENAI_BASE_URL")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(120), run).await.unwrap().unwrap();
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(output.status.success(), "{told}");
    let books = world.books().await;
    let charged = world.deployment.provider.stats().await.unwrap().charged_requests;
    assert_eq!(books.usage.totals.requests, i64::try_from(charged).unwrap());
}

#[tokio::test]
async fn openais_python_sdk_works_as_it_is_in_one_process() {
    check(Mode::One).await;
}

#[tokio::test]
async fn openais_python_sdk_works_as_it_is_in_separate_processes() {
    check(Mode::Separate).await;
}
