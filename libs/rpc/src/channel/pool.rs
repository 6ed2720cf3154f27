//! The instances of a sibling, and which of them gets a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use futures::StreamExt as _;
use http::uri::Scheme;
use http::{Request, Response, Uri};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use weir_discovery::{Directory, Endpoint};

use super::body::{InFlight, RemoteBody, broken};
use super::peer::Peer;
use super::unavailable;
use crate::config::Config;

/// Connections to all instances of one sibling.
#[derive(Clone)]
pub(super) struct Pool(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    config: Config,
    peers: Arc<ArcSwap<Vec<Arc<Peer>>>>,
    /// True once the directory has answered.
    answered: watch::Receiver<bool>,
    turn: AtomicUsize,
    seconds: metrics::Histogram,
    unavailable: metrics::Counter,
    follower: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Pool {
    pub(super) fn new(directory: &Arc<dyn Directory>, name: &str, config: &Config) -> Self {
        let name: Arc<str> = name.into();
        let peers: Arc<ArcSwap<Vec<Arc<Peer>>>> = Arc::default();
        let (tell, answered) = watch::channel(false);
        let mut endpoints = directory.watch(&name);
        // Owned by the pool, which aborts it when it goes.
        let follower = tokio::spawn({
            let (peers, name) = (Arc::clone(&peers), Arc::clone(&name));
            async move {
                while let Some(endpoints) = endpoints.next().await {
                    let next = update(&peers.load(), endpoints);
                    tracing::debug!(peer = %name, instances = next.len(), "instances changed");
                    peers.store(Arc::new(next));
                    tell.send_replace(true);
                }
                // A fixed directory has said all it will ever say; who waits must still see it.
                tell.closed().await;
            }
        });
        Self(Arc::new(Inner {
            seconds: metrics::histogram!("weir_rpc_client_seconds", "peer" => name.to_string()),
            unavailable: metrics::counter!("weir_rpc_client_unavailable_total", "peer" => name.to_string()),
            name,
            config: config.clone(),
            peers,
            answered,
            turn: AtomicUsize::new(0),
            follower: follower.abort_handle(),
        }))
    }

    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    /// Sends to the instance with the fewest calls in flight. Instances that can't be connected to, and connections
    /// that close before they take the request, are passed over; a request that was taken is not sent again.
    pub(super) async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let started = Instant::now();
        let answer = self.try_send(request).await;
        match answer {
            Ok(_) => self.0.seconds.record(started.elapsed().as_secs_f64()),
            Err(_) => self.0.unavailable.increment(1),
        }
        answer
    }

    async fn try_send(&self, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        self.answered().await;
        let peers = self.0.peers.load_full();
        let mut tried = Vec::new();
        let mut why: Arc<str> = "no instance is known".into();
        // Twice per instance: a connection that was just closed by its peer deserves a new one.
        for _ in 0..peers.len() * 2 {
            let Some(peer) = self.pick(&peers, &tried) else { break };
            let mut connection = match peer.connection(&self.0.name, &self.0.config).await {
                Ok(connection) => connection,
                Err(error) => {
                    tried.push(peer.endpoint.clone());
                    why = error;
                    continue;
                }
            };
            address(&mut request, peer);
            let in_flight = InFlight::new(&peer.in_flight);
            match connection.try_send_request(request).await {
                Ok(answer) => {
                    let peer = Arc::clone(&self.0.name);
                    return Ok(answer.map(|inner| Body::new(RemoteBody { inner, peer, _in_flight: in_flight })));
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) => {
                        request = unsent;
                        why = error.error().to_string().into();
                    }
                    None => return Err(broken(&self.0.name, error.error())),
                },
            }
        }
        Err(unavailable(&self.0.name, &why))
    }

    /// Waits until the directory has answered once; the call's deadline bounds it.
    async fn answered(&self) {
        if !*self.0.answered.borrow() {
            let _ = self.0.answered.clone().wait_for(|answered| *answered).await;
        }
    }

    /// The peer with the fewest calls in flight that was not tried; resting ones only if there is no other.
    fn pick<'a>(&self, peers: &'a [Arc<Peer>], tried: &[Endpoint]) -> Option<&'a Arc<Peer>> {
        if let [only] = peers {
            return (!tried.contains(&only.endpoint)).then_some(only);
        }
        let now = Instant::now();
        // Equals take turns.
        let first = self.0.turn.fetch_add(1, Ordering::Relaxed);
        (0..peers.len())
            .map(|i| &peers[first.wrapping_add(i) % peers.len()])
            .filter(|peer| !tried.contains(&peer.endpoint))
            .min_by_key(|peer| (peer.is_resting(now), peer.in_flight.load(Ordering::Relaxed)))
    }
}

/// The peers of the new endpoints; known ones keep their connections.
fn update(known: &[Arc<Peer>], endpoints: Vec<Endpoint>) -> Vec<Arc<Peer>> {
    endpoints
        .into_iter()
        .filter_map(|endpoint| match known.iter().find(|peer| peer.endpoint == endpoint) {
            Some(peer) => Some(Arc::clone(peer)),
            None => Peer::new(endpoint).map(Arc::new),
        })
        .collect()
}

/// HTTP/2 wants the scheme and the authority in the request.
fn address(request: &mut Request<Body>, peer: &Peer) {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(peer.authority.clone());
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
}
