//! Answers that are given again: to the same request later, from Redis or, a moment after that, from memory; and to those who ask while
//! it is under way.
//!
//! A cache that is slow or away is a miss, never an error. Only whole answers with the provider's own count are kept, encrypted, and
//! only where the route, the organisation and the request allow it.

mod again;
mod at_hand;
mod flights;
mod hits;
mod manage;
mod metrics;
mod policies;
mod reuse;
mod stored;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use weir_config::MasterKey;
use weir_database::Database;
use weir_host::Context;
use weir_proto::broker::v1::{Accounting, InvokeResponse};
use weir_proto::usage::v1::usage_service_client::UsageServiceClient;
use weir_redis::Redis;
use weir_rpc::Channel;
use weir_types::Clock;

use super::call::ModelCall;
use super::tape::{Played, Tape};
use crate::domain::cache::{PURPOSE, Question, Scope, Terms, Texts, Wish, has_effects, terms};
use crate::domain::sealing::{Name, Seal, TenantKeys};
use crate::storage::answers::{Answers, Generation, NewEntry};

use again::Paths;
use at_hand::AtHand;
use flights::Flights;
use hits::Hits;
use metrics::CacheMetrics;
use policies::Policies;
use stored::Stored;

/// How answers are kept; `config.defaults.toml` says what each means.
#[derive(Debug, Clone)]
pub(crate) struct CacheOptions {
    pub(crate) deadline: Duration,
    pub(crate) max_entry_bytes: usize,
    pub(crate) max_tenant_bytes: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) ignore: Vec<String>,
}

/// The owner of what all organisations share that allow it.
const SHARED: &str = "shared";
/// Answers that are being stored at once; beyond it they are not kept.
const WRITES: usize = 64;
/// Nobody waits for an answer to be stored.
const WRITE_DEADLINE: Duration = Duration::from_secs(1);
/// Owners whose keys are at hand.
const OWNERS: u64 = 10_000;

/// Answers that are given again.
pub(crate) struct Cache {
    /// None without Redis.
    answers: Option<Answers>,
    at_hand: AtHand,
    paths: Paths,
    policies: Policies,
    master: MasterKey,
    keys: moka::sync::Cache<String, Arc<TenantKeys>>,
    texts: Texts,
    options: CacheOptions,
    flights: Arc<Flights>,
    hits: Hits,
    metrics: CacheMetrics,
    clock: Arc<dyn Clock>,
    tasks: TaskTracker,
    writes: Arc<Semaphore>,
}

/// What there is for a call.
enum Found {
    Hit(Hit, Arc<Stored>),
    Miss(Miss),
}

/// Where an answer was found, and how old it may become.
#[derive(Clone, Copy)]
struct Hit {
    name: Name,
    ttl: Duration,
}

/// What is to be done with a call that has to be made.
#[derive(Default)]
struct Miss {
    /// Where its answer is kept.
    slot: Option<Box<Slot>>,
    /// Under which others may wait for it.
    flight: Option<Name>,
}

/// Where an answer is kept.
pub(crate) struct Slot {
    owner: String,
    name: Name,
    seal: Seal,
    generation: Generation,
    ttl: Duration,
    /// Who has to have answered: the answer of a stand-in is not kept.
    provider: String,
    model: String,
}

impl Cache {
    /// Begins to record hits.
    pub(crate) fn start(
        redis: Option<Redis>,
        database: Database,
        usage: UsageServiceClient<Channel>,
        options: CacheOptions,
        context: &Context,
    ) -> Arc<Self> {
        let (hits, recorder) = Hits::new(usage);
        context.tasks.spawn(recorder.run(context.shutdown.clone()));
        Arc::new(Self {
            answers: redis.map(Answers::new),
            at_hand: AtHand::new(options.memory_bytes),
            paths: Paths::default(),
            policies: Policies::new(database),
            master: context.master.clone(),
            keys: moka::sync::Cache::new(OWNERS),
            texts: Texts::without(options.ignore.clone()),
            options,
            flights: Arc::default(),
            hits,
            metrics: CacheMetrics::new(),
            clock: Arc::clone(&context.clock),
            tasks: context.tasks.clone(),
            writes: Arc::new(Semaphore::new(WRITES)),
        })
    }

    /// Looks for an answer to the call that may be given again.
    async fn find(&self, call: &ModelCall, wish: &Wish) -> Found {
        let route = call.route.reuse;
        let together = route.coalesce && call.may_be_shared() && !wish.no_store && !wish.no_cache;
        if (route.ttl.is_zero() && !together) || has_effects(&call.request, &call.exchange.body) {
            return Found::Miss(Miss::default());
        }
        let tenant = match &self.answers {
            Some(_) if !route.ttl.is_zero() => self.policies.of(call.caller.organization).await,
            _ => Default::default(),
        };
        let kept = terms(route, tenant, wish);
        if kept.is_none() && !together {
            return Found::Miss(Miss::default());
        }
        let scope = kept.map_or(route.scope, |kept| kept.scope);
        let own = call.caller.organization.to_string();
        let question = self.question(call, wish, scope);
        let named = |owner: &str| question.named(|parts| self.keys(owner).name(parts.iter().copied()));
        // Calls under way are never those of others.
        let flight = together.then(|| named(&own));
        let (Some(kept), Some(answers)) = (kept, &self.answers) else {
            return Found::Miss(Miss { slot: None, flight });
        };
        let owner = if kept.scope == Scope::Shared { SHARED.to_owned() } else { own };
        let name = match flight {
            Some(name) if owner != SHARED => name,
            _ => named(&owner),
        };
        match self.look(answers, owner, name, kept, call, wish).await {
            Ok(stored) => Found::Hit(Hit { name, ttl: kept.ttl }, stored),
            Err(slot) => Found::Miss(Miss { slot, flight }),
        }
    }

    fn question<'a>(&'a self, call: &'a ModelCall, wish: &'a Wish, scope: Scope) -> Question<'a> {
        let subject = &call.caller.subject;
        let user = if subject.user.is_empty() { &subject.api_key } else { &subject.user };
        Question {
            provider: &call.route.provider,
            request: &call.request,
            exchange: &call.exchange,
            headers: call.own_headers(),
            asker: (scope == Scope::User).then_some(user),
            wish,
            texts: &self.texts,
        }
    }

    /// Looks at hand, then asks Redis; else says where an answer may be kept.
    async fn look(
        &self,
        answers: &Answers,
        owner: String,
        name: Name,
        kept: Terms,
        call: &ModelCall,
        wish: &Wish,
    ) -> Result<Arc<Stored>, Option<Box<Slot>>> {
        let max_age = wish.max_age.map_or(kept.ttl, |max| max.min(kept.ttl));
        let is_fresh = |stored: &Arc<Stored>| !wish.no_cache && stored.age(self.clock.now()) < max_age;
        if let Some(stored) = self.at_hand.get(&name).filter(is_fresh) {
            self.metrics.hits.increment(1);
            return Ok(stored);
        }
        let asked = Instant::now();
        let looked = match tokio::time::timeout(self.options.deadline, answers.look(&owner, &name)).await {
            Ok(Ok(looked)) if looked.is_off() => return Err(None),
            Ok(Ok(looked)) => looked,
            Ok(Err(_)) | Err(_) => {
                self.metrics.unavailable.increment(1);
                return Err(None);
            }
        };
        let seal = self.keys(&owner).seal([name.as_slice()]);
        let entry = looked.entry.filter(|_| !wish.no_cache);
        let stored = entry.and_then(|entry| Stored::open(&seal, &name, entry));
        let stored = stored.map(|stored| Arc::new(if call.request.stream { stored } else { stored.marked() }));
        if let Some(stored) = stored.filter(is_fresh) {
            self.metrics.hits.increment(1);
            self.at_hand.put(name, Arc::clone(&stored), asked);
            return Ok(stored);
        }
        self.metrics.misses.increment(1);
        let (provider, model) = (call.route.provider.clone(), call.route.model.clone());
        let generation = looked.generation;
        Err(Some(Box::new(Slot { owner, name, seal, generation, ttl: kept.ttl, provider, model })))
    }

    /// Keeps an answer in the background, if it is one to be kept.
    pub(crate) fn keep(self: &Arc<Self>, slot: Box<Slot>, answer: &InvokeResponse) {
        let Some(accounting) = &answer.accounting else { return };
        let InvokeResponse { body, content_type, .. } = answer.clone();
        if slot.takes(accounting) {
            self.store(slot, Stored::new(body, content_type, accounting.clone(), self.clock.now()));
        }
    }

    /// The same of a stream.
    pub(crate) fn keep_stream(self: &Arc<Self>, slot: Box<Slot>, played: Played) {
        let Played::Whole(tape) = played else { return };
        let Tape { content_type, body, accounting } = *tape;
        match body {
            Some(body) if slot.takes(&accounting) => {
                self.store(slot, Stored::new(body, content_type, accounting, self.clock.now()));
            }
            Some(_) => {}
            None => self.metrics.too_large.increment(1),
        }
    }

    fn store(self: &Arc<Self>, slot: Box<Slot>, stored: Stored) {
        if stored.len() > self.options.max_entry_bytes {
            self.metrics.too_large.increment(1);
            return;
        }
        let Ok(permit) = Arc::clone(&self.writes).try_acquire_owned() else {
            self.metrics.unstored.increment(1);
            return;
        };
        let cache = Arc::clone(self);
        self.tasks.spawn(async move {
            let written = tokio::time::timeout(WRITE_DEADLINE, cache.write(&slot, &stored)).await;
            let counter = if written == Ok(Some(true)) { &cache.metrics.stored } else { &cache.metrics.unstored };
            counter.increment(1);
            drop(permit);
        });
    }

    async fn write(&self, slot: &Slot, stored: &Stored) -> Option<bool> {
        let sealed = stored.sealed(&slot.seal, &slot.name)?;
        let new = NewEntry {
            owner: &slot.owner,
            name: &slot.name,
            generation: &slot.generation,
            fresh: fresh()?,
            sealed: &sealed,
            ttl: slot.ttl,
            most: self.options.max_tenant_bytes,
        };
        let stored = self.answers.as_ref()?.store(&new).await.ok();
        self.at_hand.forget(&slot.name);
        stored
    }

    /// The keys of an owner.
    fn keys(&self, owner: &str) -> Arc<TenantKeys> {
        if let Some(keys) = self.keys.get(owner) {
            return keys;
        }
        let keys = Arc::new(TenantKeys::of(&self.master, PURPOSE, owner));
        self.keys.insert(owner.to_owned(), Arc::clone(&keys));
        keys
    }
}

impl Slot {
    /// Whether it is the answer of whom was asked first, with that provider's own count, and not one that a caller paid himself.
    fn takes(&self, accounting: &Accounting) -> bool {
        let is_ours = accounting.provider_key.is_empty() && !accounting.estimated;
        is_ours && accounting.provider == self.provider && accounting.model == self.model
    }
}

/// A generation that there never was.
fn fresh() -> Option<[u8; 16]> {
    let mut fresh = [0; 16];
    SystemRandom::new().fill(&mut fresh).ok()?;
    Some(fresh)
}
