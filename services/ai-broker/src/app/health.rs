//! What brokers tell each other about the providers' keys: who rests and for how long, within the time of one look.
//!
//! What a call finds out counts here at once and is told to the others in the same moment; they look every
//! `broker.rests.look`. Without Redis, or while it does not answer, each broker goes by what it has found out itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use metrics::{describe_gauge, gauge};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::fleet::Fleet;
use crate::domain::keys::{Kind, News};
use crate::provider::Provider;
use crate::storage::health::{SharedHealth, Subject};

/// Where calls leave what they found out about keys. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Health(Arc<Desk>);

/// Until when keys rest, or that they are well. The last word on each counts.
type Words = BTreeMap<Subject, Option<(Instant, Kind)>>;

struct Desk {
    shared: Option<SharedHealth>,
    /// How long a key that has rested is tried by one call alone.
    probe: Duration,
    /// Not told yet, by provider.
    news: Mutex<HashMap<String, Words>>,
    told: Notify,
}

impl Health {
    pub(crate) fn new(shared: Option<SharedHealth>, probe: Duration) -> Self {
        Self(Arc::new(Desk { shared, probe, news: Mutex::default(), told: Notify::new() }))
    }

    /// A call has found something out about a provider's key.
    pub(crate) fn tell(&self, provider: &str, key: &str, news: Vec<News>) {
        if self.0.shared.is_none() {
            return;
        }
        let now = Instant::now();
        let mut waiting = self.0.news.lock();
        let of_provider = waiting.entry(provider.to_owned()).or_default();
        for News { model, rest } in news {
            of_provider.insert(Subject { key: key.to_owned(), model }, rest.map(|(span, kind)| (now + span, kind)));
        }
        drop(waiting);
        self.0.told.notify_one();
    }

    /// Whether this broker may try a key that has rested; one of all may. Without the others' word it may.
    pub(crate) async fn may_try(&self, provider: &str, key: &str, model: &str) -> bool {
        let Some(shared) = &self.0.shared else { return true };
        shared.may_try(provider, key, model, self.0.probe).await.unwrap_or(true)
    }

    /// Tells and hears, every `look` and whenever there is news, until `stop`.
    pub(crate) async fn run(self, fleets: watch::Receiver<Arc<Fleet>>, look: Duration, stop: CancellationToken) {
        describe_gauge!("weir_broker_keys_up", "Keys of a provider that do not rest as a whole.");
        let mut versions: HashMap<String, Vec<u8>> = HashMap::new();
        loop {
            tokio::select! {
                () = self.0.told.notified() => {}
                () = tokio::time::sleep(look) => {}
                () = stop.cancelled() => return,
            }
            let fleet = Arc::clone(&fleets.borrow());
            versions.retain(|name, _| fleet.providers.contains_key(name));
            let heard = join_all(fleet.providers.values().map(async |provider| {
                let version = versions.get(&provider.name).cloned().unwrap_or_default();
                let version = self.exchange(provider, version).await;
                // A gauge of floats; nobody has so many keys.
                let up = u32::try_from(provider.keys.up(Instant::now())).unwrap_or(u32::MAX);
                gauge!("weir_broker_keys_up", "provider" => provider.name.clone()).set(up);
                (provider.name.clone(), version)
            }));
            versions.extend(heard.await);
        }
    }

    /// Tells and hears what there is about the keys of one provider; answers the version that is known now.
    async fn exchange(&self, provider: &Provider, version: Vec<u8>) -> Vec<u8> {
        let Some(shared) = &self.0.shared else { return version };
        let news = self.0.news.lock().remove(&provider.name).unwrap_or_default();
        let now = Instant::now();
        let spans = news.iter().map(|(subject, rest)| {
            (subject.clone(), rest.map(|(until, kind)| (until.saturating_duration_since(now), kind)))
        });
        let spans: Vec<_> = spans.collect();
        let known = match shared.exchange(&provider.name, &version, &spans).await {
            Ok(known) => known,
            Err(error) => {
                tracing::debug!(provider = provider.name, %error, "brokers can't tell each other about keys now");
                self.keep(&provider.name, news);
                return version;
            }
        };
        for (subject, _) in &spans {
            provider.keys.said(&subject.key, &subject.model);
        }
        let now = Instant::now();
        for (Subject { key, model }, rest) in known.rests.into_iter().flatten() {
            provider.keys.hear(&key, &model, rest.map(|(span, kind)| (now + span, kind)));
        }
        known.version
    }

    /// For the next time, unless there is a newer word.
    fn keep(&self, provider: &str, news: Words) {
        let mut waiting = self.0.news.lock();
        let of_provider = waiting.entry(provider.to_owned()).or_default();
        for (subject, rest) in news {
            of_provider.entry(subject).or_insert(rest);
        }
    }
}
