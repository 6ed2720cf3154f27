use std::path::PathBuf;

use tokio::runtime::{Builder, Runtime};
use weir_host::{Host, Setup};
use weir_telemetry::Telemetry;

use crate::cli::ServeArguments;
use crate::config::WeirConfig;
use crate::failure::Failure;
use crate::reload::Source;
use crate::services::Name;

/// `weir serve`: binds every socket, starts every service, and serves until a signal.
pub(crate) fn run(file: Option<PathBuf>, arguments: &ServeArguments) -> Result<(), Failure> {
    let config = WeirConfig::load(file.clone())?;
    let master = config.master_key().map_err(Failure::usage)?;
    let chosen = Name::chosen(&arguments.services);
    let process = if let [only] = chosen.as_slice() { only.service() } else { "weir" };
    runtime(config.runtime.worker_threads)?.block_on(async {
        let instance = config.host.instance();
        let telemetry = telemetry(&config, process, &instance)?;
        let names: Vec<_> = chosen.iter().map(|name| name.service()).collect();
        let setup = Setup {
            host: &config.host,
            rpc: &config.rpc,
            discovery: &config.discovery,
            master,
            instance,
            services: &names,
            telemetry,
        };
        let mut host = Host::bind(setup).await.map_err(|error| not_started(&error))?;
        start(&mut host, &chosen, &config, &Source::file(file)).await?;
        host.run(weir_host::signal()).await;
        Ok(())
    })
}

/// Starts the chosen services in order.
pub(crate) async fn start(
    host: &mut Host,
    chosen: &[Name],
    config: &WeirConfig,
    source: &Source,
) -> Result<(), Failure> {
    for name in chosen {
        let context = host.context(name.service());
        let service = name
            .start(config, source, &context)
            .await
            .map_err(|error| Failure::unavailable(&format!("{} did not start", name.service()), &error))?;
        host.add(service).await.map_err(|error| not_started(&error))?;
    }
    Ok(())
}

pub(crate) fn not_started(error: &weir_host::StartError) -> Failure {
    Failure::unavailable("Weir did not start", error)
}

/// Logs, metrics and traces of this process.
pub(crate) fn telemetry(config: &WeirConfig, process: &str, instance: &str) -> Result<Telemetry, Failure> {
    Telemetry::start(&config.telemetry, process, instance).map_err(|error| Failure::unavailable("telemetry", &error))
}

/// One worker is the thread that calls: no handing over between threads, and on small machines the fastest.
pub(crate) fn runtime(worker_threads: usize) -> Result<Runtime, Failure> {
    let mut builder = if worker_threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    if worker_threads > 1 {
        builder.worker_threads(worker_threads);
    }
    builder.enable_all().thread_name("weir").build().map_err(|error| Failure::unavailable("the runtime", &error))
}
