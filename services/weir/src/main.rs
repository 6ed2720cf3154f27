//! The one executable: `weir dev` for a first look, `weir serve …` in production, and what an operator needs beside them.

mod audit;
mod check_config;
mod cli;
mod config;
mod console;
mod create_tenant;
mod dev;
mod failure;
mod migrate;
mod openapi;
mod operate;
mod operator;
mod quota;
mod reload;
mod serve;
mod services;
mod simulate;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command, QuotaCommand};
use config::WeirConfig;
use failure::Failure;

// A service's memory is many small, short-lived allocations on few threads; mimalloc gives back what it does not need.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let outcome = match Cli::try_parse() {
        Ok(cli) => run(cli),
        Err(asked) if !asked.use_stderr() => {
            // `--help` and `--version`. Nobody can be told that their output cannot be written.
            let _ = asked.print();
            Ok(())
        }
        Err(error) => Err(Failure::usage(error.render())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    // Once per process, before anything opens a connection; it fails only when it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let file = cli.config;
    match cli.command {
        Command::Dev(arguments) => dev::run(file, &arguments),
        Command::Serve(arguments) => serve::run(file, &arguments),
        Command::Migrate => migrate::run(WeirConfig::load(file)?),
        Command::CheckConfig(arguments) => check_config::run(file, &arguments),
        Command::Simulate(arguments) => simulate::run(arguments),
        Command::Audit(arguments) => audit::run(operator::config(file)?, arguments),
        Command::Openapi => openapi::run(),
        Command::CreateTenant(arguments) => create_tenant::run(operator::config(file)?, arguments),
        Command::SetPlan(arguments) => operate::set_plan(operator::config(file)?, arguments),
        Command::Quota(QuotaCommand::Explain(arguments)) => quota::explain(operator::config(file)?, arguments),
        Command::Quota(QuotaCommand::Alerts(arguments)) => quota::alerts(operator::config(file)?, arguments),
        Command::RevokeKey(arguments) => operate::revoke_key(operator::config(file)?, arguments),
        Command::RotateSigningKey(arguments) => operate::rotate_signing_key(operator::config(file)?, &arguments),
    }
}
