//! Turns environment variables into a tree: `WEIR_QUOTA__LISTEN=…` sets `quota.listen`.

use toml::{Table, Value};

use crate::compare::kind;
use crate::{Problem, Source};

/// One variable that sets one key.
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) path: Vec<String>,
    pub(crate) text: String,
}

/// Finds the variables that mean configuration. An empty variable counts as not set, for compose files pass unset ones so.
pub(crate) fn settings(
    prefix: &str,
    aliases: &[(String, String)],
    variables: impl Iterator<Item = (String, String)>,
    defaults: &Table,
    problems: &mut Vec<Problem>,
) -> Vec<Setting> {
    let mut found = Vec::new();
    for (name, text) in variables.filter(|(_, text)| !text.is_empty()) {
        if let Some((_, path)) = aliases.iter().find(|(alias, _)| *alias == name) {
            found.push(Setting { path: path.split('.').map(str::to_owned).collect(), name, text });
            continue;
        }
        let Some(rest) = name.strip_prefix(prefix).map(str::to_ascii_lowercase) else { continue };
        if rest.contains("__") {
            found.push(Setting { path: rest.split("__").map(str::to_owned).collect(), name, text });
        } else if let Some(path) = single_underscore(&rest, defaults) {
            // Anything else with the prefix is somebody's own variable, or one that Kubernetes makes for a service.
            let meant = format!("{prefix}{}", path.replace('.', "__").to_ascii_uppercase());
            let problem = Problem::new("", &path, "levels are separated by two underscores");
            problems.push(problem.source(Source::Environment(name)).hint(format!("write {meant}")));
        }
    }
    // A fixed order, aliases last: the same environment always gives the same result.
    found.sort_by(|a, b| (is_alias(a, prefix), &a.name).cmp(&(is_alias(b, prefix), &b.name)));
    found
}

fn is_alias(setting: &Setting, prefix: &str) -> bool {
    !setting.name.strip_prefix(prefix).is_some_and(|rest| rest.contains("__"))
}

/// `quota_listen` where `quota.listen` exists.
fn single_underscore(rest: &str, defaults: &Table) -> Option<String> {
    rest.match_indices('_').find_map(|(at, _)| {
        let (section, key) = (&rest[..at], &rest[at + 1..]);
        defaults.get(section)?.as_table()?.get(key).map(|_| format!("{section}.{key}"))
    })
}

impl Setting {
    /// The tree that sets this one key, its text read as the kind that the default has.
    pub(crate) fn tree(&self, defaults: &Table) -> Result<Table, Problem> {
        let default = lookup(defaults, &self.path);
        let value = match default {
            Some(Value::String(_)) => Some(Value::String(self.text.clone())),
            Some(default) => parse(&self.text).filter(|value| {
                matches!((default, value), (Value::Float(_), Value::Integer(_))) || kind(default) == kind(value)
            }),
            None => Some(parse(&self.text).unwrap_or_else(|| Value::String(self.text.clone()))),
        };
        let Some(value) = value else {
            let message = format!("must be {}", default.map_or("a value", kind));
            return Err(Problem::new("", &self.path.join("."), message).source(Source::Environment(self.name.clone())));
        };
        let mut tree = value;
        for key in self.path.iter().rev() {
            tree = Value::Table(Table::from_iter([(key.clone(), tree)]));
        }
        match tree {
            Value::Table(tree) => Ok(tree),
            _ => Ok(Table::new()),
        }
    }
}

fn lookup<'a>(tree: &'a Table, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = tree.get(first)?;
    if rest.is_empty() { Some(value) } else { lookup(value.as_table()?, rest) }
}

/// Reads the text as a TOML value.
fn parse(text: &str) -> Option<Value> {
    format!("value = {text}").parse::<Table>().ok().filter(|table| table.len() == 1)?.remove("value")
}
