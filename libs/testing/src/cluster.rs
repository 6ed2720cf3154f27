use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use redis::FromRedisValue;
use redis::aio::MultiplexedConnection;
use tokio::time::{sleep, timeout};
use weir_launcher::free_port;

const SLOTS: usize = 16_384;
const READY_WITHIN: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(5);

/// A Redis Cluster of masters without replicas, each with an equal part of the slots; its data is in memory only.
///
/// A master that is gone takes its slots with it; the others go on.
pub struct RedisCluster {
    // Before the directory: the servers have ended when it is removed.
    nodes: Vec<Node>,
    dir: tempfile::TempDir,
}

struct Node {
    process: Mutex<Option<Child>>,
    port: u16,
    bus: u16,
}

impl RedisCluster {
    /// Starts so many masters and joins them. Needs an installed `redis-server` of version 7 or newer.
    ///
    /// # Errors
    /// When one does not start, or they don't find each other.
    pub async fn start(masters: usize) -> anyhow::Result<Self> {
        let mut cluster = Self { nodes: Vec::new(), dir: tempfile::tempdir()? };
        for place in 0..masters {
            cluster.nodes.push(Node { process: Mutex::default(), port: free_port()?, bus: free_port()? });
            cluster.launch(place).await?;
            let (from, to) = (SLOTS * place / masters, SLOTS * (place + 1) / masters - 1);
            let (from, to) = (from.to_string(), to.to_string());
            cluster.send::<()>(place, &["CLUSTER", "ADDSLOTSRANGE", &from, &to]).await?;
            cluster.send::<()>(place, &["CLUSTER", "SET-CONFIG-EPOCH", &(place + 1).to_string()]).await?;
        }
        for node in &cluster.nodes[1..] {
            let (port, bus) = (node.port.to_string(), node.bus.to_string());
            cluster.send::<()>(0, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await?;
        }
        cluster.wait(masters).await?;
        Ok(cluster)
    }

    /// The nodes' URLs, separated by commas.
    pub fn url(&self) -> String {
        let urls = self.nodes.iter().map(|node| format!("redis://127.0.0.1:{}/", node.port));
        urls.collect::<Vec<_>>().join(",")
    }

    /// `kill -9` of one master. Its data is lost.
    pub fn kill(&self, place: usize) {
        self.nodes[place].kill();
    }

    /// Starts a master again, empty, with the slots that it had; returns when all know.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&self, place: usize) -> anyhow::Result<()> {
        self.kill(place);
        self.launch(place).await?;
        self.wait(self.nodes.len()).await
    }

    /// Which master has a key's slot.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn owner(&self, key: &[u8]) -> anyhow::Result<usize> {
        let slot: usize = self.slot(key).await?;
        for place in 0..self.nodes.len() {
            let text: String = self.send(place, &["CLUSTER", "NODES"]).await?;
            let own = text.lines().find(|line| line.contains("myself")).context("a node that does not know itself")?;
            let has = own.split(' ').skip(8).any(|range| {
                let (from, to) = range.split_once('-').unwrap_or((range, range));
                from.parse().is_ok_and(|from: usize| from <= slot) && to.parse().is_ok_and(|to: usize| slot <= to)
            });
            if has {
                return Ok(place);
            }
        }
        anyhow::bail!("nobody has slot {slot}")
    }

    /// The slot of a key.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn slot(&self, key: &[u8]) -> anyhow::Result<usize> {
        let mut command = redis::cmd("CLUSTER");
        command.arg("KEYSLOT").arg(key);
        let mut connection = self.connect(0).await?;
        Ok(timeout(PATIENCE, command.query_async(&mut connection)).await??)
    }

    /// Sends one command to one master.
    ///
    /// # Errors
    /// When it does not answer, or refuses.
    pub async fn send<T: FromRedisValue>(&self, place: usize, words: &[&str]) -> anyhow::Result<T> {
        let mut command = redis::Cmd::new();
        command.arg(words);
        let mut connection = self.connect(place).await?;
        timeout(PATIENCE, command.query_async(&mut connection)).await?.with_context(|| words.join(" "))
    }

    /// Moves a slot with its keys to another master, key by key and with a pause after each, as tools for resharding do.
    ///
    /// # Errors
    /// When a master refuses.
    pub async fn migrate(&self, slot: usize, from: usize, to: usize, pause: Duration) -> anyhow::Result<()> {
        let slot = slot.to_string();
        let source: String = self.send(from, &["CLUSTER", "MYID"]).await?;
        let target: String = self.send(to, &["CLUSTER", "MYID"]).await?;
        self.send::<()>(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]).await?;
        self.send::<()>(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]).await?;
        sleep(pause).await;
        loop {
            let keys: Vec<Vec<u8>> = self.send(from, &["CLUSTER", "GETKEYSINSLOT", &slot, "1"]).await?;
            let Some(key) = keys.first() else { break };
            let mut command = redis::cmd("MIGRATE");
            command.arg("127.0.0.1").arg(self.nodes[to].port).arg(key).arg(0).arg(5_000);
            let mut connection = self.connect(from).await?;
            timeout(PATIENCE, command.query_async::<()>(&mut connection)).await??;
            sleep(pause).await;
        }
        for place in [to, from].into_iter().chain(0..self.nodes.len()) {
            self.send::<()>(place, &["CLUSTER", "SETSLOT", &slot, "NODE", &target]).await?;
        }
        Ok(())
    }

    async fn connect(&self, place: usize) -> anyhow::Result<MultiplexedConnection> {
        crate::redis::connect(&format!("redis://127.0.0.1:{}/", self.nodes[place].port)).await
    }

    async fn launch(&self, place: usize) -> anyhow::Result<()> {
        self.nodes[place].run(spawn(self.dir.path(), &self.nodes[place])?);
        let until = Instant::now() + READY_WITHIN;
        while self.connect(place).await.is_err() {
            ensure!(Instant::now() < until, "a node of the cluster does not start");
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Until every master sees all of them and every slot.
    async fn wait(&self, masters: usize) -> anyhow::Result<()> {
        let until = Instant::now() + READY_WITHIN;
        for place in 0..masters {
            loop {
                let info: String = self.send(place, &["CLUSTER", "INFO"]).await?;
                let nodes: String = self.send(place, &["CLUSTER", "NODES"]).await?;
                let up = nodes.lines().filter(|line| line.contains(" connected") && !line.contains("fail")).count();
                if info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384") && up == masters {
                    break;
                }
                ensure!(Instant::now() < until, "the cluster does not form: {info}{nodes}");
                sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }
}

fn spawn(dir: &Path, node: &Node) -> anyhow::Result<Child> {
    let mut command = Command::new("redis-server");
    command.args(["--port", &node.port.to_string(), "--cluster-port", &node.bus.to_string()]);
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--cluster-enabled", "yes"]);
    command.args(["--cluster-config-file", &format!("nodes-{}.conf", node.port), "--cluster-node-timeout", "5000"]);
    command.args(["--cluster-require-full-coverage", "no"]);
    command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().context("a cluster for tests needs an installed redis-server: apt-get install redis-server")
}

impl Node {
    fn run(&self, process: Child) {
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
    }

    fn kill(&self) {
        if let Some(mut process) = self.process.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}
