//! A recorded workload: when each request came, how many tokens it brought, how many it got.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::NaiveDateTime;
use serde::Deserialize;

const EXCERPT: &str = "data/azure_llm_2023_conversation_300.csv";
const WHOLE: &str = "../../shared/data/azure_llm_2023_conversation.csv";

/// One request of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// When it came, from the first one.
    pub at: Duration,
    /// Its input tokens.
    pub input: u64,
    /// Its output tokens.
    pub output: u64,
}

/// The requests of a trace in the order of their time.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The file it was read from.
    pub path: PathBuf,
    /// At least one.
    pub rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "TIMESTAMP")]
    timestamp: String,
    #[serde(rename = "ContextTokens")]
    input: u64,
    #[serde(rename = "GeneratedTokens")]
    output: u64,
}

impl Trace {
    /// Reads a file with the columns `TIMESTAMP`, `ContextTokens` and `GeneratedTokens`.
    ///
    /// # Errors
    /// It cannot be read, has no rows, or a row has no tokens.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let mut reader =
            csv::Reader::from_path(path).with_context(|| format!("cannot read the trace {}", path.display()))?;
        let mut rows = Vec::new();
        let mut first = None;
        for (number, line) in reader.deserialize().enumerate() {
            let place = || format!("row {} of {}", number + 1, path.display());
            let line: Line = line.with_context(place)?;
            let time = NaiveDateTime::parse_from_str(&line.timestamp, "%Y-%m-%d %H:%M:%S%.f").with_context(place)?;
            let at = (time - *first.get_or_insert(time)).to_std().unwrap_or_default();
            if line.input == 0 || line.output == 0 {
                bail!("{} has no tokens", place());
            }
            rows.push(Row { at, input: line.input, output: line.output });
        }
        if rows.is_empty() {
            bail!("the trace {} has no rows", path.display());
        }
        rows.sort_by_key(|row| row.at);
        Ok(Self { path: path.to_owned(), rows })
    }

    /// The 300 requests that lie beside this crate.
    ///
    /// # Errors
    /// As [`Trace::read`].
    pub fn excerpt() -> anyhow::Result<Self> {
        Self::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(EXCERPT))
    }

    /// The file in `WEIR_TRACE`, else the whole trace if it lies beside the repository, else the excerpt.
    #[must_use]
    pub fn default_path() -> PathBuf {
        let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        match std::env::var_os("WEIR_TRACE") {
            Some(path) if !path.is_empty() => PathBuf::from(path),
            _ if crate_dir.join(WHOLE).exists() => crate_dir.join(WHOLE),
            _ => crate_dir.join(EXCERPT),
        }
    }

    /// Only the first so many rows.
    #[must_use]
    pub fn take(mut self, rows: usize) -> Self {
        self.rows.truncate(rows);
        self
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;

    #[test]
    fn the_excerpt_adds_up_to_what_its_readme_says() {
        let trace = Trace::excerpt().unwrap();
        assert_eq!(trace.rows.len(), 300);
        assert_eq!(trace.rows.iter().map(|row| row.input).sum::<u64>(), 270_000);
        assert_eq!(trace.rows.iter().map(|row| row.output).sum::<u64>(), 76_870);
        assert_eq!(trace.rows[0].at, Duration::ZERO);
        assert!(trace.rows.is_sorted_by_key(|row| row.at));
    }
}
