//! The line of each key, first in, first out, and the jobs that can still be asked for.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::job::Job;
use super::webhook::Signer;
use crate::Error;
use crate::options::Options;

/// Jobs that can be asked for; the oldest is forgotten first.
const REMEMBERED: usize = 100_000;

#[derive(Debug)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    signer: Signer,
    runners: usize,
}

#[derive(Debug, Default)]
struct Inner {
    jobs: HashMap<String, Arc<Job>>,
    order: VecDeque<String>,
    lines: HashMap<Box<str>, Line>,
    next: u64,
}

/// The jobs of one key.
#[derive(Debug)]
struct Line {
    /// Sequences of those that wait.
    waiting: BTreeSet<u64>,
    /// Given in the order in which they are asked for.
    runners: Arc<Semaphore>,
}

impl Queue {
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        if options.runners == 0 {
            return Err(Error::Options("a queue without a runner never moves".to_owned()));
        }
        Ok(Self { inner: Mutex::default(), signer: Signer::new()?, runners: options.runners })
    }

    /// Puts a job at the end of its key's line; it may run once it gets one of the runners.
    pub(crate) fn enter(&self, id: String, app: String, secret: &str) -> (Arc<Job>, Arc<Semaphore>) {
        let mut inner = self.inner.lock();
        let sequence = inner.next;
        inner.next += 1;
        let job = Arc::new(Job::new(id, app, secret, sequence));
        if inner.order.len() >= REMEMBERED
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.jobs.remove(&oldest);
        }
        inner.order.push_back(job.id.clone());
        inner.jobs.insert(job.id.clone(), Arc::clone(&job));
        let runners = self.runners;
        let line = inner
            .lines
            .entry(Box::from(secret))
            .or_insert_with(|| Line { waiting: BTreeSet::new(), runners: Arc::new(Semaphore::new(runners)) });
        line.waiting.insert(sequence);
        (job, Arc::clone(&line.runners))
    }

    /// The job stands in line no more.
    pub(crate) fn leave(&self, job: &Job) {
        if let Some(line) = self.inner.lock().lines.get_mut(&job.secret) {
            line.waiting.remove(&job.sequence);
        }
    }

    /// How many stand before it.
    pub(crate) fn position(&self, job: &Job) -> usize {
        let inner = self.inner.lock();
        inner.lines.get(&job.secret).map_or(0, |line| line.waiting.range(..job.sequence).count())
    }

    pub(crate) fn find(&self, secret: &str, id: &str) -> Option<Arc<Job>> {
        self.inner.lock().jobs.get(id).filter(|job| &*job.secret == secret).cloned()
    }

    pub(crate) fn signer(&self) -> &Signer {
        &self.signer
    }

    /// The key that webhooks are signed with, as a JSON Web Key Set.
    pub(crate) fn jwks(&self) -> Bytes {
        Bytes::from(self.signer.jwks().to_string())
    }

    /// Cancels and forgets every job.
    pub(crate) fn clear(&self) {
        let mut inner = self.inner.lock();
        for job in inner.jobs.values() {
            job.cancel.cancel();
        }
        let next = inner.next;
        *inner = Inner { next, ..Inner::default() };
    }
}
