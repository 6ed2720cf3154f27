//! The simulated provider as a process of its own, and what it says it served.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use weir_simulator::{Fault, Served, Stats};

use crate::process::{Process, Program, line_after};

const ANNOUNCEMENT: &str = "simulated provider: http://";
const READY_WITHIN: Duration = Duration::from_secs(10);
/// Records of one page of the log.
const PAGE: usize = 20_000;

/// A running `weir simulate`.
#[derive(Debug)]
pub struct Provider {
    process: Process,
    address: SocketAddr,
}

impl Provider {
    /// Starts it with these arguments and waits until it listens.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start(weir: &Path, dir: &Path, args: &[&str]) -> anyhow::Result<Self> {
        let program = Program {
            name: "provider".to_owned(),
            path: weir.to_owned(),
            args: ["simulate"].iter().chain(args).map(|&arg| arg.to_owned()).collect(),
            env: Vec::new(),
            log: dir.join("provider.log"),
        };
        let mut process = program.start()?;
        let announced = async {
            loop {
                if let Some(rest) = line_after(&program.log, ANNOUNCEMENT) {
                    return rest.trim_end_matches("/v1").parse().context("the provider's address");
                }
                process.check()?;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let address: SocketAddr =
            tokio::time::timeout(READY_WITHIN, announced).await.context("the provider does not come up")??;
        Ok(Self { process, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// What it served so far.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn stats(&self) -> anyhow::Result<Stats> {
        Ok(serde_json::from_slice(&self.ask("GET", "/simulator/stats", Vec::new()).await?)?)
    }

    /// Its whole log, oldest first.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn served(&self) -> anyhow::Result<Vec<Served>> {
        let mut all: Vec<Served> = Vec::new();
        loop {
            let after = all.last().map_or(0, |served| served.sequence);
            let page = self.ask("GET", &format!("/simulator/served?after={after}&limit={PAGE}"), Vec::new()).await?;
            let before = all.len();
            for line in page.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                all.push(serde_json::from_slice(line)?);
            }
            if all.len() == before {
                return Ok(all);
            }
        }
    }

    /// Puts a fault in force.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn add_fault(&self, fault: &Fault) -> anyhow::Result<()> {
        self.ask("POST", "/simulator/faults", serde_json::to_vec(fault)?).await.map(drop)
    }

    /// Ends all faults.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn clear_faults(&self) -> anyhow::Result<()> {
        self.ask("DELETE", "/simulator/faults", Vec::new()).await.map(drop)
    }

    /// Forgets what it served.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn reset(&self) -> anyhow::Result<()> {
        self.ask("POST", "/simulator/reset", Vec::new()).await.map(drop)
    }

    async fn ask(&self, method: &str, path: &str, body: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = http::Request::builder().method(method).uri(path).header("host", "provider");
        let request = request.body(Full::new(bytes::Bytes::from(body)))?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            if !status.is_success() {
                bail!("the provider answers {method} {path} with {status}: {}", String::from_utf8_lossy(&body));
            }
            Ok(body.to_vec())
        };
        tokio::select! {
            answer = exchange => answer,
            ended = connection => bail!("the provider closed the connection: {ended:?}"),
        }
    }
}
