//! A streamed call: passed on as it comes, and billed whoever ends it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming as ProviderBody;
use tokio::time::Sleep;
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_proto::broker::v1::{Accounting, QueueStanding, StreamInvokeResponse, StreamStart};
use weir_proto::common::v1::ErrorReason;
use weir_proto::usage::v1::Outcome;
use weir_rpc::Error;
use weir_types::price::{Metered, Tokens};

use super::Broker;
use super::background::Finishing;
use super::call::{Incoming, ModelCall};
use super::invoke::estimate;
use super::key_use::KeyUse;
use super::open::Opened;
use super::queue::Waiting;
use super::reservations::Held;
use super::settle::Used;
use super::tape::Parts;
use crate::domain::dialects::usage::Tier;
use crate::domain::keys::KeyOutcome;
use crate::domain::request::MediaUnits;
use crate::domain::sse::{Count, Scanner};
use crate::domain::usage::Reported;

/// What is ready at once is passed on together, up to here.
const TOGETHER: usize = 16 << 10;
/// How often the body is asked again before what is there is written. hyper's server asks twice in one turn of its task, and only in
/// between turns can the provider's connection hand over more.
const ASKED_AGAIN: u8 = 2;
/// For more than one part.
const ROOM: usize = 4 << 10;

impl Broker {
    /// Calls the model and passes its answer on. One that has to wait is answered with where it stands, until it goes on.
    pub(crate) async fn stream(self: &Arc<Self>, mut incoming: Incoming) -> Result<Parts, Error> {
        let (wish, known_by) = (std::mem::take(&mut incoming.reuse.wish), incoming.reuse.known_by);
        let call = self.prepare(incoming).await?;
        self.reuse_stream(call, &wish, known_by).await
    }

    /// The call itself.
    pub(crate) async fn make_stream(self: &Arc<Self>, call: Box<ModelCall>) -> Result<StreamAnswer, Error> {
        let waiting = Arc::clone(&call.waiting);
        let broker = Arc::clone(self);
        let mut opening = Finishing::new(&self.tasks, self.drain, |client| async move {
            let opened = broker.open(call, &client).await?;
            Ok(StreamAnswer::new(broker, opened))
        });
        tokio::select! {
            biased;
            opened = &mut opening => opened,
            standing = waiting.changed() => Ok(StreamAnswer::waiting(standing, Box::pin(opening), waiting)),
        }
    }
}

/// What a waiting call is on its way to.
type Opening = Pin<Box<dyn Future<Output = Result<StreamAnswer, Error>> + Send>>;

/// What a waiting call comes to next.
enum Step {
    Opened(Result<StreamAnswer, Error>),
    Moved(Option<QueueStanding>, Opening, Arc<Waiting>),
}

async fn next_step(mut opening: Opening, waiting: Arc<Waiting>) -> Step {
    tokio::select! {
        biased;
        opened = &mut opening => Step::Opened(opened),
        standing = waiting.changed() => Step::Moved(standing, opening, waiting),
    }
}

/// A stream under way. Dropped before its end (the client left), it is drained in the background
/// within a bound, so that the provider's own count is billed; else it is cut and billed as counted.
pub(crate) struct StreamAnswer {
    /// Absent once it is over.
    running: Option<Box<Running>>,
    next: Next,
}

enum Next {
    Waiting { told: Option<QueueStanding>, step: Pin<Box<dyn Future<Output = Step> + Send>> },
    Start(Box<StreamStart>),
    Chunks,
    Accounting(Box<Accounting>),
    Failed(Error),
    Over,
}

struct Running {
    broker: Arc<Broker>,
    call: Box<ModelCall>,
    body: ProviderBody,
    scanner: Scanner,
    held: Held,
    key: KeyUse,
    attempts: i32,
    sent: Instant,
    began: Instant,
    heard: Instant,
    idle: Pin<Box<Sleep>>,
    /// For the client, not passed on yet.
    gathered: Gathered,
    /// How often it was asked in vain since the last part came.
    asked_again: u8,
    /// Something was passed on.
    has_begun: bool,
}

/// How a stream stopped.
enum Stopped {
    /// The provider ended it.
    Ended,
    /// The connection broke, an event made no sense, or nothing came for too long.
    Broke(String),
    /// The client left, and so do we.
    Left,
}

impl StreamAnswer {
    fn new(broker: Arc<Broker>, opened: Opened) -> Self {
        let Opened { call, response, held, key, attempts, sent, began } = opened;
        let content_type = response.headers().get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let content_type = content_type.unwrap_or("text/event-stream").to_owned();
        let idle = Box::pin(tokio::time::sleep(call.idle_timeout()));
        let scanner = call.exchange.scanner(&*broker.clock, content_type.starts_with("text/event-stream"));
        let body = response.into_body();
        let running = Running {
            broker,
            call,
            body,
            scanner,
            held,
            key,
            attempts,
            sent,
            began,
            heard: began,
            idle,
            gathered: Gathered::default(),
            asked_again: 0,
            has_begun: false,
        };
        let start = StreamStart { content_type, accounting: Some(running.accounting(None)) };
        Self { running: Some(Box::new(running)), next: Next::Start(Box::new(start)) }
    }

    /// Not opened yet: it says where it stands.
    fn waiting(told: Option<QueueStanding>, opening: Opening, waiting: Arc<Waiting>) -> Self {
        let step = Box::pin(next_step(opening, waiting));
        Self { running: None, next: Next::Waiting { told, step } }
    }

    /// Ends the stream: settles it, and decides what the client gets last.
    fn end(&mut self, stopped: Stopped) {
        let Some(running) = self.running.take() else { return };
        self.next = match running.settle(stopped) {
            Ok(accounting) => Next::Accounting(Box::new(accounting)),
            Err(error) => Next::Failed(error),
        };
    }
}

impl Stream for StreamAnswer {
    type Item = Result<StreamInvokeResponse, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let part = |part| Poll::Ready(Some(Ok(StreamInvokeResponse { part: Some(part) })));
        let this = &mut *self;
        while let Next::Waiting { told, step } = &mut this.next {
            if let Some(standing) = told.take() {
                return part(Part::Queued(standing));
            }
            *this = match std::task::ready!(step.as_mut().poll(context)) {
                Step::Opened(Ok(answer)) => answer,
                Step::Opened(Err(error)) => Self { running: None, next: Next::Failed(error) },
                Step::Moved(standing, opening, waiting) => Self::waiting(standing, opening, waiting),
            };
        }
        if let (Next::Chunks, Some(running)) = (&this.next, &mut this.running) {
            match std::task::ready!(running.poll_chunk(context)) {
                (chunk, None) => return part(Part::Chunk(chunk)),
                (chunk, Some(stopped)) => {
                    this.end(stopped);
                    if !chunk.is_empty() {
                        return part(Part::Chunk(chunk));
                    }
                }
            }
        }
        match std::mem::replace(&mut this.next, Next::Over) {
            Next::Start(start) => {
                this.next = Next::Chunks;
                part(Part::Start(*start))
            }
            Next::Accounting(accounting) => part(Part::Accounting(*accounting)),
            Next::Failed(error) => Poll::Ready(Some(Err(error))),
            Next::Waiting { .. } | Next::Chunks | Next::Over => Poll::Ready(None),
        }
    }
}

impl Drop for StreamAnswer {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let tasks = running.broker.tasks.clone();
            tasks.spawn(async move {
                let bound = running.broker.drain;
                let stopped = tokio::time::timeout(bound, running.drain()).await.unwrap_or(Stopped::Left);
                drop(running.settle(stopped));
            });
        }
    }
}

impl Running {
    /// The next bytes for the client, with all that has come meanwhile; and whether the stream stopped behind them.
    ///
    /// The connection's task hands over one part and then waits until it is asked for the next. Whoever answered with each part
    /// would write to the client for each; so the task is let run once more before what is there is written. The first bytes
    /// do not wait even for that.
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<(Bytes, Option<Stopped>)> {
        loop {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.heard = Instant::now();
                    match frame.into_data().map(|data| self.scanner.push(data)) {
                        Ok(Ok(passed)) => self.gathered.add(passed),
                        Ok(Err(error)) => return self.pass_on(Some(Stopped::Broke(error.to_string()))),
                        Err(_trailers) => {}
                    }
                    self.asked_again = 0;
                    if self.gathered.len() >= TOGETHER {
                        return self.pass_on(None);
                    }
                }
                Poll::Ready(Some(Err(error))) => return self.pass_on(Some(Stopped::Broke(error.to_string()))),
                Poll::Ready(None) => {
                    let last = self.scanner.finish();
                    self.gathered.add(last);
                    return self.pass_on(Some(Stopped::Ended));
                }
                Poll::Pending if self.gathered.len() > 0 => {
                    if !self.has_begun || self.asked_again == ASKED_AGAIN {
                        return self.pass_on(None);
                    }
                    self.asked_again += 1;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending => {
                    std::task::ready!(self.poll_idle(context));
                    let silence = format!("nothing came for {:?}", self.call.idle_timeout());
                    return self.pass_on(Some(Stopped::Broke(silence)));
                }
            }
        }
    }

    /// What has been gathered, for the client.
    fn pass_on(&mut self, stopped: Option<Stopped>) -> Poll<(Bytes, Option<Stopped>)> {
        self.has_begun = true;
        Poll::Ready((std::mem::take(&mut self.gathered).bytes(), stopped))
    }

    /// Ready when nothing has been heard for too long. The timer is set again only when it fires.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            std::task::ready!(self.idle.as_mut().poll(context));
            let patience = self.call.idle_timeout();
            let silent = self.heard.elapsed();
            if silent >= patience {
                return Poll::Ready(());
            }
            self.idle.as_mut().reset(tokio::time::Instant::now() + (patience - silent));
        }
    }

    /// Reads on without a client.
    async fn drain(&mut self) -> Stopped {
        loop {
            match self.body.frame().await {
                None => {
                    drop(self.scanner.finish());
                    return Stopped::Ended;
                }
                Some(Err(error)) => return Stopped::Broke(error.to_string()),
                Some(Ok(frame)) => {
                    if let Ok(Err(error)) = frame.into_data().map(|data| self.scanner.push(data)) {
                        return Stopped::Broke(error.to_string());
                    }
                }
            }
            if self.scanner.watch.done {
                return Stopped::Ended;
            }
        }
    }

    fn accounting(&self, used: Option<&Used>) -> Accounting {
        let (queue_position, queue_time) = self.call.waiting.summary();
        Accounting {
            reservation_id: self.held.id.to_string(),
            provider: self.call.route.provider.clone(),
            model: self.call.route.model.clone(),
            attempts: self.attempts,
            input_tokens: used.map_or(0, |used| used.metered.tokens.input),
            output_tokens: used.map_or(0, |used| used.metered.tokens.output),
            cost_nano_usd: used.map_or(0, |used| used.cost.0),
            estimated: used.is_some_and(|used| used.estimated),
            overhead: prost_types::Duration::try_from(self.sent - self.call.received).ok(),
            rate_limits: self.held.rate_limits(),
            queue_position,
            queue_time,
            load_level: self.call.load_level(),
            downgraded: self.call.is_downgraded(),
            provider_key: self.call.own_key_name(),
            ..Accounting::default()
        }
    }

    /// Bills the stream: by the provider's count if it came, else as counted here.
    fn settle(mut self: Box<Self>, stopped: Stopped) -> Result<Accounting, Error> {
        let watch = &self.scanner.watch;
        let count = watch.count();
        let counted = matches!(count, Count::Final(_));
        let whole = matches!(stopped, Stopped::Ended) && !watch.failed && (watch.done || counted);
        let outcome = match stopped {
            Stopped::Left => Outcome::Cancelled,
            _ if whole => Outcome::Complete,
            _ => Outcome::Broken,
        };
        let used = match count {
            _ if self.call.request.units != MediaUnits::None => {
                let (metered, estimated) = self.media(whole);
                self.call.used(metered, estimated, outcome)
            }
            Count::Final(tokens) => {
                let tier = watch.tier().and_then(Tier::name).map(str::to_owned);
                self.call.used(Metered { tier, ..tokens.into() }, false, outcome)
            }
            Count::Seen { begun, output } => {
                let mut used = estimate(&self.call, output);
                if let Some(begun) = begun {
                    used.tokens = Tokens { output: used.tokens.output, ..begun };
                }
                if let Some(said) = watch.tier() {
                    used.tier = said.name().map(str::to_owned);
                }
                self.call.used(used, true, outcome)
            }
        };
        self.key.report(if outcome == Outcome::Broken { KeyOutcome::Failed } else { KeyOutcome::Fine });
        let accounting = self.accounting(Some(&used));
        let used = used.timed(self.sent.elapsed(), self.began - self.sent);
        let Self { broker, held, call, .. } = *self;
        broker.settler.commit(held, used);
        if whole {
            return Ok(accounting);
        }
        let provider = &call.provider.name;
        if let Stopped::Broke(reason) = &stopped {
            tracing::warn!(provider, reason, "a stream broke off");
        }
        Err(Error::new(ErrorReason::ProviderFailed, format!("{provider} broke off the answer")))
    }
}

impl Running {
    /// What a stream of a sound or picture used, and whether that is estimated: by its last event, else as reserved. Sounds that are
    /// made are charged by what was to be said, whoever stops listening; of those that are heard the words count that were written.
    fn media(&self, whole: bool) -> (Metered, bool) {
        let most = &self.call.worst.used;
        let watch = &self.scanner.watch;
        if let Some(Reported::Used(used)) = watch.closing().map(|body| self.call.exchange.reported(body, most)) {
            return (used, false);
        }
        let mut used = most.clone();
        if let (MediaUnits::Seconds(_), Count::Seen { output, .. }) = (&self.call.request.units, watch.count())
            && watch.closing().is_none()
        {
            used.tokens.output = output.min(most.tokens.output);
        }
        // An answer without events that is whole has the length of its file, if that is what it is charged by.
        (used, !whole || !most.tokens.is_none())
    }
}

/// Chunks that are passed on together: the first as it is, a copy only from the second on.
#[derive(Default)]
struct Gathered {
    first: Bytes,
    more: BytesMut,
}

impl Gathered {
    fn add(&mut self, bytes: Bytes) {
        if self.first.is_empty() && self.more.is_empty() {
            self.first = bytes;
        } else {
            if self.more.is_empty() {
                self.more.reserve(ROOM);
                self.more.extend_from_slice(&std::mem::take(&mut self.first));
            }
            self.more.extend_from_slice(&bytes);
        }
    }

    fn len(&self) -> usize {
        self.first.len() + self.more.len()
    }

    fn bytes(self) -> Bytes {
        if self.more.is_empty() { self.first } else { self.more.freeze() }
    }
}
