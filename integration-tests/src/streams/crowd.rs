//! Streams that are open at once, each over a connection of its own and read as it comes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::client::Request;

/// Streams that are being opened at the same time.
const AT_ONCE: usize = 32;
/// Until the first event of one.
const OPENS_WITHIN: Duration = Duration::from_secs(120);

/// Open streams. Dropped, their connections are closed.
pub struct Crowd {
    streams: JoinSet<String>,
    heard: Arc<AtomicU64>,
}

impl Crowd {
    /// Sends a request so many times, and waits until every answer has begun.
    ///
    /// # Errors
    /// One is refused, or does not begin.
    pub async fn open(address: SocketAddr, request: &Request, count: usize) -> anyhow::Result<Self> {
        let opening = (0..count).map(|_| open(address, request));
        let bodies: Vec<_> = futures::stream::iter(opening).buffer_unordered(AT_ONCE).try_collect().await?;
        let heard = Arc::new(AtomicU64::new(0));
        let mut streams = JoinSet::new();
        for (body, connection) in bodies {
            streams.spawn(read(body, connection, Arc::clone(&heard)));
        }
        Ok(Self { streams, heard })
    }

    /// Bytes that all of them together have brought since they were open.
    #[must_use]
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Looks whether all are open still.
    ///
    /// # Errors
    /// One has ended.
    pub fn are_open(&mut self) -> anyhow::Result<()> {
        match self.streams.try_join_next() {
            None => Ok(()),
            Some(ended) => bail!("a stream has ended: {}", ended.unwrap_or_else(|error| error.to_string())),
        }
    }

    /// Waits until they have brought so many bytes together.
    ///
    /// # Errors
    /// One ends before.
    pub async fn hear(&mut self, bytes: u64) -> anyhow::Result<()> {
        while self.heard() < bytes {
            self.are_open()?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

type Connection = JoinSet<Result<(), hyper::Error>>;

/// An answer that has begun, and the connection that it comes by.
async fn open(address: SocketAddr, request: &Request) -> anyhow::Result<(Incoming, Connection)> {
    let mut outgoing = http::Request::post(request.path).body(Full::new(request.body.clone()))?;
    let headers = outgoing.headers_mut();
    headers.insert(HOST, address.to_string().parse()?);
    headers.insert(AUTHORIZATION, request.authorization.clone());
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    let opened = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut connections = JoinSet::new();
        connections.spawn(connection);
        let answer = sender.send_request(outgoing).await?;
        let status = answer.status();
        let mut body = answer.into_body();
        if !status.is_success() {
            let said = body.collect().await?.to_bytes();
            bail!("a stream is answered with {status}: {}", String::from_utf8_lossy(&said));
        }
        body.frame().await.context("a stream without an event")??;
        Ok((body, connections))
    };
    tokio::time::timeout(OPENS_WITHIN, opened).await.context("a stream does not begin")?
}

/// Reads to the end; answers how it ended.
async fn read(mut body: Incoming, connection: Connection, heard: Arc<AtomicU64>) -> String {
    let end = loop {
        match body.frame().await {
            None => break "its answer is complete".to_owned(),
            Some(Err(error)) => break error.to_string(),
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, bytes::Bytes::len);
                heard.fetch_add(bytes as u64, Ordering::Relaxed);
            }
        }
    };
    drop(connection);
    end
}
