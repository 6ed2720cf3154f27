//! HTTP/1.1 by hand, for clients that behave badly.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::scene::{KEY, Scene};

pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    /// Sends a request's head with these further lines.
    pub(crate) async fn open(scene: &Scene, method_and_path: &str, key: &str, lines: &str) -> Self {
        let mut stream = TcpStream::connect(scene.address).await.unwrap();
        let head = format!("{method_and_path} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {key}\r\n{lines}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        Self(stream)
    }

    pub(crate) async fn chat(scene: &Scene, lines: &str) -> Self {
        Self::open(scene, "POST /v1/chat/completions", KEY, lines).await
    }

    /// Sends, as far as the other side takes it.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// The status of the answer, and as much of the answer as comes with it.
    pub(crate) async fn answer(&mut self) -> (u16, String) {
        let mut answer = vec![0; 64 << 10];
        let read = tokio::time::timeout(Duration::from_secs(60), self.0.read(&mut answer)).await;
        let length = read.expect("an answer in time").unwrap();
        let text = String::from_utf8_lossy(&answer[..length]).into_owned();
        let status = text.split(' ').nth(1).unwrap_or_default().parse();
        (status.unwrap_or_else(|_| panic!("no answer: {text:?}")), text)
    }
}
