use std::path::PathBuf;

use serde_json::json;

use crate::cli::JsonArguments;
use crate::config::WeirConfig;
use crate::console;
use crate::failure::Failure;

/// `weir check-config`: what `weir serve` would refuse, the master key included.
pub(crate) fn run(file: Option<PathBuf>, arguments: &JsonArguments) -> Result<(), Failure> {
    let problems = match WeirConfig::load(file) {
        Ok(config) => config.master_key().err().map(|problem| vec![problem]).unwrap_or_default(),
        Err(errors) => errors.0,
    };
    if arguments.json {
        let listed: Vec<_> = problems
            .iter()
            .map(|problem| {
                json!({
                    "path": problem.path,
                    "source": problem.source.as_ref().map(ToString::to_string),
                    "message": problem.message,
                    "hint": problem.hint,
                })
            })
            .collect();
        console::print_json(&json!({ "ok": problems.is_empty(), "problems": listed }));
    } else if problems.is_empty() {
        console::print("The configuration is well-formed.");
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::usage(weir_config::Errors(problems))) }
}
