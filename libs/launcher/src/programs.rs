use std::path::{Path, PathBuf};

use crate::{Error, Result};

const POSTGRES_HINT: &str = "install PostgreSQL 14 or newer (Debian, Ubuntu: apt-get install postgresql) or point WEIR_DATABASE_URL at a running server";
const REDIS_HINT: &str = "install Redis 6.2 or newer (Debian, Ubuntu: apt-get install redis-server) or point WEIR_REDIS_URL at a running server";

/// The directory of one installation's `postgres` and `initdb`.
pub(crate) fn postgres() -> Result<PathBuf> {
    let complete = |dir: &Path| dir.join("postgres").is_file() && dir.join("initdb").is_file();
    // Debian keeps the server programs out of PATH, one directory per major version.
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    path()
        .chain(versions.into_iter().rev().map(|(_, dir)| dir))
        .find(|dir| complete(dir))
        .ok_or(Error::Missing { program: "PostgreSQL", hint: POSTGRES_HINT })
}

/// The Redis server program.
pub(crate) fn redis() -> Result<PathBuf> {
    path()
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .flat_map(|dir| [dir.join("redis-server"), dir.join("valkey-server")])
        .find(|program| program.is_file())
        .ok_or(Error::Missing { program: "redis-server", hint: REDIS_HINT })
}

fn path() -> impl Iterator<Item = PathBuf> {
    std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
        .unwrap_or_default()
        .into_iter()
}
