//! The processes of a system under test: started, killed, started again, and what they cost.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::{Child, Command};

/// Ticks per second of the times in `/proc`; Linux has shown every program 100 for decades, whatever it runs with itself.
const TICKS_PER_SECOND: f64 = 100.0;

/// A program with its arguments, that can be started again.
#[derive(Debug, Clone)]
pub struct Program {
    /// For messages and the log's name.
    pub name: String,
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Set in its environment.
    pub env: Vec<(String, String)>,
    /// Where its output goes.
    pub log: PathBuf,
}

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Process {
    program: Program,
    child: Child,
}

impl Program {
    /// Starts it. Its environment has no keys of real providers and no settings of another deployment.
    ///
    /// # Errors
    /// It cannot be executed, or its log cannot be opened.
    pub fn start(&self) -> anyhow::Result<Process> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| self.log.display().to_string())?;
        let mut command = Command::new(&self.path);
        command.args(&self.args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.ends_with("_API_KEY") || text.starts_with("WEIR_") || text.starts_with("OTEL_") {
                command.env_remove(&name);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let child = command.spawn().with_context(|| format!("cannot start {}", self.path.display()))?;
        Ok(Process { program: self.clone(), child })
    }

    /// The end of its output.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(12).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Process {
    /// What it runs.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// None when it has ended.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Fails when it has ended, with its last words.
    ///
    /// # Errors
    /// It has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} has ended ({status}):\n{}", self.program.name, self.program.last_words()),
        }
    }

    /// Waits until it has done its work.
    ///
    /// # Errors
    /// It ended with an error, or not in time; the error has its last words.
    pub async fn succeed(&mut self, within: Duration) -> anyhow::Result<()> {
        let Program { name, .. } = &self.program;
        match tokio::time::timeout(within, self.child.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(std::process::ExitStatus::success) => Ok(()),
            Ok(status) => bail!("{name} ended with {status:?}:\n{}", self.program.last_words()),
            Err(_) => bail!("{name} has not ended after {within:?}:\n{}", self.program.last_words()),
        }
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Errors
    /// The operating system refuses.
    pub async fn kill9(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("cannot kill {}", self.program.name))
    }

    /// Asks for an orderly end, and kills what does not end in time.
    ///
    /// # Errors
    /// It had to be killed, or ended with an error.
    pub async fn stop(&mut self, within: Duration) -> anyhow::Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        // The shell's builtin: std and tokio send no signal but SIGKILL.
        let asked = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid.to_string()]).status().await?;
        if !asked.success() {
            bail!("cannot signal {}", self.program.name);
        }
        match tokio::time::timeout(within, self.child.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(std::process::ExitStatus::success) => Ok(()),
            Ok(status) => bail!("{} ended with {status:?}:\n{}", self.program.name, self.program.last_words()),
            Err(_) => {
                self.kill9().await?;
                bail!(
                    "{} did not stop within {within:?} and was killed:\n{}",
                    self.program.name,
                    self.program.last_words()
                )
            }
        }
    }
}

/// CPU seconds (user and system) that a process and its descendants have used so far, those that have ended included.
#[must_use]
pub fn cpu_seconds(pid: u32) -> f64 {
    let mut all = vec![pid];
    let mut ticks = 0;
    while let Some(pid) = all.pop() {
        ticks += ticks_of(pid);
        all.extend(children(pid));
    }
    ticks as f64 / TICKS_PER_SECOND
}

/// CPU seconds (user and system) that this process has used so far, without those that it has started and that still run.
#[must_use]
pub fn own_cpu_seconds() -> f64 {
    ticks_of(std::process::id()) as f64 / TICKS_PER_SECOND
}

/// Of one process: its own time, and that of the children it has waited for (fields 14 to 17 of proc(5)).
fn ticks_of(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is the program's name in parentheses, and may itself hold spaces and parentheses.
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
    fields.skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()).collect()
}

/// Resident memory of a process, in bytes.
#[must_use]
pub fn resident_bytes(pid: u32) -> u64 {
    status_bytes(pid, "VmRSS:")
}

/// The most resident memory that a process has ever had, in bytes.
#[must_use]
pub fn most_resident_bytes(pid: u32) -> u64 {
    status_bytes(pid, "VmHWM:")
}

fn status_bytes(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// The executable `weir`: `WEIR_BIN`, or beside this program.
///
/// # Errors
/// It is not there; the error says how to build it.
pub fn weir_executable() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("WEIR_BIN").filter(|path| !path.is_empty()) {
        return Ok(PathBuf::from(path));
    }
    let this = std::env::current_exe()?;
    // A test's executable lies one folder deeper, in `deps`.
    let folders = this.ancestors().skip(1).take(2);
    match folders.map(|folder| folder.join("weir")).find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => {
            let release = this.components().any(|part| part.as_os_str() == "release");
            let profile = if release { " --release" } else { "" };
            bail!("`weir` is not built: run `cargo build --workspace{profile} --bin weir`, or name it in WEIR_BIN")
        }
    }
}

/// Whether a file has grown to contain a line that begins so; its rest.
pub(crate) fn line_after(path: &Path, beginning: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    // The last one: a program that was started again has written it again.
    let line = text.lines().rev().find_map(|line| line.strip_prefix(beginning))?;
    text.ends_with('\n').then(|| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;

    #[tokio::test]
    async fn the_cpu_time_of_a_tree_of_processes_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let busy = "sh -c 'i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done'; sleep 30";
        let args = vec!["-c".to_owned(), busy.to_owned()];
        let program =
            Program { name: "sh".into(), path: "/bin/sh".into(), args, env: vec![], log: dir.path().join("log") };
        let mut process = program.start().unwrap();
        let pid = process.pid().unwrap();
        for _ in 0..1_200 {
            if cpu_seconds(pid) > 0.05 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(cpu_seconds(pid) > 0.05);
        assert!(resident_bytes(pid) > 100_000);
        process.check().unwrap();
        process.kill9().await.unwrap();
        assert!(process.check().is_err());
    }
}
