use weir_config::{MasterKey, Secret};

use crate::config::WeirConfig;
use crate::failure::Failure;
use crate::{console, serve, services};

/// `weir migrate`
pub(crate) fn run(config: WeirConfig) -> Result<(), Failure> {
    let master = config.master_key().map_err(Failure::usage)?;
    serve::runtime(1)?.block_on(async {
        serve::telemetry(&config, "migrate", &config.host.instance())?;
        everything(&config.database.url, &master).await?;
        console::print("Every schema is up to date.");
        Ok(())
    })
}

/// Creates or updates what every service needs.
pub(crate) async fn everything(admin_url: &Secret, master: &MasterKey) -> Result<(), Failure> {
    weir_database::migrate(admin_url, master, &services::MIGRATIONS)
        .await
        .map_err(|error| Failure::unavailable("the database could not be migrated", &error))
}
