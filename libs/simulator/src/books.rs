//! What was served: totals, and one record per request.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::keys::Slot;

/// Models that are told apart; later names share one account, so that a client cannot fill the memory with names.
const TOLD_APART: usize = 1_000;

/// Everything that was served since the start or the last reset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Requests of any kind and outcome, the present ones included.
    pub requests: u64,
    /// Requests whose answer was produced: a plain one with status 200, and each stream that began.
    pub charged_requests: u64,
    /// Of those, the streams.
    pub streamed_requests: u64,
    /// Input tokens of charged requests.
    pub input_tokens: u64,
    /// Output tokens of charged requests; of a stream, those that were sent so far.
    pub output_tokens: u64,
    /// Of the input tokens, those that were read from a cache.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Of the input tokens, those that were written to a cache.
    #[serde(default)]
    pub cache_write_tokens: u64,
    /// Characters of charged speech.
    #[serde(default)]
    pub characters: u64,
    /// Pictures of charged requests.
    #[serde(default)]
    pub images: u64,
    /// Milliseconds of audio that charged requests heard.
    #[serde(default)]
    pub audio_ms: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// Requests that ended before their answer did: the client left, or a fault broke it off.
    pub abandoned: u64,
    /// Open connections.
    pub connections: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Charged requests that have ended, by model.
    pub models: BTreeMap<String, Sums>,
    /// Requests by the ending of the API key.
    pub keys: BTreeMap<String, u64>,
}

/// Sums over charged requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// How many.
    pub requests: u64,
    /// Their input tokens.
    pub input_tokens: u64,
    /// Their output tokens.
    pub output_tokens: u64,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// Counts up from 1.
    pub sequence: u64,
    /// The header `x-client-request-id`, or empty.
    pub client_request_id: String,
    /// The ending of the API key.
    pub api_key: String,
    /// The model asked for; empty if the request could not be read.
    pub model: String,
    /// `openai`, `anthropic`, `elevenlabs` or `fal`.
    #[serde(default)]
    pub provider: String,
    /// `chat.completions`, `messages`, `speech`, `models` and so on.
    pub operation: String,
    /// When it came, in milliseconds since the provider was started or reset.
    #[serde(default)]
    pub at_ms: u64,
    /// Input tokens, if charged.
    pub input_tokens: u64,
    /// Output tokens, if charged; of a stream, those that were sent so far.
    pub output_tokens: u64,
    /// Of the input tokens, those that were read from a cache.
    #[serde(default)]
    pub cached_tokens: u64,
    /// Of the input tokens, those that were written to a cache.
    #[serde(default)]
    pub cache_write_tokens: u64,
    /// Characters of speech, if charged.
    #[serde(default)]
    pub characters: u64,
    /// Pictures, if charged.
    #[serde(default)]
    pub images: u64,
    /// Milliseconds of audio that was heard, if charged.
    #[serde(default)]
    pub audio_ms: u64,
    /// Whether a stream was asked for.
    pub streamed: bool,
    /// The status of the answer; 0 while or when there was none.
    pub status: u16,
    /// Whether an answer was produced.
    pub charged: bool,
    /// Whether it was sent to its end.
    pub finished: bool,
}

/// What is charged beside tokens.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Extras {
    pub(crate) cached: u64,
    pub(crate) cache_write: u64,
    pub(crate) characters: u64,
    pub(crate) images: u64,
    pub(crate) audio_ms: u64,
}

/// The sums or the record of [`Extras`].
#[derive(Debug, Default)]
struct ExtraCounts {
    cached: AtomicU64,
    cache_write: AtomicU64,
    characters: AtomicU64,
    images: AtomicU64,
    audio_ms: AtomicU64,
}

impl ExtraCounts {
    fn add(&self, extras: Extras) {
        self.cached.fetch_add(extras.cached, Relaxed);
        self.cache_write.fetch_add(extras.cache_write, Relaxed);
        self.characters.fetch_add(extras.characters, Relaxed);
        self.images.fetch_add(extras.images, Relaxed);
        self.audio_ms.fetch_add(extras.audio_ms, Relaxed);
    }

    fn load(&self) -> Extras {
        Extras {
            cached: self.cached.load(Relaxed),
            cache_write: self.cache_write.load(Relaxed),
            characters: self.characters.load(Relaxed),
            images: self.images.load(Relaxed),
            audio_ms: self.audio_ms.load(Relaxed),
        }
    }
}

#[derive(Debug)]
struct Record {
    sequence: u64,
    client_request_id: Box<str>,
    api_key: Arc<str>,
    model: Arc<Model>,
    provider: &'static str,
    operation: &'static str,
    at: Duration,
    input: AtomicU64,
    output: AtomicU64,
    extras: ExtraCounts,
    streamed: bool,
    status: AtomicU16,
    charged: AtomicBool,
    finished: AtomicBool,
}

/// A model's name, ready for answers, and its sums.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) name: Box<str>,
    /// As a JSON string.
    pub(crate) json: Box<str>,
    requests: AtomicU64,
    input: AtomicU64,
    output: AtomicU64,
}

impl Model {
    fn new(name: &str) -> Self {
        let json = serde_json::Value::from(name).to_string().into_boxed_str();
        let [requests, input, output] = [(); 3].map(|()| AtomicU64::new(0));
        Self { name: Box::from(name), json, requests, input, output }
    }
}

/// All that a reset forgets. Requests keep the one they began in, so that none is counted in the next.
#[derive(Debug)]
struct Life {
    began: Instant,
    sequence: AtomicU64,
    charged: AtomicU64,
    streamed: AtomicU64,
    input: AtomicU64,
    output: AtomicU64,
    extras: ExtraCounts,
    in_flight: AtomicU64,
    abandoned: AtomicU64,
    statuses: [AtomicU64; 600],
    models: RwLock<HashMap<Box<str>, Arc<Model>>>,
    log: Mutex<VecDeque<Arc<Record>>>,
}

impl Life {
    fn new() -> Self {
        let [sequence, charged, streamed, input, output, in_flight, abandoned] = [(); 7].map(|()| AtomicU64::new(0));
        let statuses = [(); 600].map(|()| AtomicU64::new(0));
        let (extras, models, log) = (ExtraCounts::default(), RwLock::default(), Mutex::default());
        let began = Instant::now();
        Self { began, sequence, charged, streamed, input, output, extras, in_flight, abandoned, statuses, models, log }
    }

    fn model(&self, name: &str) -> Arc<Model> {
        if let Some(model) = self.models.read().get(name) {
            return Arc::clone(model);
        }
        let mut models = self.models.write();
        if models.len() >= TOLD_APART {
            return Arc::new(Model::new(name));
        }
        Arc::clone(models.entry(Box::from(name)).or_insert_with(|| Arc::new(Model::new(name))))
    }
}

/// The provider's own books.
#[derive(Debug)]
pub(crate) struct Books {
    life: RwLock<Arc<Life>>,
    capacity: usize,
}

/// What is known about a request when it is entered.
pub(crate) struct Heading<'a> {
    pub(crate) client_request_id: &'a str,
    pub(crate) api_key: &'a Arc<str>,
    pub(crate) model: &'a str,
    pub(crate) provider: &'static str,
    pub(crate) operation: &'static str,
    pub(crate) streamed: bool,
}

impl Books {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { life: RwLock::new(Arc::new(Life::new())), capacity }
    }

    pub(crate) fn enter(&self, heading: &Heading<'_>) -> Entry {
        let life = Arc::clone(&self.life.read());
        life.in_flight.fetch_add(1, Relaxed);
        let model = life.model(heading.model);
        // Numbered under the log's lock: the log is in the order of the numbers.
        let mut log = life.log.lock();
        let record = Arc::new(Record {
            sequence: life.sequence.fetch_add(1, Relaxed) + 1,
            client_request_id: Box::from(heading.client_request_id),
            api_key: Arc::clone(heading.api_key),
            model,
            provider: heading.provider,
            operation: heading.operation,
            at: life.began.elapsed(),
            input: AtomicU64::new(0),
            output: AtomicU64::new(0),
            extras: ExtraCounts::default(),
            streamed: heading.streamed,
            status: AtomicU16::new(0),
            charged: AtomicBool::new(false),
            finished: AtomicBool::new(false),
        });
        if log.len() >= self.capacity {
            log.pop_front();
        }
        if self.capacity > 0 {
            log.push_back(Arc::clone(&record));
        }
        drop(log);
        Entry { record, life, slot: None }
    }

    /// Records after this sequence number, oldest first.
    pub(crate) fn served(&self, after: u64, limit: usize) -> Vec<Served> {
        let life = Arc::clone(&self.life.read());
        let page: Vec<Arc<Record>> = {
            let log = life.log.lock();
            let start = log.partition_point(|record| record.sequence <= after);
            log.range(start..).take(limit).cloned().collect()
        };
        page.iter().map(|record| record.served()).collect()
    }

    pub(crate) fn stats(&self) -> Stats {
        let life = Arc::clone(&self.life.read());
        let statuses = (0u16..).zip(&life.statuses).map(|(status, count)| (status, count.load(Relaxed)));
        let models = life.models.read();
        let sums = |model: &Model| Sums {
            requests: model.requests.load(Relaxed),
            input_tokens: model.input.load(Relaxed),
            output_tokens: model.output.load(Relaxed),
        };
        let Extras { cached, cache_write, characters, images, audio_ms } = life.extras.load();
        Stats {
            cached_tokens: cached,
            cache_write_tokens: cache_write,
            characters,
            images,
            audio_ms,
            requests: life.sequence.load(Relaxed),
            charged_requests: life.charged.load(Relaxed),
            streamed_requests: life.streamed.load(Relaxed),
            input_tokens: life.input.load(Relaxed),
            output_tokens: life.output.load(Relaxed),
            in_flight: life.in_flight.load(Relaxed),
            abandoned: life.abandoned.load(Relaxed),
            connections: 0,
            statuses: statuses.filter(|&(_, count)| count > 0).collect(),
            models: models
                .values()
                .map(|model| (model.name.to_string(), sums(model)))
                .filter(|(_, sums)| sums.requests > 0)
                .collect(),
            keys: BTreeMap::new(),
        }
    }

    pub(crate) fn reset(&self) {
        *self.life.write() = Arc::new(Life::new());
    }
}

impl Record {
    fn served(&self) -> Served {
        let Extras { cached, cache_write, characters, images, audio_ms } = self.extras.load();
        Served {
            cached_tokens: cached,
            cache_write_tokens: cache_write,
            characters,
            images,
            audio_ms,
            provider: self.provider.to_owned(),
            sequence: self.sequence,
            client_request_id: self.client_request_id.to_string(),
            api_key: self.api_key.to_string(),
            model: self.model.name.to_string(),
            operation: self.operation.to_owned(),
            at_ms: u64::try_from(self.at.as_millis()).unwrap_or(u64::MAX),
            input_tokens: self.input.load(Relaxed),
            output_tokens: self.output.load(Relaxed),
            streamed: self.streamed,
            status: self.status.load(Relaxed),
            charged: self.charged.load(Relaxed),
            finished: self.finished.load(Relaxed),
        }
    }
}

/// A request under way. Dropped before [`Entry::finish`], it counts as abandoned.
#[derive(Debug)]
pub(crate) struct Entry {
    record: Arc<Record>,
    life: Arc<Life>,
    /// Given back when the request ends.
    slot: Option<Slot>,
}

impl Entry {
    pub(crate) fn model(&self) -> &Model {
        &self.record.model
    }

    /// The request takes one of those that its key may have under way.
    pub(crate) fn hold(&mut self, slot: Option<Slot>) {
        self.slot = slot;
    }

    /// The answer's head is on its way.
    pub(crate) fn answer(&self, status: u16) {
        self.record.status.store(status, Relaxed);
        if let Some(count) = self.life.statuses.get(usize::from(status)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// An answer was produced, or begins to be: it is charged.
    pub(crate) fn charge(&self, input: u64, output: u64) {
        self.record.input.store(input, Relaxed);
        self.record.charged.store(true, Relaxed);
        self.life.charged.fetch_add(1, Relaxed);
        self.life.streamed.fetch_add(u64::from(self.record.streamed), Relaxed);
        self.life.input.fetch_add(input, Relaxed);
        self.produce(output);
    }

    /// What is charged beside tokens; belongs to a charged request.
    pub(crate) fn charge_extras(&self, extras: Extras) {
        self.record.extras.add(extras);
        self.life.extras.add(extras);
    }

    /// So many more output tokens.
    pub(crate) fn produce(&self, output: u64) {
        self.record.output.fetch_add(output, Relaxed);
        self.life.output.fetch_add(output, Relaxed);
    }

    /// Everything has been handed over.
    pub(crate) fn finish(&self) {
        self.record.finished.store(true, Relaxed);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.life.in_flight.fetch_sub(1, Relaxed);
        if !self.record.finished.load(Relaxed) {
            self.life.abandoned.fetch_add(1, Relaxed);
        }
        if self.record.charged.load(Relaxed) {
            let model = &self.record.model;
            model.requests.fetch_add(1, Relaxed);
            model.input.fetch_add(self.record.input.load(Relaxed), Relaxed);
            model.output.fetch_add(self.record.output.load(Relaxed), Relaxed);
        }
    }
}
