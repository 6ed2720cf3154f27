//! The directory of a server: kept or thrown away, and owned by the account that runs the server.

use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::Attempt as _;
use crate::{Account, Error, Result};

/// A server's directory and the account that owns it.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) dir: PathBuf,
    pub(crate) account: Option<Account>,
    throw_away: bool,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Workspace {
    /// Opens `kept`, or makes a directory that is removed on drop.
    pub(crate) fn open(kept: Option<PathBuf>, name: &str) -> Result<Self> {
        let account = Account::for_servers()?;
        let throw_away = kept.is_none();
        let dir = kept.unwrap_or_else(|| {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            std::env::temp_dir().join(format!("weir-{name}-{}-{number}-{}", std::process::id(), &random(4)))
        });
        let dir = std::path::absolute(&dir).attempt(|| format!("resolving {}", dir.display()))?;
        if let Some(account) = account.as_ref().filter(|account| !account.can_reach(&dir)) {
            return Err(Error::Unreachable { dir, account: account.name().to_owned() });
        }
        if let Some(parent) = dir.parent() {
            // The account has to pass through; what is private lies in the server's own directory.
            make(parent, 0o711)?;
        }
        make(&dir, 0o700)?;
        if let Some(account) = &account {
            account.own(&dir)?;
        }
        Ok(Self { dir, account, throw_away })
    }

    pub(crate) fn is_throw_away(&self) -> bool {
        self.throw_away
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    /// The last lines of the server's log, for an error message.
    pub(crate) fn log_tail(&self) -> String {
        std::fs::read_to_string(self.log()).map_or_else(|error| error.to_string(), |text| tail(&text))
    }

    /// The password of a kept server, made on first use; a throw-away server has none.
    pub(crate) fn password(&self) -> Result<Option<String>> {
        if self.throw_away {
            return Ok(None);
        }
        let path = self.dir.join("password");
        if let Ok(found) = std::fs::read_to_string(&path) {
            return Ok(Some(found.trim().to_owned()));
        }
        let password = random(24);
        write_private(&path, &password)?;
        if let Some(account) = &self.account {
            account.own(&path)?;
        }
        Ok(Some(password))
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if self.throw_away {
            // What is left behind here lies in the temporary directory, and the server's watch removes it too.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

fn make(dir: &Path, mode: u32) -> Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(dir).attempt(|| format!("creating {}", dir.display()))
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .attempt(|| format!("writing {}", path.display()))
}

/// `bytes` bytes of the operating system's randomness, in hexadecimal.
fn random(bytes: usize) -> String {
    use std::io::Read as _;
    let mut buffer = vec![0_u8; bytes];
    // Without /dev/urandom there is no safe password: an empty one would be refused by the servers.
    if std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut buffer)).is_err() {
        return String::new();
    }
    buffer.iter().map(|byte| format!("{byte:02x}")).collect()
}
