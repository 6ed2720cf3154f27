//! One keep-alive connection, opened again when it has ended.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::answer::{Ending, Events, Observed, usage};

/// No answer takes longer: a hung server must end a run, not hang it.
const PATIENCE: Duration = Duration::from_secs(120);
/// How much of an error's body is kept.
const EXCERPT: usize = 400;

/// What to send.
#[derive(Debug, Clone)]
pub struct Request {
    /// For instance `/v1/chat/completions`.
    pub path: &'static str,
    /// `Bearer …`.
    pub authorization: HeaderValue,
    /// JSON.
    pub body: Bytes,
    /// Whether the answer is a stream.
    pub streamed: bool,
    /// Further headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// A connection to one server.
#[derive(Debug)]
pub struct Connection {
    address: SocketAddr,
    host: HeaderValue,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        let host = HeaderValue::from_str(&address.to_string()).unwrap_or(HeaderValue::from_static("localhost"));
        Self { address, host, sender: None }
    }

    /// Sends a request and reads the answer to its end.
    pub async fn send(&mut self, request: &Request) -> Observed {
        let mut observed = Observed {
            status: 0,
            first_byte: Duration::ZERO,
            total: Duration::ZERO,
            usage: None,
            chunks: 0,
            ending: Ending::Complete,
            retry_after: None,
        };
        let start = Instant::now();
        let exchanged = tokio::time::timeout(PATIENCE, self.exchange(request, start, &mut observed)).await;
        observed.total = start.elapsed();
        observed.ending = exchanged.unwrap_or_else(|_| Ending::Broken(format!("no end within {PATIENCE:?}")));
        if matches!(observed.ending, Ending::Broken(_) | Ending::Unreachable(_)) {
            self.sender = None;
        }
        observed
    }

    async fn exchange(&mut self, request: &Request, start: Instant, observed: &mut Observed) -> Ending {
        let mut outgoing = http::Request::new(Full::new(request.body.clone()));
        *outgoing.method_mut() = http::Method::POST;
        *outgoing.uri_mut() = http::Uri::from_static(request.path);
        let headers = outgoing.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(AUTHORIZATION, request.authorization.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(request.headers.iter().cloned());
        let sender = match self.connected().await {
            Ok(sender) => sender,
            Err(error) => return Ending::Unreachable(error.to_string()),
        };
        let response = match sender.send_request(outgoing).await {
            Ok(response) => response,
            Err(error) => return Ending::Broken(format!("no answer: {error}")),
        };
        observed.first_byte = start.elapsed();
        observed.status = response.status().as_u16();
        observed.retry_after = retry_after(response.headers());
        let body = response.into_body();
        if observed.status != 200 {
            let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            return Ending::Refused(String::from_utf8_lossy(&body[..body.len().min(EXCERPT)]).into_owned());
        }
        if request.streamed { stream(body, start, observed).await } else { whole(body, observed).await }
    }

    /// The open connection, or a new one.
    async fn connected(&mut self) -> anyhow::Result<&mut SendRequest<Full<Bytes>>> {
        if let Some(sender) = &mut self.sender
            && sender.ready().await.is_err()
        {
            self.sender = None;
        }
        if self.sender.is_none() {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            // Ends with its connection, which ends with the sender.
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        self.sender.as_mut().ok_or_else(|| anyhow::anyhow!("the connection is gone"))
    }
}

async fn whole(body: Incoming, observed: &mut Observed) -> Ending {
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Ending::Broken(format!("the answer broke off: {error}")),
    };
    match usage(&body) {
        Ok(usage) => {
            observed.usage = usage;
            Ending::Complete
        }
        Err(error) => Ending::Broken(format!("the answer cannot be read: {error}")),
    }
}

async fn stream(mut body: Incoming, start: Instant, observed: &mut Observed) -> Ending {
    let mut events = Events::default();
    let mut first = true;
    let broken = loop {
        match body.frame().await {
            None => break None,
            Some(Err(error)) => break Some(format!("the stream broke off: {error}")),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    if std::mem::take(&mut first) {
                        observed.first_byte = start.elapsed();
                    }
                    events.push(&bytes);
                }
            }
        }
    };
    observed.usage = events.usage;
    observed.chunks = events.chunks;
    match broken.or(events.problem) {
        Some(problem) => Ending::Broken(problem),
        None if !events.done => Ending::Broken("the stream ended without [DONE]".to_owned()),
        None => Ending::Complete,
    }
}

fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}
