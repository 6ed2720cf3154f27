//! Waits until what has started can also answer.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(20);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Returns when every service is ready; what is missing, when it takes too long.
pub(crate) async fn wait(admin: Option<SocketAddr>) -> Option<String> {
    let admin = admin?;
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = tokio::time::timeout(ANSWER_WITHIN, ask(admin)).await;
        let text = match answer {
            Ok(Ok(text)) if text.starts_with("HTTP/1.1 200") => return None,
            Ok(Ok(text)) => text,
            Ok(Err(error)) => error.to_string(),
            Err(late) => late.to_string(),
        };
        if Instant::now() >= until {
            let body = text.split_once("\r\n\r\n").map_or(text.as_str(), |(_, body)| body);
            return Some(format!("Not everything is ready yet (http://{admin}/readyz): {body}"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn ask(admin: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(admin).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}
