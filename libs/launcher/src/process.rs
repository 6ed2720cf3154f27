//! A server process that does not outlive the process that started it, however that one ends.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::Attempt as _;
use crate::{Error, Result};

/// Ends the server when the starter dies: `read` returns when the starter's end of the pipe closes, even after a `kill -9`.
/// `$0` is the signal, `$1` the server, `$2` a directory to remove or nothing.
const WATCH: &str = r#"trap "" INT TERM HUP
read -r _
kill -"$0" "$1" 2>/dev/null
[ -z "$2" ] || { sleep 1; rm -rf -- "$2"; }"#;

/// How a server is asked to end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
    Kill,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "INT",
            Self::Terminate => "TERM",
            Self::Kill => "KILL",
        }
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Process {
    program: &'static str,
    child: Child,
    watch: Child,
    orderly: Signal,
}

impl Process {
    /// Spawns `command` in a process group of its own, so that the Ctrl-C of a terminal reaches only the starter, which then
    /// stops its servers in order. `orderly` is the signal for an orderly end; `remove` goes away with a throw-away server.
    pub(crate) fn spawn(
        program: &'static str,
        mut command: Command,
        log: &Path,
        orderly: Signal,
        remove: Option<&Path>,
    ) -> Result<Self> {
        let file =
            File::options().create(true).append(true).open(log).attempt(|| format!("opening {}", log.display()))?;
        let errors = file.try_clone().attempt(|| format!("opening {}", log.display()))?;
        let mut child =
            command.stdout(file).stderr(errors).process_group(0).spawn().attempt(|| format!("starting {program}"))?;
        let signal = if remove.is_some() { Signal::Kill } else { orderly };
        let watch = Command::new("sh")
            .args(["-c", WATCH, signal.name(), &child.id().to_string()])
            .arg(remove.unwrap_or(Path::new("")))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        match watch {
            Ok(watch) => Ok(Self { program, child, watch, orderly }),
            Err(source) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(Error::Io { what: format!("watching over {program}"), source })
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Hands the server what it reads from standard input.
    pub(crate) fn feed(&mut self, text: &str) -> Result<()> {
        use std::io::Write as _;
        let Some(mut input) = self.child.stdin.take() else { return Ok(()) };
        input.write_all(text.as_bytes()).attempt(|| format!("configuring {}", self.program))
    }

    /// Asks for an orderly end and waits; a server that does not end within `patience` is killed.
    pub(crate) async fn stop(&mut self, patience: Duration) -> Result<()> {
        self.signal(self.orderly)?;
        let until = Instant::now() + patience;
        while !self.has_ended() {
            if Instant::now() >= until {
                self.kill();
                return Err(Error::Failed {
                    program: self.program,
                    output: "it did not stop and was killed".to_owned(),
                });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.dismiss_watch();
        Ok(())
    }

    /// `kill -9`, and waits until the process is gone.
    pub(crate) fn kill(&mut self) {
        // Both fail only when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.dismiss_watch();
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.has_ended() {
            return Ok(());
        }
        // The shell's builtin: std has no signals but SIGKILL, and not every machine has a `kill` program.
        let status = Command::new("sh")
            .args(["-c", "kill -\"$0\" \"$1\"", signal.name(), &self.child.id().to_string()])
            .stderr(Stdio::null())
            .status()
            .attempt(|| format!("signalling {}", self.program))?;
        if status.success() || self.has_ended() {
            return Ok(());
        }
        Err(Error::Failed { program: self.program, output: format!("kill -{} was refused", signal.name()) })
    }

    fn dismiss_watch(&mut self) {
        // Killed before its pipe closes, so that it never signals a process id that somebody else may have by then.
        let _ = self.watch.kill();
        let _ = self.watch.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.has_ended() {
            self.dismiss_watch();
            return;
        }
        let _ = self.signal(self.orderly);
        let until = Instant::now() + Duration::from_secs(5);
        while !self.has_ended() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
    }
}
