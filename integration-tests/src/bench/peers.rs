//! Others that do parts of the same work: LiteLLM from PyPI and Portkey from npm, in front of the same provider.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::bail;
use http::{HeaderName, HeaderValue};
use weir_launcher::free_port;

use uuid::Uuid;

use super::target::Target;
use crate::process::{Process, Program};
use crate::report::say;

const INSTALLED_WITHIN: Duration = Duration::from_secs(900);
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Where they are installed, once.
const FOLDER: &str = "target/peers";

/// A running peer.
pub(super) struct Peer {
    name: &'static str,
    process: Process,
    address: SocketAddr,
    authorization: HeaderValue,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Peer {
    pub(super) fn target(&self) -> Target {
        Target {
            name: self.name.to_owned(),
            address: self.address,
            authorization: self.authorization.clone(),
            headers: self.headers.clone(),
            own: self.process.pid().into_iter().collect(),
            stores: Vec::new(),
        }
    }
}

/// Installs and starts both.
pub(super) async fn start(provider: SocketAddr, dir: &Path) -> anyhow::Result<Vec<Peer>> {
    let folder = std::env::current_dir()?.join(FOLDER);
    std::fs::create_dir_all(&folder)?;
    let mut peers = vec![litellm(&folder, provider, dir).await?, portkey(&folder, provider, dir).await?];
    for peer in &mut peers {
        answers(peer).await?;
    }
    Ok(peers)
}

async fn litellm(folder: &Path, provider: SocketAddr, dir: &Path) -> anyhow::Result<Peer> {
    let venv = folder.join("litellm");
    let program = venv.join("bin/litellm");
    if !program.exists() {
        say("installing LiteLLM from PyPI")?;
        shell(dir, "python3 -m venv \"$0\" && \"$0/bin/pip\" install --quiet 'litellm[proxy]'", &[&venv]).await?;
    }
    let config = dir.join("litellm.yaml");
    let text = format!(
        "model_list:\n  - model_name: gpt-4o-mini\n    litellm_params:\n      model: openai/gpt-4o-mini\n      \
         api_base: http://{provider}/v1\n      api_key: sk-simulated\nlitellm_settings:\n  telemetry: false\n"
    );
    std::fs::write(&config, text)?;
    let key = format!("sk-{}", Uuid::new_v4().simple());
    let port = free_port()?;
    let args = ["--config", &config.display().to_string(), "--host", "127.0.0.1", "--port", &port.to_string()]
        .map(str::to_owned);
    let program = Program {
        name: "LiteLLM".into(),
        path: program,
        args: args.to_vec(),
        // It refuses to start without a key of its own, and checks it on each request.
        env: vec![("LITELLM_MASTER_KEY".to_owned(), key.clone())],
        log: dir.join("litellm.log"),
    };
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let authorization = HeaderValue::from_str(&format!("Bearer {key}"))?;
    Ok(Peer { name: "LiteLLM", process: program.start()?, address, authorization, headers: Vec::new() })
}

async fn portkey(folder: &Path, provider: SocketAddr, dir: &Path) -> anyhow::Result<Peer> {
    let root = folder.join("portkey");
    let script = root.join("node_modules/@portkey-ai/gateway/build/start-server.js");
    if !script.exists() {
        say("installing Portkey from npm")?;
        std::fs::create_dir_all(&root)?;
        // Newer versions of these two answer streams with 500 on Node 20.
        let package = r#"{"private":true,"dependencies":{"@portkey-ai/gateway":"*"},"overrides":{"hono":"4.9.7","@hono/node-server":"1.13.8"}}"#;
        std::fs::write(root.join("package.json"), package)?;
        shell(dir, "cd \"$0\" && npm install --silent --no-audit --no-fund --ignore-scripts", &[&root]).await?;
    }
    let port = free_port()?;
    let node = PathBuf::from("/usr/bin/env");
    let args = ["node", &script.display().to_string(), &format!("--port={port}"), "--headless"].map(str::to_owned);
    let program =
        Program { name: "Portkey".into(), path: node, args: args.to_vec(), env: vec![], log: dir.join("portkey.log") };
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let authorization = HeaderValue::from_static("Bearer sk-simulated");
    let headers = vec![
        (HeaderName::from_static("x-portkey-provider"), HeaderValue::from_static("openai")),
        (HeaderName::from_static("x-portkey-custom-host"), HeaderValue::from_str(&format!("http://{provider}/v1"))?),
    ];
    Ok(Peer { name: "Portkey", process: program.start()?, address, authorization, headers })
}

async fn shell(dir: &Path, script: &str, args: &[&Path]) -> anyhow::Result<()> {
    let args = ["-c", script].into_iter().map(str::to_owned).chain(args.iter().map(|arg| arg.display().to_string()));
    let (path, log) = (PathBuf::from("/bin/sh"), dir.join("install.log"));
    let program = Program { name: "the installation".into(), path, args: args.collect(), env: vec![], log };
    program.start()?.succeed(INSTALLED_WITHIN).await
}

async fn answers(peer: &mut Peer) -> anyhow::Result<()> {
    let until = Instant::now() + READY_WITHIN;
    while tokio::net::TcpStream::connect(peer.address).await.is_err() {
        peer.process.check()?;
        if Instant::now() > until {
            bail!("{} does not come up:\n{}", peer.name, peer.process.program().last_words());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
