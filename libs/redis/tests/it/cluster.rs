use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use weir_redis::{Redis, Script};

/// A cluster of one node, which owns all slots.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &Path) -> anyhow::Result<(Node, u16)> {
    // The bus port is 10000 above; the system hands out ports from 32768 on.
    let port = 20_000 + u16::try_from(std::process::id() % 2_700)?;
    let node = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--cluster-enabled", "yes"])
        .current_dir(dir)
        .stdout(Stdio::null())
        .spawn()?;
    Ok((Node(node), port))
}

#[tokio::test]
async fn scripts_and_pipelines_run_on_a_cluster() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (_node, port) = start(dir.path())?;
    let url = format!("redis://127.0.0.1:{port}/");
    let until = Instant::now() + Duration::from_secs(60);
    let mut direct = loop {
        match redis::Client::open(url.as_str())?.get_multiplexed_async_connection().await {
            Ok(direct) => break direct,
            Err(error) => anyhow::ensure!(Instant::now() < until, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let slots: Vec<u16> = (0..16384).collect();
    redis::cmd("CLUSTER").arg("ADDSLOTS").arg(slots).query_async::<()>(&mut direct).await?;
    // The node notices only after a moment that it has all slots.
    while !redis::cmd("CLUSTER").arg("INFO").query_async::<String>(&mut direct).await?.contains("cluster_state:ok") {
        anyhow::ensure!(Instant::now() < until, "the cluster does not form");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let mut config = crate::config(&url);
    config.cluster = true;
    let redis = Redis::connect(&config).await?;
    let script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1]) + redis.call('INCRBY', KEYS[2], ARGV[1])");
    let sum: i64 = redis.run(&script, &["{org}:a", "{org}:b"], &[2]).await?;
    assert_eq!(sum, 4);
    redis.ping().await?;
    let mut pipeline = redis::pipe();
    pipeline.get("{org}:a").get("{org}:b");
    let values: Vec<i64> =
        redis.pipeline(&pipeline).await?.into_iter().map(redis::from_redis_value).collect::<Result<_, _>>()?;
    assert_eq!(values, [2, 2]);
    Ok(())
}
