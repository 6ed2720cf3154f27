use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::Attempt as _;
use crate::ports::free_port;
use crate::process::{Process, Signal};
use crate::workspace::{Workspace, tail};
use crate::{Error, Result, programs};

const PROGRAM: &str = "postgres";
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// How to run a private Postgres.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// Where the data lies and stays; `None` puts it into a temporary directory that is removed with the server.
    pub dir: Option<PathBuf>,
    /// The loopback port; `None` takes a free one.
    pub port: Option<u16>,
    /// Whether a commit survives a crash of the machine. Without it everything is faster and a `kill -9` of the server alone
    /// still loses nothing, for the operating system keeps what was written.
    pub durable: bool,
    /// The server's connection limit.
    pub max_connections: u32,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { dir: None, port: None, durable: false, max_connections: 200 }
    }
}

/// A private Postgres; it stops when this is dropped, and when this process ends in any other way.
#[derive(Debug)]
pub struct Postgres {
    // Before the workspace: the server has ended when its directory is removed.
    process: Option<Process>,
    options: PostgresOptions,
    programs: PathBuf,
    port: u16,
    url: String,
    workspace: Workspace,
}

impl Postgres {
    /// Whether the programs are installed.
    #[must_use]
    pub fn is_installed() -> bool {
        programs::postgres().is_ok()
    }

    /// Initialises the directory if it is empty, starts the server and returns when it accepts connections.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NoAccount`] and [`Error::Unreachable`] before anything is started; the end of the server's
    /// log when it does not come up.
    pub async fn start(options: PostgresOptions) -> Result<Self> {
        let programs = programs::postgres()?;
        let workspace = Workspace::open(options.dir.clone(), "postgres")?;
        let password = workspace.password()?;
        let mut server = Self { process: None, programs, port: 0, url: String::new(), options, workspace };
        if !server.data().join("PG_VERSION").exists() {
            server.initialise(password.is_some()).await?;
        }
        server.end_leftover().await;
        let mut attempts = 0;
        loop {
            server.port = server.options.port.map_or_else(free_port, Ok)?;
            match server.launch().await {
                Ok(()) => break,
                // Somebody else took the free port in the meantime.
                Err(Error::Failed { output, .. })
                    if output.contains("in use") && attempts < 5 && server.options.port.is_none() =>
                {
                    attempts += 1;
                }
                Err(error) => return Err(error),
            }
        }
        let password = password.map(|password| format!(":{password}")).unwrap_or_default();
        server.url = format!("postgres://postgres{password}@127.0.0.1:{}/postgres", server.port);
        Ok(server)
    }

    /// The superuser's connection URL, `postgres://postgres[:password]@127.0.0.1:port/postgres`.
    #[must_use]
    pub fn admin_url(&self) -> &str {
        &self.url
    }

    /// The loopback port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the postmaster, the parent of every server process; `None` after [`Postgres::kill9`].
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Stops in an orderly way: sessions are ended, everything is on disk.
    ///
    /// # Errors
    /// When it had to be killed.
    pub async fn stop(mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.stop(STOP_WITHIN).await,
            None => Ok(()),
        }
    }

    /// `kill -9` of the postmaster; its children notice and end within moments.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Starts again on the same port with the same data, after [`Postgres::kill9`] or while it runs.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub async fn restart(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(STOP_WITHIN).await?;
        }
        let until = Instant::now() + READY_WITHIN;
        loop {
            match self.launch().await {
                // After a kill the orphaned backends hold the shared memory until they notice.
                Err(Error::Failed { output, .. }) if output.contains("in use") && Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                result => return result,
            }
        }
    }

    fn data(&self) -> PathBuf {
        self.workspace.dir.join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        if let Some(account) = &self.workspace.account {
            account.run(&mut command);
        }
        command.current_dir(&self.workspace.dir).stdin(Stdio::null());
        // The caller's own libpq settings are not meant for this server.
        for name in ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGDATA", "PGOPTIONS"] {
            command.env_remove(name);
        }
        command
    }

    async fn initialise(&self, password: bool) -> Result<()> {
        let mut command = self.command("initdb");
        command.arg("-D").arg(self.data()).args([
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
        ]);
        if password {
            command.arg("--auth=scram-sha-256").arg("--pwfile").arg(self.workspace.dir.join("password"));
        } else {
            command.arg("--auth=trust");
        }
        if !self.options.durable {
            command.arg("--no-sync");
        }
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .map_err(std::io::Error::other)
            .flatten()
            .attempt(|| "running initdb".to_owned())?;
        if output.status.success() {
            return Ok(());
        }
        // A half-made directory would be taken for a database by the next start.
        let _ = std::fs::remove_dir_all(self.data());
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        Err(Error::Failed { program: "initdb", output: tail(&text) })
    }

    /// Ends a server that still runs on a kept directory because its starter and its watch were both killed.
    async fn end_leftover(&self) {
        if !self.data().join("postmaster.pid").exists() {
            return;
        }
        let mut command = self.command("pg_ctl");
        command.arg("-D").arg(self.data()).args(["-m", "fast", "-w", "-t", "20", "stop"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        // It fails when the file is stale, and then there is nothing to end.
        let _ = tokio::task::spawn_blocking(move || command.status()).await;
    }

    async fn launch(&mut self) -> Result<()> {
        let mut command = self.command(PROGRAM);
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        let connections = self.options.max_connections.to_string();
        let durable = if self.options.durable { "on" } else { "off" };
        for (name, value) in [
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", ""),
            ("max_connections", connections.as_str()),
            ("shared_buffers", "128MB"),
            ("fsync", durable),
            // Off, it would lose acknowledged commits to a `kill -9` of the server alone.
            ("synchronous_commit", "on"),
            ("full_page_writes", durable),
            ("max_wal_size", "1GB"),
            ("timezone", "UTC"),
            ("log_timezone", "UTC"),
        ] {
            command.args(["-c", &format!("{name}={value}")]);
        }
        let from = std::fs::metadata(self.workspace.log()).map_or(0, |found| found.len());
        let remove = self.workspace.is_throw_away().then_some(self.workspace.dir.as_path());
        let mut process = Process::spawn(PROGRAM, command, &self.workspace.log(), Signal::Interrupt, remove)?;
        let until = Instant::now() + READY_WITHIN;
        loop {
            if self.says_ready(process.id()) {
                self.process = Some(process);
                return Ok(());
            }
            if process.has_ended() {
                return Err(Error::Failed { program: PROGRAM, output: self.log_since(from) });
            }
            if Instant::now() >= until {
                return Err(Error::NotReady {
                    program: PROGRAM,
                    seconds: READY_WITHIN.as_secs(),
                    output: self.workspace.log_tail(),
                });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The postmaster writes its state into the eighth line of its pid file; `pg_ctl -w` waits for the same.
    fn says_ready(&self, pid: u32) -> bool {
        let Ok(text) = std::fs::read_to_string(self.data().join("postmaster.pid")) else { return false };
        let mut lines = text.lines();
        lines.next() == Some(pid.to_string().as_str()) && lines.nth(6).map(str::trim) == Some("ready")
    }

    fn log_since(&self, from: u64) -> String {
        let from = usize::try_from(from).unwrap_or(0);
        let text = std::fs::read(self.workspace.log()).unwrap_or_default();
        tail(&String::from_utf8_lossy(text.get(from..).unwrap_or_default()))
    }
}
