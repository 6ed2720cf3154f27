use std::path::PathBuf;

/// Why a private server did not start or stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program is not installed.
    #[error("{program} is not installed: {hint}")]
    Missing {
        /// The program that was looked for.
        program: &'static str,
        /// What the reader can do about it.
        hint: &'static str,
    },
    /// Root has no account to hand the servers to.
    #[error(
        "Postgres refuses to run as root and this machine has neither a `postgres` nor a `nobody` account to run it as"
    )]
    NoAccount,
    /// The account that runs the servers cannot enter a parent of the data directory.
    #[error("{} cannot be reached by the account `{account}`, which runs the servers; choose another directory", dir.display())]
    Unreachable {
        /// The data directory.
        dir: PathBuf,
        /// The account's name.
        account: String,
    },
    /// A program ended with an error.
    #[error("{program} failed: {output}")]
    Failed {
        /// The program that was run.
        program: &'static str,
        /// The end of what it said.
        output: String,
    },
    /// A server did not become ready in time.
    #[error("{program} was not ready after {seconds} s: {output}")]
    NotReady {
        /// The server.
        program: &'static str,
        /// How long it was given.
        seconds: u64,
        /// The end of its log.
        output: String,
    },
    /// The file system or the operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// The refusal.
        source: std::io::Error,
    },
}

/// The result of a launcher call.
pub type Result<T> = std::result::Result<T, Error>;

pub(crate) trait Attempt<T> {
    /// Says what was attempted when the operating system refuses.
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Attempt<T> for std::io::Result<T> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source })
    }
}
