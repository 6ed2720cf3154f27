//! The parts by themselves: the scripts on a Redis of their own, and the engine in memory, each measured by an example of quota's.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

/// Commands on a Redis of their own, so many at once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Script {
    /// Of how many tenants.
    pub(super) tenants: usize,
    /// How many calls go together.
    pub(super) depth: usize,
    /// `set`, `reserve`, `extend` or `commit`.
    pub(super) operation: String,
    /// How many a second.
    pub(super) rate: f64,
    /// Microseconds of Redis for each.
    pub(super) cpu_micros: f64,
}

/// The engine on one thread, without RPC and Postgres.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Engine {
    pub(super) tenants: u32,
    /// Of each tenant.
    pub(super) users: u32,
    /// Of six limits.
    pub(super) reserves_per_second: f64,
    pub(super) commits_per_second: f64,
    pub(super) counters: u64,
    /// Resident bytes per counter that nothing was counted in yet.
    pub(super) idle_bytes: f64,
    /// The same of those in use.
    pub(super) active_bytes: f64,
}

pub(super) async fn scripts() -> anyhow::Result<Vec<Script>> {
    lines("reserve_rate").await
}

pub(super) async fn engine() -> anyhow::Result<Vec<Engine>> {
    lines("engine_rate").await
}

/// What an example tells, a line each; nothing if it is not built.
async fn lines<T: DeserializeOwned>(example: &str) -> anyhow::Result<Vec<T>> {
    let path = folder()?.join("examples").join(example);
    if !path.is_file() {
        crate::report::say(format!("{example} is not built: make bench builds it"))?;
        return Ok(Vec::new());
    }
    let output = Command::new(&path).arg("--json").stdin(Stdio::null()).kill_on_drop(true).output().await?;
    if !output.status.success() {
        bail!("{example} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("{example} says {line}"))).collect()
}

/// Where this program lies.
fn folder() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe()?.parent().context("this program's folder")?.to_owned())
}
