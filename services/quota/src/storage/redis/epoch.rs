//! The generation of the store's data.

use weir_redis::redis::{Value as Reply, cmd, from_redis_value, pipe};

use super::{Scripts, Store, cluster};
use crate::domain::Millis;
use crate::storage::store::{Failure, Generation, Result};

const KEY: &str = "wq3:epoch";

impl Store {
    /// The server's identity, and the generation that is in force on it, if there is one.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn generation(&self) -> Result<(String, Option<Generation>)> {
        if self.redis.is_cluster() {
            let server = cluster::identity(&self.redis).await?;
            let mut command = cmd("EVAL");
            command.arg(include_str!("lua/epoch_read.lua")).arg(1).arg(KEY);
            let (epoch, now): (Vec<Option<String>>, Millis) = self.redis.command(&command).await?;
            let current = parse(&epoch, now).filter(|generation| generation.server == server);
            return Ok((server, current));
        }
        let mut pipeline = pipe();
        pipeline.cmd("INFO").arg("server");
        pipeline.cmd("EVAL").arg(include_str!("lua/epoch_read.lua")).arg(1).arg(KEY);
        let values = self.redis.pipeline(&pipeline).await?;
        let [info, epoch]: [Reply; 2] = values.try_into().map_err(|_| Failure::answer("epoch"))?;
        let info: String = read(info)?;
        // A Redis before 2.8 has none.
        let server = info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or("unknown").trim().to_owned();
        let (epoch, now): (Vec<Option<String>>, Millis) = read(epoch)?;
        let current = parse(&epoch, now).filter(|generation| generation.server == server);
        Ok((server, current))
    }

    /// What is wrong with the server's configuration or version, in words.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn complaints(&self) -> Result<Vec<String>> {
        let infos: Vec<String> = self.redis.on_every_master(cmd("INFO").arg("everything")).await?;
        let mut complaints: Vec<String> = infos.iter().flat_map(|info| complaints_about(info)).collect();
        complaints.sort_unstable();
        complaints.dedup();
        Ok(complaints)
    }

    /// Begins a generation on this server, unless another process has; answers the one in force.
    ///
    /// # Errors
    /// When the store did not answer. Doing it again is safe.
    pub async fn begin_generation(&self, server: &str, number: u64, rebuilds: bool) -> Result<Generation> {
        let mut command = cmd("EVAL");
        command.arg(include_str!("lua/epoch.lua")).arg(1).arg(KEY);
        command.arg(server).arg(number).arg(i32::from(rebuilds));
        let answer: Vec<Option<String>> = self.redis.command(&command).await?;
        let now = answer.get(4).cloned().flatten().and_then(|now| now.parse().ok());
        now.and_then(|now| parse(&answer, now)).ok_or_else(|| Failure::answer("epoch"))
    }

    /// Loads a generation's scripts.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn load(&self, scripts: &Scripts) -> Result<()> {
        for script in scripts.all() {
            self.redis.load(script.inner()).await?;
        }
        Ok(())
    }
}

/// Of one server.
fn complaints_about(info: &str) -> Vec<String> {
    let value = |key: &str| info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim);
    let mut complaints = Vec::new();
    let major = value("redis_version").and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    if major.is_some_and(|major| major < 7) {
        // Up to 6 they hand scripts on to their replicas, and a generation would outlive a failover.
        complaints.push("Redis 7 or newer is needed to notice every failover".to_owned());
    }
    if value("maxmemory") != Some("0") && value("maxmemory_policy") != Some("noeviction") {
        complaints.push("maxmemory-policy must be noeviction: a counter that is evicted limits nothing".to_owned());
    }
    complaints
}

fn read<T: weir_redis::FromRedisValue>(value: Reply) -> Result<T> {
    from_redis_value(value).map_err(|error| Failure::Redis(error.into()))
}

fn parse(values: &[Option<String>], now: Millis) -> Option<Generation> {
    let text = |place: usize| values.get(place).cloned().flatten();
    Some(Generation {
        number: text(0)?.parse().ok()?,
        server: text(1)?,
        age: now.saturating_sub(text(2)?.parse().ok()?).max(0),
        rebuilds: text(3)? == "1",
    })
}
