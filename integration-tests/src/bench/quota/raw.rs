//! Redis alone: commands as they are, in groups, over a few connections.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Where a Redis listens, from its URL.
///
/// # Errors
/// The URL has a password, or no address.
pub(super) fn address(url: &str) -> anyhow::Result<SocketAddr> {
    url.trim_start_matches("redis://").trim_end_matches('/').parse().with_context(|| url.to_owned())
}

/// `SET`s of sixteen bytes under sixteen bytes.
pub(super) fn sets(count: usize) -> Vec<Vec<u8>> {
    let set = |number: usize| {
        let mut command = b"*3\r\n$3\r\nSET\r\n$16\r\n".to_vec();
        command.extend_from_slice(&(number as u128).to_le_bytes());
        command.extend_from_slice(b"\r\n$16\r\n0123456789abcdef\r\n");
        command
    };
    (0..count).map(set).collect()
}

/// Sends commands in groups of `depth` over so many connections, each group when the one before is answered; how long it took in
/// all, and each group.
///
/// # Errors
/// A command fails, or is answered by anything but a simple string.
pub(super) async fn send(
    redis: SocketAddr,
    commands: &[Vec<u8>],
    connections: usize,
    depth: usize,
) -> anyhow::Result<(Duration, Vec<Duration>)> {
    let start = Instant::now();
    let runs = commands.chunks(commands.len().div_ceil(connections)).map(|commands| async move {
        let mut stream = TcpStream::connect(redis).await?;
        stream.set_nodelay(true)?;
        let (mut buffer, mut times) = (vec![0; 1 << 16], Vec::with_capacity(commands.len() / depth + 1));
        for group in commands.chunks(depth) {
            let sent = Instant::now();
            stream.write_all(&group.concat()).await?;
            let mut missing = group.len();
            while missing > 0 {
                let read = stream.read(&mut buffer).await?;
                if read == 0 || buffer[..read].contains(&b'-') {
                    bail!("Redis answers {}", String::from_utf8_lossy(&buffer[..read]));
                }
                missing = missing.saturating_sub(memchr::memchr_iter(b'\n', &buffer[..read]).count());
            }
            times.push(sent.elapsed());
        }
        anyhow::Ok(times)
    });
    let times = try_join_all(runs).await?;
    Ok((start.elapsed(), times.concat()))
}
