//! Reading the catalogue files: table by table, every mistake collected with the place where it stands.

use toml::{Table, Value};
use weir_types::NanoUsd;

/// A mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The place, for instance `plan "pro", limit "budget": unit`.
    pub(crate) at: String,
    /// What is wrong there, and what would be right.
    pub(crate) message: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.at.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.at, self.message) }
    }
}

/// The mistakes found so far.
#[derive(Debug, Default)]
pub(crate) struct Faults(pub(crate) Vec<Fault>);

impl Faults {
    /// Adds one.
    pub(crate) fn add(&mut self, at: impl Into<String>, message: impl Into<String>) {
        self.0.push(Fault { at: at.into(), message: message.into() });
    }
}

/// One table of a file. Each key that is asked for is known; [`Reader::finish`] complains about the others.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    at: String,
    table: &'a Table,
    known: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    /// Reads `table`, which stands at `at`.
    pub(crate) fn new(at: impl Into<String>, table: &'a Table) -> Self {
        Self { at: at.into(), table, known: Vec::new() }
    }

    /// Where the table stands.
    pub(crate) fn at(&self) -> &str {
        &self.at
    }

    /// Names the place by what stands in it, once that is known.
    pub(crate) fn rename(&mut self, at: String) {
        self.at = at;
    }

    /// The place of `key`.
    pub(crate) fn place(&self, key: &str) -> String {
        if self.at.is_empty() { key.to_owned() } else { format!("{}: {key}", self.at) }
    }

    /// Whether the table has `key`. Makes it known.
    pub(crate) fn has(&mut self, key: &'static str) -> bool {
        self.value(key).is_some()
    }

    fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        self.table.get(key)
    }

    fn required(&mut self, key: &'static str, faults: &mut Faults) -> Option<&'a Value> {
        let value = self.value(key);
        if value.is_none() {
            faults.add(self.place(key), "is missing");
        }
        value
    }

    /// A text that has to be there and must not be empty.
    pub(crate) fn text(&mut self, key: &'static str, faults: &mut Faults) -> Option<&'a str> {
        let value = self.required(key, faults)?;
        match value.as_str() {
            Some(text) if !text.is_empty() => Some(text),
            _ => {
                faults.add(self.place(key), "must be a text that is not empty");
                None
            }
        }
    }

    /// A text, if it is there.
    pub(crate) fn optional_text(&mut self, key: &'static str, faults: &mut Faults) -> Option<&'a str> {
        if self.has(key) { self.text(key, faults) } else { None }
    }

    /// An integer that has to be there.
    pub(crate) fn integer(&mut self, key: &'static str, faults: &mut Faults) -> Option<i64> {
        let value = self.required(key, faults)?;
        let integer = value.as_integer();
        if integer.is_none() {
            faults.add(self.place(key), "must be an integer");
        }
        integer
    }

    /// A switch, off if it is not there.
    pub(crate) fn switch(&mut self, key: &'static str, faults: &mut Faults) -> bool {
        match self.value(key) {
            None => false,
            Some(Value::Boolean(on)) => *on,
            Some(_) => {
                faults.add(self.place(key), "must be true or false");
                false
            }
        }
    }

    /// A sum of US dollars, as a text, that has to be there and must not be negative.
    pub(crate) fn dollars(&mut self, key: &'static str, faults: &mut Faults) -> Option<NanoUsd> {
        let value = self.required(key, faults)?;
        let Some(text) = value.as_str() else {
            faults.add(self.place(key), "must be a text with a sum in US dollars, such as \"2.50\"");
            return None;
        };
        match NanoUsd::from_usd_str(text) {
            Ok(sum) if sum >= NanoUsd::ZERO => Some(sum),
            Ok(_) => {
                faults.add(self.place(key), "must not be negative");
                None
            }
            Err(error) => {
                faults.add(self.place(key), error.to_string());
                None
            }
        }
    }

    /// A list of integers, empty if it is not there.
    pub(crate) fn integers(&mut self, key: &'static str, faults: &mut Faults) -> Vec<i64> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let integers: Option<Vec<i64>> =
            value.as_array().and_then(|values| values.iter().map(Value::as_integer).collect());
        integers.unwrap_or_else(|| {
            faults.add(self.place(key), "must be a list of integers");
            Vec::new()
        })
    }

    /// A list of texts, empty if it is not there.
    pub(crate) fn texts(&mut self, key: &'static str, faults: &mut Faults) -> Vec<&'a str> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let texts: Option<Vec<&str>> = value
            .as_array()
            .and_then(|list| list.iter().map(|item| item.as_str().filter(|text| !text.is_empty())).collect());
        texts.unwrap_or_else(|| {
            faults.add(self.place(key), "must be a list of texts that are not empty");
            Vec::new()
        })
    }

    /// A list of tables, empty if it is not there.
    pub(crate) fn tables(&mut self, key: &'static str, faults: &mut Faults) -> Vec<&'a Table> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let tables: Option<Vec<&Table>> = value.as_array().and_then(|list| list.iter().map(Value::as_table).collect());
        tables.unwrap_or_else(|| {
            faults.add(self.place(key), "must be a list of tables");
            Vec::new()
        })
    }

    /// A table that has to be there.
    pub(crate) fn table(&mut self, key: &'static str, faults: &mut Faults) -> Option<&'a Table> {
        let value = self.required(key, faults)?;
        let table = value.as_table();
        if table.is_none() {
            faults.add(self.place(key), "must be a table");
        }
        table
    }

    /// Complains about the keys that nobody asked for.
    pub(crate) fn finish(self, faults: &mut Faults) {
        for key in self.table.keys().filter(|key| !self.known.contains(&key.as_str())) {
            faults.add(self.place(key), format!("is not known; known are {}", self.known.join(", ")));
        }
    }
}

/// Parses a file's text.
pub(crate) fn parse(text: &str, faults: &mut Faults) -> Option<Table> {
    text.parse::<Table>().map_err(|error| faults.add("", error.to_string().trim_end().to_owned())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_of_a_table_is_reported_with_its_place() {
        let mut faults = Faults::default();
        let table = parse("a = 1\nb = \"x\"\nc = \"-2\"\nextra = true", &mut faults).unwrap_or_default();
        let mut reader = Reader::new("plan \"pro\"", &table);
        reader.text("a", &mut faults);
        reader.integer("b", &mut faults);
        reader.dollars("c", &mut faults);
        reader.text("d", &mut faults);
        reader.finish(&mut faults);
        let shown: Vec<String> = faults.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "plan \"pro\": a: must be a text that is not empty",
                "plan \"pro\": b: must be an integer",
                "plan \"pro\": c: must not be negative",
                "plan \"pro\": d: is missing",
                "plan \"pro\": extra: is not known; known are a, b, c, d",
            ]
        );
    }

    #[test]
    fn a_file_that_is_not_toml_is_one_fault() {
        let mut faults = Faults::default();
        assert!(parse("a = ", &mut faults).is_none());
        assert_eq!(faults.0.len(), 1);
    }
}
