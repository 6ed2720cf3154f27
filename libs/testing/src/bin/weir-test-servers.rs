//! Runs a command with one throw-away Postgres for all tests below it: `weir-test-servers cargo nextest run`.
//!
//! Redis is not shared: each test starts its own in milliseconds.

use std::process::{Command, ExitCode};

use anyhow::Context as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let program = words.next().context("usage: weir-test-servers <command> [argument]...")?;
    let postgres = weir_testing::postgres().await?;
    let mut command = Command::new(&program);
    command.args(words).env(weir_testing::POSTGRES_URL, postgres.url());
    let status = tokio::task::spawn_blocking(move || command.status())
        .await?
        .with_context(|| format!("running {}", program.display()))?;
    // The server ends with this process.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
