//! `weir dev`: everything in one process, for a newcomer's first minutes and every day after.

mod addresses;
mod demo;
mod home;
mod provider;
mod readiness;
mod screen;
mod servers;

use std::path::PathBuf;

use weir_config::MasterKey;
use weir_host::{Host, Setup};

use crate::cli::DevArguments;
use crate::config::WeirConfig;
use crate::failure::Failure;
use crate::reload::Source;
use crate::services::Name;
use crate::{console, migrate, serve};

use home::Home;
use servers::Servers;

/// Where data and keys lie unless told otherwise.
pub(crate) const DEFAULT_DIR: &str = ".weir";
/// In it: how an operator's commands reach what runs here.
pub(crate) const CONFIG_FILE: &str = "weir.toml";

/// The screen is for people: only what needs attention is logged, unless the user asks for more. (What the drivers warn of is
/// logged by us where it matters; at the end they would mourn each connection.)
const DEFAULTS: &str =
    "[telemetry]\nlog_level = \"warn,sqlx=error,sqlx_core=error,deadpool=error\"\nlog_format = \"pretty\"\n";

/// Runs until Ctrl-C.
pub(crate) fn run(file: Option<PathBuf>, arguments: &DevArguments) -> Result<(), Failure> {
    let load = move |settings: &[String]| {
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
        let chosen = Name::chosen(&[Name::All]);
        let names: Vec<_> = chosen.iter().map(|name| name.service()).collect();
        // Bound first: what is taken by somebody else is said before anything has been started.
        let mut looks = 0;
        let mut host = loop {
            let host_config = load(&[addresses::free(&config.host)])?.host;
            let setup = Setup {
                host: &host_config,
                rpc: &config.rpc,
                discovery: &config.discovery,
                master: master.clone(),
                instance: instance.clone(),
                services: &names,
                telemetry: telemetry.clone(),
            };
            match Host::bind(setup).await {
                Ok(host) => break host,
                // Taken since it was looked at, by another one that starts just now: look again.
                Err(error) if addresses::is_taken(&error) && looks < 5 => looks += 1,
                Err(error) => return Err(serve::not_started(&error)),
            }
        };
        let servers = Servers::start(&config, &home, &master).await?;
        let provider = provider::choose(&config, &master).await?;
        let url = addresses::public(&host);
        let settings = [servers.settings(), provider.settings(), home.results(&config.broker, &url)];
        let config = load(&settings)?;

        migrate::everything(&config.database.url, &master).await?;
        serve::start(&mut host, &chosen, &config, &Source::new(move || load(&settings))).await?;
        home.write_config(&host)?;
        demo::ensure(&home, &url, &mut host).await?;
        let screen = screen::text(&screen::Facts {
            url: &url,
            metrics: host.admin_address(),
            provider: &provider,
            home: &home,
            servers: &servers,
        });
        let ready = readiness::wait(host.admin_address());
        let announced = async {
            let missing = ready.await.map(|missing| format!("{missing}\n")).unwrap_or_default();
            console::print(missing + &screen);
            std::future::pending().await
        };
        tokio::select! {
            () = host.run(weir_host::signal()) => {}
            () = announced => {}
        }
        provider.stop().await;
        servers.stop().await
    })
}
