//! Against real servers: answers, outages and slowness.

mod answers;
mod cluster;
mod configuration;
mod outages;

use std::time::Duration;

use weir_redis::{Config, Redis};

fn config(url: &str) -> Config {
    Config { url: url.into(), cluster: false, deadline: Duration::from_millis(250), connections: 2 }
}

async fn connect(url: &str) -> anyhow::Result<Redis> {
    Ok(Redis::connect(&config(url)).await?)
}

fn get(key: &str) -> redis::Cmd {
    let mut get = redis::cmd("GET");
    get.arg(key);
    get
}
