//! The same servers in containers, where the programs are not installed but a Docker engine answers.

use std::time::Duration;

use testcontainers::{
    ContainerAsync, GenericImage, ImageExt as _, ReuseDirective,
    core::{IntoContainerPort as _, WaitFor},
    runners::AsyncRunner as _,
};
use tokio::time::sleep;

const POSTGRES_PORT: u16 = 5432;
const REDIS_PORT: u16 = 6379;

/// One container for all test processes of this machine; it stays for the next run.
pub(crate) async fn shared_postgres() -> anyhow::Result<String> {
    let mut attempts = 0;
    let container = loop {
        let starting = GenericImage::new("postgres", "17-alpine")
            // The image starts the server twice; only the second one listens to the network.
            .with_wait_for(WaitFor::message_on_stdout("init process complete; ready for start up"))
            .with_wait_for(WaitFor::message_on_stderr("database system is ready to accept connections"))
            .with_exposed_port(POSTGRES_PORT.tcp())
            .with_env_var("POSTGRES_HOST_AUTH_METHOD", "trust")
            .with_cmd(["postgres", "-c", "fsync=off", "-c", "max_connections=200"])
            .with_container_name("weir-test-postgres")
            .with_reuse(ReuseDirective::Always)
            .start()
            .await;
        match starting {
            Ok(container) => break container,
            // Another process may be creating the container of this name.
            Err(error) if attempts < 5 && error.to_string().contains("onflict") => {
                attempts += 1;
                sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let (host, port) = (container.get_host().await?, container.get_host_port_ipv4(POSTGRES_PORT).await?);
    Ok(format!("postgres://postgres@{host}:{port}/postgres"))
}

/// A Redis in a container of the caller's own; removed with it.
pub(crate) struct RedisContainer {
    container: ContainerAsync<GenericImage>,
    url: String,
}

/// Starts a Redis.
pub(crate) async fn redis() -> anyhow::Result<RedisContainer> {
    // A port that Docker picks would change with a restart.
    let port = weir_launcher::free_port()?;
    let container = GenericImage::new("redis", "8-alpine")
        .with_wait_for(WaitFor::message_on_stdout("Ready to accept connections"))
        .with_mapped_port(port, REDIS_PORT.tcp())
        .with_cmd(["redis-server", "--save", "", "--appendonly", "no"])
        .start()
        .await?;
    let url = format!("redis://{}:{port}/", container.get_host().await?);
    Ok(RedisContainer { container, url })
}

impl RedisContainer {
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn kill(&self) -> anyhow::Result<()> {
        // No grace at all is a SIGKILL.
        Ok(self.container.stop_with_timeout(Some(0)).await?)
    }

    pub(crate) async fn restart(&self) -> anyhow::Result<()> {
        Ok(self.container.start().await?)
    }
}
