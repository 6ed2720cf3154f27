use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::ports::free_port;
use crate::process::{Process, Signal};
use crate::workspace::Workspace;
use crate::{Error, Result, programs};

const PROGRAM: &str = "redis-server";
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// How to run a private Redis.
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    /// Where the data lies and stays; `None` puts it into a temporary directory that is removed with the server.
    pub dir: Option<PathBuf>,
    /// The loopback port; `None` takes a free one.
    pub port: Option<u16>,
    /// Whether writes go to an append-only file (synced every second); without it a restart begins empty.
    pub durable: bool,
}

/// A private Redis; it stops when this is dropped, and when this process ends in any other way.
#[derive(Debug)]
pub struct Redis {
    // Before the workspace: the server has ended when its directory is removed.
    process: Option<Process>,
    options: RedisOptions,
    program: PathBuf,
    port: u16,
    password: Option<String>,
    url: String,
    workspace: Workspace,
}

impl Redis {
    /// Whether the program is installed.
    #[must_use]
    pub fn is_installed() -> bool {
        programs::redis().is_ok()
    }

    /// Starts the server and returns when it answers.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::NoAccount`] and [`Error::Unreachable`] before anything is started; the end of the server's
    /// log when it does not come up.
    pub async fn start(options: RedisOptions) -> Result<Self> {
        let program = programs::redis()?;
        let workspace = Workspace::open(options.dir.clone(), "redis")?;
        let password = workspace.password()?;
        let mut server = Self { process: None, options, program, port: 0, password, url: String::new(), workspace };
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
        let password = server.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        server.url = format!("redis://{password}127.0.0.1:{}/", server.port);
        Ok(server)
    }

    /// The connection URL, `redis://[:password@]127.0.0.1:port/`.
    #[must_use]
    pub fn admin_url(&self) -> &str {
        &self.url
    }

    /// The loopback port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id; `None` after [`Redis::kill9`].
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Stops in an orderly way.
    ///
    /// # Errors
    /// When it had to be killed.
    pub async fn stop(mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.stop(STOP_WITHIN).await,
            None => Ok(()),
        }
    }

    /// `kill -9`.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// `kill -9`, and whatever it had written to disk is gone too.
    pub fn lose_data(&mut self) {
        self.kill9();
        let _ = std::fs::remove_dir_all(self.workspace.dir.join("appendonlydir"));
        let _ = std::fs::remove_file(self.workspace.dir.join("appendonly.aof"));
        let _ = std::fs::remove_file(self.workspace.dir.join("dump.rdb"));
    }

    /// Starts again on the same port, after [`Redis::kill9`] or while it runs; what a durable server wrote is back.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub async fn restart(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(STOP_WITHIN).await?;
        }
        self.launch().await
    }

    async fn launch(&mut self) -> Result<()> {
        let mut command = Command::new(&self.program);
        if let Some(account) = &self.workspace.account {
            account.run(&mut command);
        }
        // The configuration comes through standard input, so that the password is in no process list.
        command.arg("-").current_dir(&self.workspace.dir).stdin(Stdio::piped());
        let log = self.workspace.log();
        let from = std::fs::metadata(&log).map_or(0, |found| found.len());
        let remove = self.workspace.is_throw_away().then_some(self.workspace.dir.as_path());
        let mut process = Process::spawn(PROGRAM, command, &log, Signal::Terminate, remove)?;
        process.feed(&self.configuration())?;
        let until = Instant::now() + READY_WITHIN;
        loop {
            if process.has_ended() {
                let from = usize::try_from(from).unwrap_or(0);
                let text = std::fs::read(&log).unwrap_or_default();
                let text = String::from_utf8_lossy(text.get(from..).unwrap_or_default()).into_owned();
                return Err(Error::Failed { program: PROGRAM, output: crate::workspace::tail(&text) });
            }
            if self.answers().await {
                self.process = Some(process);
                return Ok(());
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

    fn configuration(&self) -> String {
        use std::fmt::Write as _;
        let mut text = format!("bind 127.0.0.1\nport {}\ndaemonize no\nsave \"\"\n", self.port);
        if self.options.durable {
            text.push_str("appendonly yes\nappendfsync everysec\n");
        } else {
            text.push_str("appendonly no\n");
        }
        if let Some(password) = &self.password {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "requirepass {password}");
        }
        text
    }

    /// Whether it answers PING; while it reads its append-only file it answers `-LOADING`.
    async fn answers(&self) -> bool {
        let dialogue = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            let login = self.password.as_ref().map(|password| format!("AUTH {password}\r\n")).unwrap_or_default();
            stream.write_all(format!("{login}PING\r\nQUIT\r\n").as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            std::io::Result::Ok(answer.windows(5).any(|part| part == b"+PONG"))
        };
        matches!(tokio::time::timeout(Duration::from_secs(1), dialogue).await, Ok(Ok(true)))
    }
}
