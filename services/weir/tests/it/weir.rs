use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The executable, without settings or keys of whoever runs the tests.
pub(crate) fn weir(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("WEIR_") || text.ends_with("_API_KEY") {
            command.env_remove(&name);
        }
    }
    // Tests that run at the same time must not meet at the ports of the defaults.
    for listener in [
        "LISTEN__AUTH",
        "LISTEN__QUOTA",
        "LISTEN__AI_BROKER",
        "LISTEN__USAGE",
        "LISTEN__BILLING",
        "LISTEN__FACADE",
        "ADMIN_LISTEN",
    ] {
        command.env(format!("WEIR_HOST__{listener}"), "127.0.0.1:0");
    }
    command.current_dir(dir).stdin(Stdio::null());
    command
}

pub(crate) fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A directory that the account of the private servers can enter too.
pub(crate) fn directory() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    tempfile::Builder::new().prefix("weir-it-").permissions(std::fs::Permissions::from_mode(0o755)).tempdir().unwrap()
}

/// A process that announces itself on standard output and ends by a signal.
pub(crate) struct Running {
    child: Child,
    pub(crate) said: String,
}

impl Running {
    /// Starts and reads its output until `last` is in it.
    pub(crate) fn start(command: &mut Command, last: &str) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.contains(last) {
            assert_ne!(lines.read_line(&mut said).unwrap(), 0, "it ended after saying: {said}");
        }
        Self { child, said }
    }

    /// Ctrl-C, as a terminal sends it; its exit code.
    pub(crate) fn interrupt(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("sh").args(["-c", "kill -INT \"$0\"", &pid]).status().unwrap().success());
        let until = Instant::now() + Duration::from_secs(40);
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it did not stop");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
