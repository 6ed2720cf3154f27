//! The executable from outside: its arguments, output, exit codes and signals.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the test's answer")]

mod commands;
mod configuration;
mod deploy;
mod dev;
mod documents;
mod weir;
