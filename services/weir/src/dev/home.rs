//! The directory that `weir dev` keeps: data, keys, and how to reach what runs.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use weir_host::Host;

use crate::dev::CONFIG_FILE;
use crate::failure::Failure;
use crate::services::Name;

/// An opened directory; one process at a time has it.
#[derive(Debug)]
pub(crate) struct Home {
    dir: PathBuf,
    /// Held for as long as this process lives.
    _lock: File,
}

impl Home {
    pub(crate) fn open(dir: &Path) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::unavailable(&dir.display().to_string(), &error);
        // Passable, not readable: the servers may run under another account. What is secret in it is so by itself.
        std::fs::DirBuilder::new().recursive(true).mode(0o711).create(dir).map_err(failed)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(dir.join("lock"))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => Err(Failure::usage(format_args!(
                "Weir runs in {} already. Stop it first, or keep a second one elsewhere: weir dev --dir .weir-2",
                dir.display()
            ))),
            Err(std::fs::TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn master_key(&self) -> PathBuf {
        self.dir.join("master.key")
    }

    /// What a shell sources to call the API.
    pub(crate) fn environment(&self) -> PathBuf {
        self.dir.join("dev.env")
    }

    /// Keeps results here, unless the configuration has a place for them; `url` is where clients fetch them.
    pub(crate) fn results(&self, config: &weir_ai_broker::Config, url: &str) -> String {
        if config.stores_results() {
            return String::new();
        }
        let folder = self.dir.join("results");
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        format!("[broker.results]\nfolder = {:?}\npublic_url = {url:?}\n", folder.display().to_string())
    }

    /// How an operator's commands find this place: nothing where they look by themselves.
    pub(crate) fn option(&self) -> String {
        if self.dir == Path::new(super::DEFAULT_DIR) {
            return String::new();
        }
        format!(" --config {}", self.dir.join(CONFIG_FILE).display())
    }

    /// Lets `weir audit` and its like, run from the same place, find the services.
    pub(crate) fn write_config(&self, host: &Host) -> Result<(), Failure> {
        use std::fmt::Write as _;
        let mut text = String::from("# Written by `weir dev` at every start.\n[discovery.services]\n");
        for name in Name::chosen(&[Name::All]) {
            if name != Name::Facade
                && let Some(address) = host.address(name.service())
            {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{} = [\"{address}\"]", name.service().replace('-', "_"));
            }
        }
        let key = std::path::absolute(self.master_key()).unwrap_or_else(|_| self.master_key());
        let _ = writeln!(text, "\n[master_key]\nfile = {:?}", key.display().to_string());
        self.write(&self.dir.join(CONFIG_FILE), &text)
    }

    /// Replaces a file that only its owner may read, all at once.
    pub(crate) fn write(&self, path: &Path, text: &str) -> Result<(), Failure> {
        let draft = path.with_extension("draft");
        OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| std::fs::rename(&draft, path))
            .map_err(|error| Failure::unavailable(&path.display().to_string(), &error))
    }
}
