//! One instance of a sibling, and the connection to it.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use http::uri::Authority;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tonic::body::Body;
use weir_discovery::Endpoint;

use crate::config::Config;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Bytes of one answer that may lie unread.
const STREAM_WINDOW: u32 = 128 << 10;
/// The protocol's own limit (RFC 9113, section 6.9.1).
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

/// An instance: its address, its one HTTP/2 connection, and how it has been doing.
pub(super) struct Peer {
    pub(super) endpoint: Endpoint,
    pub(super) authority: Authority,
    pub(super) in_flight: Arc<AtomicUsize>,
    state: Mutex<State>,
    /// Held while connecting: one attempt serves all who wait.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    failure: Option<Failed>,
}

/// A connection, and the task that drives it, which ends with it.
struct Connection {
    sender: SendRequest<Body>,
    driver: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

struct Failed {
    /// Not tried again before.
    until: Instant,
    pause: Duration,
    why: Arc<str>,
}

impl Peer {
    pub(super) fn new(endpoint: Endpoint) -> Option<Self> {
        Some(Self {
            authority: endpoint.as_str().parse().ok()?,
            endpoint,
            in_flight: Arc::default(),
            state: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        })
    }

    /// Whether it failed a moment ago, and should be passed over while there are others.
    pub(super) fn is_resting(&self, now: Instant) -> bool {
        self.state.lock().failure.as_ref().is_some_and(|failed| failed.until > now)
    }

    /// The connection; made if there is none. A failed attempt is remembered for a moment, so that a peer that is down
    /// costs one attempt per pause and not one per call.
    pub(super) async fn connection(&self, service: &str, config: &Config) -> Result<SendRequest<Body>, Arc<str>> {
        if let Some(outcome) = self.ready() {
            return outcome;
        }
        let _one = self.connecting.lock().await;
        if let Some(outcome) = self.ready() {
            return outcome;
        }
        match self.connect(config).await {
            Ok(connection) => {
                let sender = connection.sender.clone();
                let before =
                    std::mem::replace(&mut *self.state.lock(), State { connection: Some(connection), failure: None });
                if before.failure.is_some() {
                    tracing::info!(peer = service, endpoint = %self.endpoint, "reachable again");
                }
                Ok(sender)
            }
            Err(why) => {
                let why: Arc<str> = why.into();
                let mut state = self.state.lock();
                if state.failure.is_none() {
                    tracing::warn!(peer = service, endpoint = %self.endpoint, error = %why, "not reachable");
                }
                let pause = state.failure.as_ref().map_or(FIRST_PAUSE, |failed| (failed.pause * 2).min(LONGEST_PAUSE));
                let failed = Failed { until: Instant::now() + pause, pause, why: Arc::clone(&why) };
                *state = State { connection: None, failure: Some(failed) };
                Err(why)
            }
        }
    }

    fn ready(&self) -> Option<Result<SendRequest<Body>, Arc<str>>> {
        let state = self.state.lock();
        if let Some(connection) = &state.connection
            && !connection.sender.is_closed()
        {
            return Some(Ok(connection.sender.clone()));
        }
        let failed = state.failure.as_ref()?;
        (failed.until > Instant::now()).then(|| Err(Arc::clone(&failed.why)))
    }

    async fn connect(&self, config: &Config) -> Result<Connection, String> {
        let connect = TcpStream::connect(self.endpoint.as_str());
        let stream = match tokio::time::timeout(config.client.connect_timeout, connect).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(format!("{}: {error}", self.endpoint)),
            Err(_) => {
                return Err(format!("{}: no connection within {:?}", self.endpoint, config.client.connect_timeout));
            }
        };
        // Small frames must not wait for acknowledgements.
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            // What a reader leaves lying is bounded by his stream's window. That of the connection, which all share, never runs out
            // before those of its streams: who does not read holds up nobody else.
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(LARGEST_WINDOW)
            .max_frame_size(64 << 10)
            .keep_alive_interval(config.client.keep_alive_interval)
            .keep_alive_timeout(config.client.keep_alive_timeout)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| format!("{}: {error}", self.endpoint))?;
        let endpoint = self.endpoint.clone();
        // Owned by the connection, which aborts it when it goes.
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%endpoint, %error, "a connection ended");
            }
        });
        Ok(Connection { sender, driver: driver.abort_handle() })
    }
}
