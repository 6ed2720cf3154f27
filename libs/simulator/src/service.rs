//! One request from its head to its answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::Reply;
use crate::books::{Books, Entry, Heading, Stats};
use crate::connection::Link;
use crate::dialect::{Dialect, header};
use crate::directive::{BadBody, Directive, Reset};
use crate::faults::Faults;
use crate::headers::{self, HTML, JSON};
use crate::ids::{Id, Ids};
use crate::keys::{Account, Demand, Headroom, Keys};
use crate::options::Options;
use crate::refusal::Refusal;
use crate::stream::{Pace, Script, Stream};
use crate::{Error, admin, anthropic, elevenlabs, fal, openai, route};

/// What all connections share.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) options: Options,
    pub(crate) books: Books,
    pub(crate) faults: Faults,
    pub(crate) ids: Ids,
    pub(crate) embeddings: openai::embeddings::Vectors,
    pub(crate) cache: anthropic::cache::Cache,
    pub(crate) credits: elevenlabs::Credits,
    pub(crate) queue: fal::Queue,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    keys: Keys,
    connections: Arc<AtomicU64>,
}

/// Counts a connection while it is open.
pub(crate) struct Open(Arc<AtomicU64>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl State {
    pub(crate) fn new(options: Options, stop: CancellationToken, tasks: TaskTracker) -> Result<Self, Error> {
        Ok(Self {
            keys: Keys::new(&options)?,
            books: Books::new(options.log_capacity),
            faults: Faults::default(),
            ids: Ids::new(),
            embeddings: openai::embeddings::Vectors::default(),
            cache: anthropic::cache::Cache::default(),
            credits: elevenlabs::Credits::default(),
            queue: fal::Queue::new(&options)?,
            connections: Arc::default(),
            options,
            stop,
            tasks,
        })
    }

    pub(crate) fn connection_opened(&self) -> Open {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(&self.connections))
    }

    pub(crate) fn stats(&self) -> Stats {
        let keys: BTreeMap<String, u64> =
            self.keys.requests().into_iter().filter(|(_, requests)| *requests > 0).collect();
        Stats { connections: self.connections.load(Ordering::Relaxed), keys, ..self.books.stats() }
    }

    pub(crate) fn reset(&self) {
        self.books.reset();
        self.faults.clear();
        self.keys.reset();
        self.cache.clear();
        self.credits.clear();
        self.queue.clear();
    }

    pub(crate) fn model_exists(&self, name: &str) -> bool {
        self.options.models.is_empty() || self.options.models.iter().any(|model| model == name)
    }
}

/// A request on its way.
pub(crate) struct Call {
    pub(crate) state: Arc<State>,
    pub(crate) link: Arc<Link>,
    pub(crate) id: Id,
    pub(crate) dialect: Dialect,
    pub(crate) headers: HeaderMap,
    pub(crate) query: String,
    pub(crate) secret: String,
    received: Instant,
    account: Arc<Account>,
}

/// What a well-formed request asks for.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a> {
    /// As in the books.
    pub(crate) operation: &'static str,
    pub(crate) model: &'a str,
    pub(crate) streamed: bool,
    /// The directive of the request's body; else that of the header `x-simulate` holds.
    pub(crate) simulate: Option<&'a str>,
    pub(crate) demand: Demand,
}

impl<'a> Asking<'a> {
    /// A plain request without tokens.
    pub(crate) fn of(operation: &'static str, model: &'a str) -> Self {
        Self { operation, model, streamed: false, simulate: None, demand: Demand::REQUEST }
    }
}

/// What was admitted: the request's entry in the books, what to do, and what is left of the limits.
pub(crate) struct Admitted {
    pub(crate) entry: Entry,
    pub(crate) directive: Directive,
    headroom: Option<Headroom>,
}

/// An answer in one piece.
pub(crate) struct Output {
    pub(crate) status: StatusCode,
    pub(crate) kind: HeaderValue,
    pub(crate) body: Bytes,
}

impl Output {
    pub(crate) fn new(kind: HeaderValue, body: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, kind, body: body.into() }
    }

    pub(crate) fn json(body: impl Into<Bytes>) -> Self {
        Self::new(JSON, body)
    }

    pub(crate) fn status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}

/// The connection is to be broken instead of an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is broken on purpose")]
pub(crate) struct Severed;

/// How a request ends other than with the answer that was asked for.
pub(crate) enum Ending {
    Refused(Refusal, Option<Admitted>),
    Bad(BadBody, Admitted),
    Reset,
}

impl Ending {
    /// Charges what was done all the same: the provider did the work, and only its answer was spoilt on the way.
    pub(crate) fn charging(self, charge: impl FnOnce(&Admitted)) -> Self {
        if let Self::Bad(_, admitted) = &self
            && admitted.directive.status.is_none()
        {
            charge(admitted);
        }
        self
    }
}

impl From<Refusal> for Ending {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal, None)
    }
}

pub(crate) type Answered = Result<Response<Reply>, Ending>;

/// Answers a request; an error breaks the connection.
pub(crate) async fn answer(
    state: Arc<State>,
    link: Arc<Link>,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Severed> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    if let Some(rest) = path.strip_prefix("/simulator/") {
        return Ok(admin::answer(&state, &head.method, rest, head.uri.query(), body).await);
    }
    if let Some(public) = route::public(&state, &head.method, path) {
        return Ok(public);
    }
    let id = state.ids.next();
    let dialect = Dialect::of(path, &head.headers);
    let secret = dialect.secret(&head.headers).map(str::to_owned);
    let account = secret.as_deref().and_then(|secret| state.keys.account(secret));
    let (secret, account) = match (secret, account) {
        (Some(secret), Some(account)) => (secret, account),
        (secret, _) => {
            let refusal = Refusal::unknown_key(dialect, secret.as_deref());
            let asking = Asking::of("", "");
            let entry = enter(&state, &head.headers, dialect, &Arc::from(""), &asking);
            return Ok(refuse(dialect, &refusal, &id, None, Some(&entry)));
        }
    };
    let query = head.uri.query().unwrap_or_default().to_owned();
    let call =
        Call { state, link, id, dialect, received: Instant::now(), headers: head.headers, query, account, secret };
    let answered = match route::answer(&call, &head.method, path, body).await {
        Ok(response) => Ok(response),
        Err(ending) => call.end(ending),
    };
    answered.map(|response| route::with_allow(response, path))
}

impl Call {
    /// Reads the whole body.
    pub(crate) async fn read(&self, body: Incoming) -> Result<Bytes, Refusal> {
        let limit = self.state.options.max_body_bytes;
        match Limited::new(body, limit).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(Refusal::too_large(self.dialect, limit)),
            Err(error) => Err(Refusal::invalid(format!("The request body broke off: {error}"))),
        }
    }

    /// Enters a well-formed request in the books, and lets happen what its directive, a fault or a limit says.
    pub(crate) async fn admit(&self, asking: Asking<'_>) -> Result<Admitted, Ending> {
        let mut entry = enter(&self.state, &self.headers, self.dialect, &self.account.label, &asking);
        let simulate = asking.simulate.or_else(|| header(&self.headers, "x-simulate"));
        let asked = match simulate.map(str::parse::<Directive>).transpose() {
            Ok(asked) => asked.unwrap_or_default(),
            Err(error) => {
                let admitted = Admitted { entry, directive: Directive::default(), headroom: None };
                return Err(Ending::Refused(Refusal::invalid(error.to_string()).param("metadata"), Some(admitted)));
            }
        };
        let mut directive = match self.state.faults.next(&self.secret) {
            Some(fault) => asked.or(fault),
            None => asked,
        };
        if let Some(times) = directive.fail_times {
            let name = simulate.map_or_else(|| directive.to_string(), str::to_owned);
            if !self.state.faults.still_fails(&name, times) {
                directive = directive.without_failure();
            }
        }
        let headroom = match self.account.admit(self.state.options.rate_window, asking.demand) {
            Ok((headroom, slot)) => {
                entry.hold(slot);
                Some(headroom)
            }
            Err(too_many) => {
                let admitted = Admitted { entry, directive, headroom: None };
                return Err(Ending::Refused(Refusal::too_many(self.dialect, &too_many), Some(admitted)));
            }
        };
        let admitted = Admitted { entry, directive, headroom };
        let latency = admitted.directive.latency.unwrap_or(self.state.options.latency);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        self.fail(admitted).await
    }

    async fn fail(&self, admitted: Admitted) -> Result<Admitted, Ending> {
        let directive = &admitted.directive;
        if directive.hang {
            std::future::pending::<()>().await;
        }
        if directive.reset == Some(Reset::Before) {
            return Err(Ending::Reset);
        }
        if let Some(body) = directive.body {
            return Err(Ending::Bad(body, admitted));
        }
        if let Some(status) = directive.status.filter(|&status| status >= 400) {
            let refusal = Refusal::simulated(self.dialect, status, directive.code.clone(), directive.retry_after);
            return Err(Ending::Refused(refusal, Some(admitted)));
        }
        Ok(admitted)
    }

    /// Sends an answer in one piece, or breaks it off if the directive says so. The entry must have been charged.
    pub(crate) fn respond(&self, admitted: Admitted, output: Output) -> Response<Reply> {
        let Admitted { entry, directive, headroom } = admitted;
        let Output { status, kind, body } = output;
        entry.answer(status.as_u16());
        let reset = directive.reset == Some(Reset::After);
        let reply = if reset || directive.break_after.is_some() {
            let promised = body.len() as u64;
            let piece = if reset { None } else { Some(body.slice(..body.len() / 2)) };
            Reply::Part { piece, promised, link: Arc::clone(&self.link), reset, entry: Some(entry) }
        } else {
            entry.finish();
            Reply::from(body)
        };
        self.response(status, kind, headroom.as_ref(), reply)
    }

    /// Sends an answer while the work has only begun; the entry goes on.
    pub(crate) fn respond_early(&self, admitted: Admitted, output: Output) -> (Response<Reply>, Entry) {
        let Admitted { entry, headroom, .. } = admitted;
        entry.answer(output.status.as_u16());
        (self.response(output.status, output.kind, headroom.as_ref(), Reply::from(output.body)), entry)
    }

    /// Sends an answer piece by piece. The entry must have been charged, but for the tokens that the script sends.
    pub(crate) fn stream(&self, admitted: Admitted, kind: HeaderValue, script: Script) -> Response<Reply> {
        let Admitted { entry, directive, headroom } = admitted;
        let options = &self.state.options;
        let pace = Pace {
            interval: directive.chunk_latency.unwrap_or(options.chunk_latency),
            coalesce: directive.coalesce.unwrap_or(options.coalesce),
            break_after: directive.break_after,
        };
        entry.answer(200);
        let reset = directive.reset == Some(Reset::After);
        let stream = Stream::new(script, pace, entry, Arc::clone(&self.link), reset);
        self.response(StatusCode::OK, kind, headroom.as_ref(), Reply::Stream(Box::new(stream)))
    }

    /// A response with the headers of every answer.
    fn response(
        &self,
        status: StatusCode,
        kind: HeaderValue,
        headroom: Option<&Headroom>,
        reply: Reply,
    ) -> Response<Reply> {
        let mut response = Response::new(reply);
        *response.status_mut() = status;
        headers::set(response.headers_mut(), self.dialect, kind, &self.id, headroom, self.received.elapsed());
        response
    }

    fn end(&self, ending: Ending) -> Result<Response<Reply>, Severed> {
        match ending {
            Ending::Refused(refusal, Some(admitted)) => {
                Ok(refuse(self.dialect, &refusal, &self.id, admitted.headroom.as_ref(), Some(&admitted.entry)))
            }
            Ending::Refused(refusal, None) => {
                let entry = enter(&self.state, &self.headers, self.dialect, &self.account.label, &Asking::of("", ""));
                Ok(refuse(self.dialect, &refusal, &self.id, None, Some(&entry)))
            }
            Ending::Bad(body, admitted) => Ok(self.bad(body, &admitted)),
            Ending::Reset => {
                self.link.reset_on_close();
                Err(Severed)
            }
        }
    }

    fn bad(&self, body: BadBody, admitted: &Admitted) -> Response<Reply> {
        let status =
            admitted.directive.status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK);
        let (kind, bytes) = match body {
            BadBody::Malformed => (
                JSON,
                Bytes::from_static(br#"{"id":"chatcmpl-broken","object":"chat.completion","choices":[{"index":"#),
            ),
            BadBody::Html => (
                HTML,
                Bytes::from_static(
                    b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>",
                ),
            ),
            BadBody::Empty => (JSON, Bytes::new()),
        };
        admitted.entry.answer(status.as_u16());
        admitted.entry.finish();
        let mut response = self.response(status, kind, admitted.headroom.as_ref(), Reply::from(bytes));
        if let Some(after) = admitted.directive.retry_after {
            headers::set_retry_after(response.headers_mut(), self.dialect, after);
        }
        response
    }
}

fn enter(state: &State, headers: &HeaderMap, dialect: Dialect, api_key: &Arc<str>, asking: &Asking<'_>) -> Entry {
    let client_request_id = header(headers, "x-client-request-id").unwrap_or_default();
    let Asking { operation, model, streamed, .. } = *asking;
    let provider = dialect.name();
    state.books.enter(&Heading { client_request_id, api_key, model, provider, operation, streamed })
}

fn refuse(
    dialect: Dialect,
    refusal: &Refusal,
    id: &Id,
    headroom: Option<&Headroom>,
    entry: Option<&Entry>,
) -> Response<Reply> {
    let mut response = Response::new(Reply::from(refusal.body(dialect, id.as_str())));
    *response.status_mut() = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    headers::set(response.headers_mut(), dialect, JSON, id, headroom, Duration::ZERO);
    if let Some(after) = refusal.retry_after {
        headers::set_retry_after(response.headers_mut(), dialect, after);
    }
    if let Some(entry) = entry {
        entry.answer(refusal.status);
        entry.finish();
    }
    response
}
