//! Sends many requests over many connections, as fast as they are answered or at their own times.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use crate::client::{Connection, Ending, Observed, Request};

/// How a load is sent.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Where to.
    pub address: SocketAddr,
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// How many requests, numbered from 0.
    pub requests: usize,
    /// How long a request that was turned away before it was begun (refused connection, 429, 503) is tried again.
    pub patience: Duration,
}

/// What became of the requests.
#[derive(Debug, Default)]
pub struct Outcome {
    /// By the request's number, each with how late it was sent.
    pub answers: Vec<(usize, Duration, Observed)>,
    /// Requests that were turned away and tried again, by what they were told.
    pub turned_away: BTreeMap<String, usize>,
    /// From the first request to the last answer.
    pub took: Duration,
}

/// Between two attempts, where the server does not say.
const PAUSE: Duration = Duration::from_millis(50);

/// Sends the requests that `request` makes, each not before `due` has passed since the start, if it is due at all; `progress` hears of each answer.
pub async fn send(
    plan: Plan,
    request: impl Fn(usize) -> Request,
    due: impl Fn(usize) -> Option<Duration>,
    progress: impl Fn(&Observed),
) -> Outcome {
    let (next, told, start) = (Cell::new(0), RefCell::new(BTreeMap::new()), Instant::now());
    let worker = async || {
        let mut connection = Connection::new(plan.address);
        let mut answers = Vec::new();
        loop {
            let number = next.get();
            if number >= plan.requests {
                return answers;
            }
            next.set(number + 1);
            let mut late = Duration::ZERO;
            if let Some(due) = due(number) {
                tokio::time::sleep_until(start + due).await;
                late = (start + due).elapsed();
            }
            let request = request(number);
            let until = Instant::now() + plan.patience;
            let observed = loop {
                let observed = connection.send(&request).await;
                if !turned_away(&observed) || Instant::now() >= until {
                    break observed;
                }
                *told.borrow_mut().entry(observed.reason()).or_default() += 1;
                tokio::time::sleep(observed.retry_after.unwrap_or(PAUSE).min(Duration::from_secs(2))).await;
            };
            progress(&observed);
            answers.push((number, late, observed));
        }
    };
    let workers = join_all((0..plan.connections.min(plan.requests)).map(|_| worker())).await;
    let took = start.elapsed();
    let mut answers: Vec<_> = workers.into_iter().flatten().collect();
    answers.sort_by_key(|(number, ..)| *number);
    Outcome { answers, turned_away: told.into_inner(), took }
}

impl Outcome {
    /// Requests that were turned away and tried again.
    #[must_use]
    pub fn retries(&self) -> usize {
        self.turned_away.values().sum()
    }
}

/// Whether the server says that nothing was begun.
fn turned_away(observed: &Observed) -> bool {
    matches!(observed.ending, Ending::Unreachable(_)) || matches!(observed.status, 429 | 503)
}
