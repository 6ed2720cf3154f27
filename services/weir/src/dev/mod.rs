//! `weir dev`: everything in one process, for a newcomer's first minutes and every day after.

mod addresses;
mod demo;
mod home;
mod provider;
mod screen;
mod servers;

use std::path::PathBuf;

use weir_config::MasterKey;
use weir_host::{Host, Setup};

use crate::cli::DevArguments;
use crate::config::WeirConfig;
use crate::failure::Failure;
use crate::services::Name;
use crate::{console, migrate, serve};

use home::Home;
use servers::Servers;

/// Where data and keys lie unless told otherwise.
pub(crate) const DEFAULT_DIR: &str = ".weir";
/// In it: how an operator's commands reach what runs here.
pub(crate) const CONFIG_FILE: &str = "weir.toml";

/// The screen is for people: only what needs attention is logged, unless the user asks for more.
const DEFAULTS: &str = "[telemetry]\nlog_level = \"warn,sqlx::postgres::notice=error\"\nlog_format = \"pretty\"\n";

/// Runs until Ctrl-C.
pub(crate) fn run(file: Option<PathBuf>, arguments: &DevArguments) -> Result<(), Failure> {
    let load = |settings: &[String]| {
        let loader = WeirConfig::loader(file.clone()).section(DEFAULTS).section(servers::DEFAULTS);
        settings.iter().fold(loader, |loader, toml| loader.set("weir dev", toml.clone())).load::<WeirConfig>()
    };
    let config = load(&[])?;
    let home = Home::open(&arguments.dir)?;
    let master = MasterKey::load_or_create(&home.master_key())
        .map_err(|error| Failure::unavailable("the master key", &error))?;
    serve::runtime(config.runtime.worker_threads)?.block_on(async {
        let instance = config.host.instance();
        let telemetry = serve::telemetry(&config, "weir", &instance)?;
        let addresses = addresses::free(&config.host);
        let host_config = load(&[addresses])?.host;
        let chosen = Name::chosen(&[Name::All]);
        let names: Vec<_> = chosen.iter().map(|name| name.service()).collect();
        let setup = Setup {
            host: &host_config,
            rpc: &config.rpc,
            discovery: &config.discovery,
            master: master.clone(),
            instance,
            services: &names,
            telemetry,
        };
        // Bound first: what is taken by somebody else is said before anything has been started.
        let mut host = Host::bind(setup).await.map_err(|error| serve::not_started(&error))?;
        let servers = Servers::start(&config, &home).await?;
        let provider = provider::choose(&config, &master).await?;
        let config = load(&[servers.settings(), provider.settings()])?;

        migrate::everything(&config.database.url, &master).await?;
        serve::start(&mut host, &chosen, &config).await?;
        home.write_config(&host)?;
        let url = addresses::public(&host);
        demo::ensure(&home, &url, &mut host).await?;
        console::print(screen::text(&screen::Facts {
            url: &url,
            metrics: host.admin_address(),
            provider: &provider,
            home: &home,
            servers: &servers,
        }));
        host.run(weir_host::signal()).await;
        provider.stop().await;
        servers.stop().await
    })
}
