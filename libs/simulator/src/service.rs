//! One request from its head to its answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;

use crate::body::Reply;
use crate::books::{Books, Entry, Heading, Stats};
use crate::connection::Link;
use crate::directive::{BadBody, Directive, Reset};
use crate::faults::Faults;
use crate::headers::{self, HTML, Id, Ids, JSON};
use crate::keys::{Account, Headroom, Keys};
use crate::options::Options;
use crate::refusal::Refusal;
use crate::{Error, admin, chat, embeddings, models};

/// What all connections share.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) options: Options,
    pub(crate) books: Books,
    pub(crate) faults: Faults,
    pub(crate) ids: Ids,
    pub(crate) embeddings: embeddings::Vectors,
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
    pub(crate) fn new(options: Options) -> Result<Self, Error> {
        Ok(Self {
            keys: Keys::new(&options)?,
            books: Books::new(options.log_capacity),
            faults: Faults::default(),
            ids: Ids::new(),
            embeddings: embeddings::Vectors::default(),
            connections: Arc::default(),
            options,
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
    received: Instant,
    headers: HeaderMap,
    account: Arc<Account>,
    secret: String,
}

/// What was admitted: the request's entry in the books, what to do, and what is left of the rate limit.
pub(crate) struct Admitted {
    pub(crate) entry: Entry,
    pub(crate) directive: Directive,
    headroom: Option<Headroom>,
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
    let id = state.ids.next();
    let secret = bearer(&head.headers).map(str::to_owned);
    let account = secret.as_deref().and_then(|secret| state.keys.account(secret));
    let (secret, account) = match (secret, account) {
        (Some(secret), Some(account)) => (secret, account),
        (secret, _) => {
            let refusal =
                secret.map_or_else(Refusal::no_key, |secret| Refusal::wrong_key(&crate::keys::label(&secret)));
            let label = Arc::from("");
            let entry = enter(&state, &head.headers, &label, "", "", false);
            return Ok(refuse(&refusal, &id, None, Some(&entry)));
        }
    };
    let call = Call { state, link, id, received: Instant::now(), headers: head.headers, account, secret };
    let ended = match (path, &head.method) {
        ("/v1/chat/completions", &Method::POST) => chat::answer(&call, body).await,
        ("/v1/embeddings", &Method::POST) => embeddings::answer(&call, body).await,
        ("/v1/models", &Method::GET) => models::list(&call).await,
        (path, &Method::GET) if path.starts_with("/v1/models/") => {
            models::get(&call, &path["/v1/models/".len()..]).await
        }
        ("/v1/chat/completions" | "/v1/embeddings" | "/v1/models", method) => {
            let mut response = call.refused(&Refusal::wrong_method(method.as_str()));
            let allowed = if path == "/v1/models" { "GET" } else { "POST" };
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            return Ok(response);
        }
        (path, method) => return Ok(call.refused(&Refusal::unknown_url(method.as_str(), path))),
    };
    ended.or_else(|ending| call.end(ending))
}

impl Call {
    /// Reads the whole body.
    pub(crate) async fn read(&self, body: Incoming) -> Result<Bytes, Refusal> {
        let limit = self.state.options.max_body_bytes;
        match Limited::new(body, limit).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(Refusal::too_large(limit)),
            Err(error) => Err(Refusal::invalid(format!("The request body broke off: {error}"))),
        }
    }

    /// Enters a well-formed request in the books, and lets happen what its directive, a fault or the rate limit says.
    pub(crate) async fn admit(
        &self,
        operation: &'static str,
        model: &str,
        streamed: bool,
        simulate: Option<&str>,
    ) -> Result<Admitted, Ending> {
        let entry = enter(&self.state, &self.headers, &self.account.label, model, operation, streamed);
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
        let (headroom, too_many) = match self.account.admit(self.state.options.rate_window) {
            Ok(headroom) => (headroom, None),
            Err(too_many) => (None, Some(too_many)),
        };
        let admitted = Admitted { entry, directive, headroom };
        if let Some(too_many) = too_many {
            return Err(Ending::Refused(Refusal::too_many(too_many.limit, too_many.retry_after), Some(admitted)));
        }
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
            let refusal = Refusal::simulated(status, directive.code.clone(), directive.retry_after);
            return Err(Ending::Refused(refusal, Some(admitted)));
        }
        Ok(admitted)
    }

    /// Sends an answer in one piece, or breaks it off if the directive says so. The entry must have been charged.
    pub(crate) fn respond(&self, admitted: Admitted, body: Bytes) -> Response<Reply> {
        let Admitted { entry, directive, headroom } = admitted;
        entry.answer(200);
        let reset = directive.reset == Some(Reset::After);
        let reply = if reset || directive.break_after.is_some() {
            let promised = body.len() as u64;
            let piece = if reset { None } else { Some(body.slice(..body.len() / 2)) };
            Reply::Part { piece, promised, link: Arc::clone(&self.link), reset, entry: Some(entry) }
        } else {
            entry.finish();
            Reply::from(body)
        };
        self.response(StatusCode::OK, JSON, headroom, reply)
    }

    /// A response with the headers of every answer.
    pub(crate) fn response(
        &self,
        status: StatusCode,
        kind: HeaderValue,
        headroom: Option<Headroom>,
        reply: Reply,
    ) -> Response<Reply> {
        let mut response = Response::new(reply);
        *response.status_mut() = status;
        headers::set(response.headers_mut(), kind, &self.id, headroom, self.received.elapsed());
        response
    }

    fn refused(&self, refusal: &Refusal) -> Response<Reply> {
        let entry = enter(&self.state, &self.headers, &self.account.label, "", "", false);
        refuse(refusal, &self.id, None, Some(&entry))
    }

    fn end(&self, ending: Ending) -> Result<Response<Reply>, Severed> {
        match ending {
            Ending::Refused(refusal, Some(admitted)) => {
                Ok(refuse(&refusal, &self.id, admitted.headroom, Some(&admitted.entry)))
            }
            Ending::Refused(refusal, None) => Ok(self.refused(&refusal)),
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
        let mut response = self.response(status, kind, admitted.headroom, Reply::from(bytes));
        if let Some(after) = admitted.directive.retry_after {
            headers::set_retry_after(response.headers_mut(), after);
        }
        response
    }
}

impl Admitted {
    pub(crate) fn headroom(&self) -> Option<Headroom> {
        self.headroom
    }
}

fn enter(
    state: &State,
    headers: &HeaderMap,
    api_key: &Arc<str>,
    model: &str,
    operation: &'static str,
    streamed: bool,
) -> Entry {
    let client_request_id = headers.get("x-client-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    state.books.enter(&Heading { client_request_id, api_key, model, operation, streamed })
}

fn refuse(refusal: &Refusal, id: &Id, headroom: Option<Headroom>, entry: Option<&Entry>) -> Response<Reply> {
    let mut response = Response::new(Reply::from(refusal.body()));
    *response.status_mut() = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    headers::set(response.headers_mut(), JSON, id, headroom, Duration::ZERO);
    if let Some(after) = refusal.retry_after {
        headers::set_retry_after(response.headers_mut(), after);
    }
    if let Some(entry) = entry {
        entry.answer(refusal.status);
        entry.finish();
    }
    response
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = value.split_once(' ')?;
    let secret = secret.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !secret.is_empty()).then_some(secret)
}
