//! The configurations in `deploy/scenarios`, changed as a test needs them.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// A folder of `deploy/scenarios`.
pub(crate) struct Scenario(pub(crate) &'static str);

impl Scenario {
    /// One of its files, as a list of one for what takes several.
    pub(crate) fn list(&self, file: &str) -> Vec<String> {
        vec![self.path(file).display().to_string()]
    }

    pub(crate) fn read(&self, file: &str) -> Table {
        std::fs::read_to_string(self.path(file)).unwrap().parse().unwrap()
    }

    fn path(&self, file: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/scenarios").join(self.0).join(file)
    }
}

/// Sets a value in tables that are there.
pub(crate) fn set(config: &mut Table, path: &[&str], value: impl Into<Value>) {
    let (last, tables) = path.split_last().unwrap();
    let table = tables.iter().fold(config, |table, key| table[*key].as_table_mut().unwrap());
    table.insert((*last).to_owned(), value.into());
}
