use std::path::PathBuf;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::compare::Merged;
use crate::{Errors, Problem, Source, Validate, environment};

/// Collects the layers of a configuration and loads them.
#[derive(Default)]
pub struct Loader {
    sections: Vec<&'static str>,
    open: Vec<String>,
    file: Option<PathBuf>,
    prefix: String,
    aliases: Vec<(String, String)>,
    variables: Vec<(String, String)>,
    settings: Vec<(String, String)>,
}

impl Loader {
    /// Without any layer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a crate's defaults: the TOML text of its `config.defaults.toml`.
    #[must_use]
    pub fn section(mut self, defaults: &'static str) -> Self {
        self.sections.push(defaults);
        self
    }

    /// Declares a table (a dotted path) whose keys the user is free to choose.
    #[must_use]
    pub fn open(mut self, path: &str) -> Self {
        self.open.push(path.to_owned());
        self
    }

    /// Reads this file on top of the defaults.
    #[must_use]
    pub fn file(mut self, path: Option<PathBuf>) -> Self {
        self.file = path;
        self
    }

    /// Reads this process's environment on top of the file: `{prefix}QUOTA__LISTEN` sets `quota.listen`; and
    /// `{prefix}DATABASE_URL` and `{prefix}REDIS_URL`, which everybody expects, set `database.url` and `redis.url`.
    #[must_use]
    pub fn env(self, prefix: &str) -> Self {
        self.variables(
            prefix,
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
        )
    }

    /// As [`Loader::env`], from the given variables.
    #[must_use]
    pub fn variables(mut self, prefix: &str, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        prefix.clone_into(&mut self.prefix);
        self.variables = variables.into_iter().collect();
        self.alias(&format!("{prefix}DATABASE_URL"), "database.url").alias(&format!("{prefix}REDIS_URL"), "redis.url")
    }

    /// Lets the variable `name` set the key `path`.
    #[must_use]
    pub fn alias(mut self, name: &str, path: &str) -> Self {
        self.aliases.push((name.to_owned(), path.to_owned()));
        self
    }

    /// Lays TOML text on top of everything, the environment included: what the program knows better than its configuration,
    /// such as the address of a server that it has just started. `reason` stands for the source in messages.
    #[must_use]
    pub fn set(mut self, reason: &str, toml: String) -> Self {
        self.settings.push((reason.to_owned(), toml));
        self
    }

    /// Merges, compares, deserializes and validates.
    ///
    /// # Errors
    /// Every unknown key, every value of the wrong kind, every value that its type refuses and every semantic problem, at once.
    pub fn load<T: DeserializeOwned + Validate>(self) -> Result<T, Errors> {
        let mut merged = Merged { open: self.open.clone(), ..Merged::default() };
        for defaults in &self.sections {
            merge_defaults(&mut merged, defaults);
        }
        let defaults = merged.tree.clone();
        if let Some(path) = &self.file {
            overlay_file(&mut merged, path);
        }
        let mut problems = Vec::new();
        let settings =
            environment::settings(&self.prefix, &self.aliases, self.variables.into_iter(), &defaults, &mut problems);
        for setting in settings {
            match setting.tree(&defaults) {
                Ok(tree) => merged.overlay(tree, &Source::Environment(setting.name)),
                Err(problem) => problems.push(problem),
            }
        }
        merged.problems.append(&mut problems);
        for (reason, text) in self.settings {
            overlay_text(&mut merged, &text, Source::Program(reason));
        }
        let value = deserialize::<T>(&mut merged, &defaults);
        if let Some(value) = value {
            let mut semantic = Vec::new();
            value.validate("", &mut semantic);
            for mut problem in semantic {
                // A value that was refused already is judged by its default here, which would be a second complaint.
                if merged.problems.iter().any(|known| known.path == problem.path) {
                    continue;
                }
                problem.source = merged.source_of(&problem.path).cloned();
                merged.problems.push(problem);
            }
            if merged.problems.is_empty() {
                return Ok(value);
            }
        }
        Err(Errors(merged.problems))
    }
}

fn merge_defaults(merged: &mut Merged, text: &str) {
    match text.parse::<Table>() {
        Ok(table) => merge(&mut merged.tree, table),
        Err(error) => merged.problems.push(Problem::new("", "", format!("broken defaults: {}", error.message()))),
    }
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(known)), Value::Table(table)) => merge(known, table),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn overlay_file(merged: &mut Merged, path: &std::path::Path) {
    let source = Source::File(path.to_owned());
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            merged.problems.push(Problem::new("", "", format!("cannot be read: {error}")).source(source));
            return;
        }
    };
    overlay_text(merged, &text, source);
}

fn overlay_text(merged: &mut Merged, text: &str, source: Source) {
    match text.parse::<Table>() {
        Ok(table) => merged.overlay(table, &source),
        Err(error) => {
            // The error's own display would quote the line, and with it perhaps a secret.
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
            let message = format!("is not TOML: line {line}: {}", error.message());
            merged.problems.push(Problem::new("", "", message).source(source));
        }
    }
}

/// Deserializes; a value that its type refuses is reported and replaced by its default, so that the next one is found too.
fn deserialize<T: DeserializeOwned>(merged: &mut Merged, defaults: &Table) -> Option<T> {
    loop {
        let error = match serde_path_to_error::deserialize::<_, T>(Value::Table(merged.tree.clone())) {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let at = path_of(error.path());
        let message = error.inner().message().trim().to_owned();
        let set = longest_set(merged, &at);
        let mut problem = Problem::new("", &at.join("."), message);
        problem.source = set.as_ref().map(|(_, source)| source.clone());
        merged.problems.push(problem);
        let (path, _) = set?;
        merged.sources.remove(&path.join("."));
        restore(&mut merged.tree, defaults, &path);
    }
}

fn path_of(path: &serde_path_to_error::Path) -> Vec<String> {
    path.iter()
        .filter_map(|segment| match segment {
            serde_path_to_error::Segment::Map { key } => Some(key.clone()),
            serde_path_to_error::Segment::Seq { index } => Some(index.to_string()),
            serde_path_to_error::Segment::Enum { variant } => Some(variant.clone()),
            serde_path_to_error::Segment::Unknown => None,
        })
        .collect()
}

/// The key that the user set at or around `at`; or one below it, when a table lacks or has a field too many.
fn longest_set(merged: &Merged, at: &[String]) -> Option<(Vec<String>, Source)> {
    let around = (1..=at.len()).rev().find_map(|length| {
        let path = &at[..length];
        merged.sources.get(&path.join(".")).map(|source| (path.to_vec(), source.clone()))
    });
    around.or_else(|| {
        let prefix = if at.is_empty() { String::new() } else { format!("{}.", at.join(".")) };
        let (path, source) = merged.sources.range(prefix.clone()..).find(|(path, _)| path.starts_with(&prefix))?;
        Some((path.split('.').map(str::to_owned).collect(), source.clone()))
    })
}

/// Puts the default back at `path`, or removes the key when there is none.
fn restore(tree: &mut Table, defaults: &Table, path: &[String]) {
    let Some((first, rest)) = path.split_first() else { return };
    let default = defaults.get(first);
    if rest.is_empty() {
        match default {
            Some(value) => tree.insert(first.clone(), value.clone()),
            None => tree.remove(first),
        };
        return;
    }
    if let Some(Value::Table(table)) = tree.get_mut(first) {
        restore(table, default.and_then(Value::as_table).unwrap_or(&Table::new()), rest);
        if table.is_empty() && default.is_none() {
            tree.remove(first);
        }
    }
}
