//! The books side by side, for people and for programs.

use std::fmt::Write as _;
use std::io::Write as _;

use serde::Serialize;

use crate::books::{Book, Books};
use crate::totals::Totals;

/// The last line of a replay: what the file adds up to, and what everybody says.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Balance {
    #[serde(flatten)]
    file: Totals,
    client: Totals,
    provider: Totals,
    quota: Totals,
    usage: Totals,
    billing: Totals,
    balanced: bool,
}

impl Balance {
    /// Compares the file with everybody's books.
    #[must_use]
    pub fn of(file: Totals, client: Totals, provider: Totals, books: &Books) -> Self {
        let Books { quota, usage, billing } = books;
        let (quota, usage, billing) = (quota.totals, usage.totals, billing.totals);
        let balanced = [client, provider, quota, usage, billing].iter().all(|book| *book == file);
        Self { file, client, provider, quota, usage, billing, balanced }
    }

    /// Whether all agree.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.balanced
    }

    fn books(&self) -> [(&'static str, &Totals); 6] {
        [
            ("file", &self.file),
            ("clients", &self.client),
            ("provider", &self.provider),
            ("quota", &self.quota),
            ("usage", &self.usage),
            ("billing", &self.billing),
        ]
    }

    /// A table, and a sentence for everything that is unequal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "{:<10}{:>12}{:>16}{:>16}{:>22}",
            "", "requests", "input tokens", "output tokens", "cost, nano-USD"
        );
        for (name, totals) in self.books() {
            let Totals { requests, input_tokens, output_tokens, cost_nano_usd } = totals;
            let mark = if *totals == self.file { "" } else { "  differs" };
            let _ =
                writeln!(out, "{name:<10}{requests:>12}{input_tokens:>16}{output_tokens:>16}{cost_nano_usd:>22}{mark}");
        }
        for (name, totals) in self.books() {
            for (what, file, theirs) in self.file.differences(totals) {
                let _ = writeln!(out, "{what}: the file adds up to {file}, {name} to {theirs} ({:+})", theirs - file);
            }
        }
        out
    }

    /// One line of JSON.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// `… of them estimated`, if there are any.
#[must_use]
pub fn estimated(name: &str, book: &Book) -> Option<String> {
    (book.estimated > 0)
        .then(|| format!("{name}: {} of {} requests are estimated", book.estimated, book.totals.requests))
}

/// Writes a line to standard output, where a program's result belongs.
///
/// # Errors
/// Standard output is closed.
pub fn say(line: impl std::fmt::Display) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should panic")]

    use super::*;

    #[test]
    fn an_unequal_sum_is_named() {
        let file = Totals::request(10, 5, 100);
        let book = Book { totals: file, estimated: 0 };
        let equal = Balance::of(file, file, file, &Books { quota: book, usage: book, billing: book });
        assert!(equal.balanced());
        let json: serde_json::Value = serde_json::from_str(&equal.json()).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let sums = ["requests", "input_tokens", "output_tokens", "cost_nano_usd"];
        assert_eq!(keys, [&sums[..], &["client", "provider", "quota", "usage", "billing", "balanced"]].concat());
        assert!(json["usage"].as_object().unwrap().keys().eq(sums));

        let wrong = Book { totals: Totals::request(10, 4, 100), estimated: 1 };
        let unequal = Balance::of(file, file, file, &Books { quota: book, usage: wrong, billing: book });
        assert!(!unequal.balanced());
        assert!(unequal.text().contains("output_tokens: the file adds up to 5, usage to 4 (-1)"), "{}", unequal.text());
    }
}
