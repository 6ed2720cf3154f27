//! Sockets: bound before anything starts, served until they are told to stop.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::ConnectInfo;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::Service as _;
use weir_rpc::{ServerConfig, Stacked};

use crate::{HttpConfig, StartError};

/// When the system has no file descriptors left, waiting is all that helps.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of one answer that wait for its reader.
const SEND_BUFFER: usize = 64 << 10;

/// A bound socket.
pub(crate) struct Listener {
    inner: TcpListener,
    pub(crate) address: SocketAddr,
}

/// How connections end.
#[derive(Clone)]
pub(crate) struct Stop {
    /// Take no more requests; finish those that are there.
    pub(crate) gently: CancellationToken,
    /// Close, whatever is open.
    pub(crate) now: CancellationToken,
    /// The open connections.
    pub(crate) connections: TaskTracker,
}

impl Listener {
    pub(crate) async fn bind(service: &str, address: SocketAddr) -> Result<Self, StartError> {
        let failed = |source| StartError::Listen { service: service.to_owned(), address, source };
        let inner = TcpListener::bind(address).await.map_err(failed)?;
        let address = inner.local_addr().map_err(failed)?;
        Ok(Self { inner, address })
    }

    /// Accepts until told to stop.
    async fn accept(self, stop: &Stop, serve: impl Fn(TcpStream, SocketAddr)) {
        loop {
            let accepted = tokio::select! {
                () = stop.gently.cancelled() => return,
                accepted = self.inner.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    // Answers are small: they must not wait for an acknowledgement.
                    if stream.set_nodelay(true).is_ok() {
                        serve(stream, peer);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, address = %self.address, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves gRPC.
    pub(crate) async fn serve_grpc(self, service: Stacked, config: ServerConfig, stop: Stop) {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(config.max_concurrent_streams)
            // Large enough that no request of ours waits for a window.
            .initial_stream_window_size(2 << 20)
            .initial_connection_window_size(16 << 20)
            .max_frame_size(64 << 10)
            // Of an answer whose reader is slow, no more is taken from where it comes from.
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(64 << 10)
            .keep_alive_interval(config.keep_alive_interval)
            .keep_alive_timeout(config.keep_alive_timeout);
        self.accept(&stop, |stream, _| {
            let service = service.clone();
            let handler = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let answer = service.handle(request.map(Body::new));
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let connection = builder.serve_connection(TokioIo::new(stream), handler);
            let stop_here = stop.clone();
            stop.connections.spawn(async move {
                let mut connection = std::pin::pin!(connection);
                let outcome = tokio::select! {
                    outcome = connection.as_mut() => outcome,
                    () = stop_here.gently.cancelled() => {
                        connection.as_mut().graceful_shutdown();
                        tokio::select! {
                            outcome = connection.as_mut() => outcome,
                            () = stop_here.now.cancelled() => return,
                        }
                    }
                };
                if let Err(error) = outcome {
                    tracing::debug!(%error, "a connection ended");
                }
            });
        })
        .await;
    }

    /// Serves HTTP/1.1, and HTTP/2 to those who begin with it. Requests carry their peer's address (`ConnectInfo`).
    pub(crate) async fn serve_http(self, router: axum::Router, config: HttpConfig, stop: Stop) {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(config.header_timeout)
            .max_buf_size(config.max_header_bytes)
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(config.max_header_bytes).unwrap_or(u32::MAX))
            .keep_alive_interval(Duration::from_secs(30));
        self.accept(&stop, |stream, peer| {
            let builder = builder.clone();
            let router = router.clone();
            let handler = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
                request.extensions_mut().insert(ConnectInfo(peer));
                // A router is always ready.
                router.clone().call(request)
            });
            let stop_here = stop.clone();
            stop.connections.spawn(async move {
                let connection = builder.serve_connection(TokioIo::new(stream), handler);
                let mut connection = std::pin::pin!(connection);
                let outcome = tokio::select! {
                    outcome = connection.as_mut() => outcome,
                    () = stop_here.gently.cancelled() => {
                        connection.as_mut().graceful_shutdown();
                        tokio::select! {
                            outcome = connection.as_mut() => outcome,
                            () = stop_here.now.cancelled() => return,
                        }
                    }
                };
                if let Err(error) = outcome {
                    tracing::debug!(error, "a connection ended");
                }
            });
        })
        .await;
    }
}
