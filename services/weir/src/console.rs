//! What a command prints: its data on standard output. Logs go to standard error.

use std::fmt::Display;
use std::io::Write as _;

use serde::Serialize;

/// A reader that has gone away (`weir audit | head`) is no error of ours.
pub(crate) fn print(text: impl Display) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

pub(crate) fn print_json(value: &impl Serialize) {
    if let Ok(text) = serde_json::to_string_pretty(value) {
        print(text);
    }
}
