//! The real agent, where there is one.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(crate) struct RealAgent {
    pub(crate) address: String,
    process: Child,
    _data: tempfile::TempDir,
}

impl Drop for RealAgent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// `consul agent -dev` on ports of its own; none when there is no `consul` on the PATH.
pub(crate) async fn start() -> Option<RealAgent> {
    let data = tempfile::tempdir().unwrap();
    let http = free_port();
    let process = Command::new("consul")
        .args(["agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1", "-dns-port=-1", "-grpc-port=-1"])
        .arg(format!("-http-port={http}"))
        .arg(format!("-server-port={}", free_port()))
        .arg(format!("-serf-lan-port={}", free_port()))
        .arg(format!("-serf-wan-port={}", free_port()))
        .current_dir(data.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let agent = RealAgent { address: format!("http://127.0.0.1:{http}"), process, _data: data };
    let leader = format!("{}/v1/status/leader", agent.address);
    let client = reqwest::Client::builder().timeout(Duration::from_secs(1)).build().unwrap();
    for _ in 0..1_200 {
        if let Ok(answer) = client.get(&leader).send().await
            && answer.text().await.is_ok_and(|text| text.len() > 4)
        {
            return Some(agent);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("consul is on the PATH and does not come up");
}
