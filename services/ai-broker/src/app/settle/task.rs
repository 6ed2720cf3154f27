//! The task that tells ended calls to usage and to quota.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use weir_proto::quota::v1::{BatchSettleRequest, Settle, SettleOutcome, settle_outcome};
use weir_proto::usage::v1::usage_service_client::UsageServiceClient;
use weir_proto::usage::v1::{RecordEventsRequest, RecordOutcome, UsageEvent};
use weir_rpc::{Channel, Failure};
use weir_types::OrganizationId;

use super::{BESIDE, Ending, How, Message, SettleOptions, Settler, settled};
use crate::app::Metrics;
use crate::app::reservations::Reservations;

/// One call to usage or quota.
const DEADLINE: Duration = Duration::from_secs(10);
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// At the end: how long nothing must have come.
const LAST: Duration = Duration::from_millis(100);

/// The task that settles.
pub(crate) struct SettlerTask {
    queue: mpsc::Receiver<Message>,
    later: Later,
    waiting: Arc<Mutex<HashMap<OrganizationId, usize>>>,
    reservations: Arc<Reservations>,
    usage: UsageServiceClient<Channel>,
    options: SettleOptions,
    metrics: Arc<Metrics>,
}

/// Endings that quota could not settle yet while it settled others. They keep nobody else waiting.
struct Later {
    endings: Vec<Ending>,
    at: Instant,
    pause: Duration,
}

/// What is to be done next.
enum Next {
    Message(Message),
    /// What could not be settled is tried again.
    Again,
    Nothing,
}

impl SettlerTask {
    pub(crate) fn new(
        reservations: Arc<Reservations>,
        usage: UsageServiceClient<Channel>,
        options: SettleOptions,
        metrics: Arc<Metrics>,
    ) -> (Settler, Self) {
        let (sender, queue) = mpsc::channel(reservations.options.max_unsettled + BESIDE);
        let waiting = Arc::new(Mutex::new(HashMap::new()));
        let settler = Settler { queue: sender, waiting: Arc::clone(&waiting), metrics: Arc::clone(&metrics) };
        let later = Later { endings: Vec::new(), at: Instant::now(), pause: PAUSES.0 };
        (settler, Self { queue, later, waiting, reservations, usage, options, metrics })
    }

    /// Settles until `stop`, and then until the calls under way have ended and are settled too.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let (endings, waiters) = match self.next(&stop).await {
                Next::Message(first) => self.gather(first).await,
                Next::Again => (self.later.take(self.options.batch), Vec::new()),
                Next::Nothing => break,
            };
            if !endings.is_empty() {
                self.settle(endings, &stop).await;
            }
            for waiter in waiters {
                let _ = waiter.send(());
            }
        }
        self.later.endings.iter().for_each(|ending| self.ended(ending));
    }

    async fn next(&mut self, stop: &CancellationToken) -> Next {
        loop {
            tokio::select! {
                biased;
                () = self.later.due() => return Next::Again,
                message = self.queue.recv() => return message.map_or(Next::Nothing, Next::Message),
                () = stop.cancelled() => {}
            }
            match timeout(LAST, self.queue.recv()).await {
                Ok(message) => return message.map_or(Next::Nothing, Next::Message),
                Err(_) if self.later.is_given_up() => return Next::Nothing,
                Err(_) if self.reservations.live() > 0 || !self.later.endings.is_empty() => {}
                Err(_) => return Next::Nothing,
            }
        }
    }

    /// Gathers a batch: what is queued, and what comes while it lingers.
    async fn gather(&mut self, first: Message) -> (Vec<Ending>, Vec<oneshot::Sender<()>>) {
        let (mut endings, mut settled) = (Vec::new(), Vec::new());
        let linger = sleep(self.options.linger);
        tokio::pin!(linger);
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::End(ending) => endings.push(ending),
                Message::Settled(waiter) => settled.push(waiter),
            }
            next = if endings.len() >= self.options.batch {
                None
            } else if settled.is_empty() {
                tokio::select! {
                    biased;
                    message = self.queue.recv() => message,
                    () = &mut linger => None,
                }
            } else {
                self.queue.try_recv().ok()
            };
        }
        (endings, settled)
    }

    /// Settles one batch: again and again until usage and quota have been told. What quota could not settle is tried again later.
    async fn settle(&mut self, mut endings: Vec<Ending>, stop: &CancellationToken) {
        let mut pause = PAUSES.0;
        loop {
            let failure = match self.try_settle(&mut endings).await {
                Ok(()) => return self.later.put(endings),
                Err(failure) => failure,
            };
            self.metrics.settle_failures.increment(1);
            if !failure.is_transient() {
                tracing::error!(error = %failure, calls = endings.len(), "calls can't be settled: they are left to expire and be taken over");
                break;
            }
            tracing::warn!(error = %failure, calls = endings.len(), "calls could not be settled yet");
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(PAUSES.1),
                () = stop.cancelled(), if pause >= PAUSES.1 => break,
            }
        }
        endings.iter().for_each(|ending| self.ended(ending));
    }

    /// Tells all to usage, then to quota. What has ended is taken off; what stays has to be told again.
    async fn try_settle(&self, endings: &mut Vec<Ending>) -> Result<(), Failure> {
        let events: Vec<UsageEvent> = endings.iter().filter_map(Ending::event).cloned().collect();
        let mut recorded = self.record(events).await?.into_iter();
        let settles: Vec<Option<Settle>> = endings
            .iter()
            .map(|ending| match &ending.how {
                How::Release(reason) => Some(ending.release(reason)),
                How::Commit(event) => ending.commit(event, recorded.next()),
            })
            .collect();
        let mut asked: Vec<bool> = settles.iter().map(Option::is_some).rev().collect();
        let mut outcomes = self.tell(settles.into_iter().flatten().collect()).await?.into_iter();
        endings.retain(|ending| {
            let stays = asked.pop() == Some(true) && self.is_unsettled(outcomes.next());
            if !stays {
                self.ended(ending);
            }
            stays
        });
        Ok(())
    }

    async fn record(&self, events: Vec<UsageEvent>) -> Result<Vec<RecordOutcome>, Failure> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let mut request = tonic::Request::new(RecordEventsRequest { events });
        request.set_timeout(DEADLINE);
        let answer = self.usage.clone().record_events(request).await.map_err(|status| Failure::from(&status))?;
        Ok(answer.into_inner().outcomes)
    }

    async fn tell(&self, settles: Vec<Settle>) -> Result<Vec<SettleOutcome>, Failure> {
        if settles.is_empty() {
            return Ok(Vec::new());
        }
        let mut request = tonic::Request::new(BatchSettleRequest { settles });
        request.set_timeout(DEADLINE);
        let answer = self.reservations.quota.clone().batch_settle(request).await;
        let answer = answer.map_err(|status| Failure::from(&status))?;
        self.metrics.settle_batches.increment(1);
        Ok(answer.into_inner().outcomes)
    }

    /// Whether a settlement has to be asked for again. It may be durable already while not all of quota's stores know: left alone
    /// it would expire, and be charged although it was released.
    fn is_unsettled(&self, outcome: Option<SettleOutcome>) -> bool {
        let failure = match outcome.and_then(|outcome| outcome.outcome) {
            Some(settle_outcome::Outcome::Error(error)) => Failure::from(error),
            Some(_) => return false,
            None => return true,
        };
        if failure.is_transient() {
            tracing::warn!(error = %failure, "a settlement has to be told to quota again");
            self.metrics.settle_failures.increment(1);
            return true;
        }
        tracing::error!(error = %failure, "quota refused a settlement");
        self.metrics.settle_refusals.increment(1);
        false
    }

    /// One call less of its organisation waits.
    fn ended(&self, ending: &Ending) {
        settled(&self.waiting, ending.organization);
    }
}

impl Later {
    /// When they are to be tried again; never if there are none.
    async fn due(&self) {
        match self.endings.is_empty() {
            true => std::future::pending().await,
            false => sleep_until(self.at).await,
        }
    }

    /// The first ones, to be tried again.
    fn take(&mut self, most: usize) -> Vec<Ending> {
        self.pause = (self.pause * 2).min(PAUSES.1);
        self.endings.drain(..self.endings.len().min(most)).collect()
    }

    /// Behind those that there are.
    fn put(&mut self, endings: Vec<Ending>) {
        self.endings.extend(endings);
        let now = Instant::now();
        if self.endings.is_empty() {
            self.pause = PAUSES.0;
        } else if self.at <= now {
            self.at = now + self.pause;
        }
    }

    /// They have been tried for so long that, at the end, they are left to expire and be taken over.
    fn is_given_up(&self) -> bool {
        !self.endings.is_empty() && self.pause >= PAUSES.1
    }
}
