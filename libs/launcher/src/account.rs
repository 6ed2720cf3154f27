use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::error::Attempt as _;
use crate::{Error, Result};

/// The operating-system account that runs the servers when the caller is root.
#[derive(Clone, Debug)]
pub struct Account {
    name: String,
    uid: u32,
    gid: u32,
}

impl Account {
    /// The account for the servers: `None` when the caller is not root and they run as the caller.
    ///
    /// # Errors
    /// [`Error::NoAccount`] when the caller is root and there is neither `postgres` nor `nobody`.
    pub fn for_servers() -> Result<Option<Self>> {
        if effective_uid()? != 0 {
            return Ok(None);
        }
        let passwd = std::fs::read_to_string("/etc/passwd").attempt(|| "reading /etc/passwd".to_owned())?;
        ["postgres", "nobody"].into_iter().find_map(|name| Self::find(&passwd, name)).map(Some).ok_or(Error::NoAccount)
    }

    fn find(passwd: &str, name: &str) -> Option<Self> {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next()? != name {
                return None;
            }
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(Self { name: name.to_owned(), uid, gid })
        })
    }

    /// The account's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this account can enter every existing directory on the way to `path`.
    #[must_use]
    pub fn can_reach(&self, path: &Path) -> bool {
        let Ok(path) = std::path::absolute(path) else { return false };
        path.ancestors().skip(1).all(|ancestor| match std::fs::metadata(ancestor) {
            Ok(found) => {
                let execute = if found.uid() == self.uid {
                    0o100
                } else if found.gid() == self.gid {
                    0o010
                } else {
                    0o001
                };
                found.mode() & execute != 0
            }
            Err(_) => true,
        })
    }

    pub(crate) fn own(&self, path: &Path) -> Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
            .attempt(|| format!("giving {} to {}", path.display(), self.name))
    }

    pub(crate) fn run(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid).env("HOME", "/").env("USER", &self.name);
    }
}

/// The caller's effective user id; the owner of `/proc/self` where there is one, else of a file that the caller makes.
fn effective_uid() -> Result<u32> {
    if let Ok(found) = std::fs::metadata("/proc/self") {
        return Ok(found.uid());
    }
    let probe = std::env::temp_dir().join(format!("weir-uid-{}", std::process::id()));
    std::fs::write(&probe, []).attempt(|| format!("writing {}", probe.display()))?;
    let uid = std::fs::metadata(&probe).map(|found| found.uid()).attempt(|| format!("reading {}", probe.display()));
    let _ = std::fs::remove_file(&probe);
    uid
}

#[cfg(test)]
mod tests {
    use super::Account;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd = "postgres2:x:1:1::/:\npostgres:x:101:104:admin,,,:/var/lib/postgresql:/bin/bash\n";
        let account = Account::find(passwd, "postgres").expect("it is listed");
        assert_eq!((account.uid, account.gid), (101, 104));
        assert!(Account::find(passwd, "nobody").is_none());
    }
}
