//! Compares what the user set with the tree of defaults, and takes over what fits.

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::nearest::nearest;
use crate::problem::join;
use crate::{Problem, Source};

/// The merged configuration and who set which key.
#[derive(Default)]
pub(crate) struct Merged {
    pub(crate) tree: Table,
    pub(crate) sources: BTreeMap<String, Source>,
    pub(crate) problems: Vec<Problem>,
    /// Tables whose keys the user is free to choose.
    pub(crate) open: Vec<String>,
}

impl Merged {
    /// Takes over every key of `user` that the defaults know with the same kind; the others become problems.
    pub(crate) fn overlay(&mut self, user: Table, source: &Source) {
        let mut tree = std::mem::take(&mut self.tree);
        self.overlay_table(&mut tree, user, "", source);
        self.tree = tree;
    }

    fn overlay_table(&mut self, defaults: &mut Table, user: Table, at: &str, source: &Source) {
        let open = self.is_open(at);
        for (key, value) in user {
            let path = join(at, &key);
            match (defaults.get_mut(&key), value) {
                (Some(Value::Table(known)), Value::Table(table)) => self.overlay_table(known, table, &path, source),
                (Some(known), value) if open || fits(known, &value) => {
                    *known = value;
                    self.sources.insert(path, source.clone());
                }
                (Some(known), value) => {
                    let message = format!("must be {}, not {}", kind(known), kind(&value));
                    self.problems.push(Problem::new("", &path, message).source(source.clone()));
                }
                (None, value) if open => {
                    self.sources.insert(path, source.clone());
                    defaults.insert(key, value);
                }
                (None, _) => {
                    let problem = Problem::new("", &path, "is not a known key").source(source.clone());
                    self.problems.push(match self.suggestion(defaults, &key, at) {
                        Some(known) => problem.hint(format!("did you mean `{known}`?")),
                        None => problem.hint(format!("known here: {}", listed(defaults))),
                    });
                }
            }
        }
    }

    /// Whether `at` or a table around it is open.
    fn is_open(&self, at: &str) -> bool {
        self.open
            .iter()
            .any(|open| at == open || at.strip_prefix(open.as_str()).is_some_and(|rest| rest.starts_with('.')))
    }

    /// A sibling with nearly this name.
    fn suggestion(&self, siblings: &Table, key: &str, at: &str) -> Option<String> {
        nearest(key, siblings.keys().map(String::as_str)).map(|known| join(at, known))
    }

    /// Who set `path`, or a table around it.
    pub(crate) fn source_of(&self, path: &str) -> Option<&Source> {
        let mut path = path;
        loop {
            if let Some(source) = self.sources.get(path) {
                return Some(source);
            }
            path = path.rsplit_once('.')?.0;
        }
    }
}

fn fits(default: &Value, value: &Value) -> bool {
    matches!((default, value), (Value::Float(_), Value::Integer(_)))
        || std::mem::discriminant(default) == std::mem::discriminant(value)
}

pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date and time",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

fn listed(table: &Table) -> String {
    table.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}
