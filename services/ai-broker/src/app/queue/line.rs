//! This broker's side of one line: what its calls have to say, gathered and said together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use weir_types::OrganizationId;

use super::QueueOptions;
use super::place::Place;
use crate::domain::queue::{Millis, Standing, Ticket};
use crate::storage::lines::{self, Answer, Lines, Word};

/// After the store did not answer.
const PAUSE: Duration = Duration::from_millis(100);

/// What a waiting call hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// It waits; where, once that is known.
    Waiting(Option<Standing>),
    /// It is its turn.
    Turn,
    /// The line is full.
    Full,
}

/// A call that has to wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Newcomer {
    pub(crate) tenant: OrganizationId,
    /// The plan's; higher goes first.
    pub(crate) priority: i32,
    /// What it takes of the provider; at least 1.
    pub(crate) cost: u32,
    /// When its request came.
    pub(crate) since: Instant,
    /// When it has waited long enough.
    pub(crate) until: Instant,
}

/// One line, as this broker knows it.
#[derive(Debug, Default)]
pub(crate) struct Line {
    desk: Mutex<Desk>,
    said: Notify,
    /// Somebody waits, here or elsewhere.
    busy: AtomicBool,
}

#[derive(Debug, Default)]
struct Desk {
    /// Not said yet.
    words: Vec<Word>,
    /// In the order in which they came.
    waiting: BTreeMap<Ticket, Waiting>,
    /// Nobody is let in any more.
    closed: bool,
}

#[derive(Debug)]
struct Waiting {
    newcomer: Newcomer,
    news: watch::Sender<News>,
    /// Since when it has the turn.
    turn: Option<Instant>,
    /// It has found room, or has looked for it as long as a turn lasts: it does not wait any more, unless it is blocked.
    admitted: bool,
    /// It has the turn, or something to say that the line has not heard: what the line says of its turn is out of date.
    deaf: bool,
}

impl Line {
    /// Whether a call has to wait behind others.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Gets in line; is turned away after the shutdown.
    pub(crate) fn join(self: &Arc<Self>, newcomer: Newcomer) -> Place {
        let ticket = Ticket(Uuid::now_v7());
        let (sender, news) = watch::channel(News::Waiting(None));
        let mut desk = self.desk.lock();
        if !desk.closed {
            desk.words.push(joins(ticket, &newcomer));
            desk.words.push(Word::Asks(ticket));
            desk.waiting.insert(ticket, Waiting { newcomer, news: sender, turn: None, admitted: false, deaf: false });
            self.busy.store(true, Ordering::Relaxed);
        }
        drop(desk);
        self.said.notify_one();
        Place::new(Arc::clone(self), ticket, news, newcomer.until)
    }

    pub(super) fn admitted(&self, ticket: Ticket) {
        let mut desk = self.desk.lock();
        if let Some(waiting) = desk.waiting.get_mut(&ticket)
            && !std::mem::replace(&mut waiting.admitted, true)
        {
            desk.words.push(Word::Admitted(ticket));
            drop(desk);
            self.said.notify_one();
        }
    }

    pub(super) fn served(&self, ticket: Ticket) {
        self.end(ticket, Word::Served(ticket));
    }

    pub(super) fn leave(&self, ticket: Ticket) {
        self.end(ticket, Word::Leaves(ticket));
    }

    fn end(&self, ticket: Ticket, word: Word) {
        let mut desk = self.desk.lock();
        if desk.waiting.remove(&ticket).is_some() {
            desk.words.push(word);
            drop(desk);
            self.said.notify_one();
        }
    }

    pub(super) fn blocked(&self, ticket: Ticket, wait: Duration) {
        let mut desk = self.desk.lock();
        if let Some(waiting) = desk.waiting.get_mut(&ticket) {
            (waiting.turn, waiting.admitted, waiting.deaf) = (None, false, true);
            waiting.news.send_replace(News::Waiting(None));
            self.busy.store(true, Ordering::Relaxed);
        }
        desk.words.push(Word::Blocked(ticket, millis(wait)));
        // Its caller is told at once where it stands now.
        desk.words.push(Word::Asks(ticket));
        drop(desk);
        self.said.notify_one();
    }

    /// Talks to the line until the shutdown. Then its calls leave, so that others need not wait for this broker's lease to end.
    pub(crate) async fn run(
        self: Arc<Self>,
        provider: String,
        lines: Lines,
        options: QueueOptions,
        stop: CancellationToken,
    ) {
        let mut told = Instant::now();
        while !stop.is_cancelled() {
            let beat = told.elapsed() >= options.beat;
            let Some(words) = self.take(beat, options.turn) else {
                tokio::select! {
                    () = self.said.notified() => {}
                    () = stop.cancelled() => {}
                }
                continue;
            };
            if beat {
                told = Instant::now();
            }
            let sleep = match lines.exchange(&provider, &words, options.turns, None).await {
                Ok(answer) => self.hear(&words, &answer, options),
                Err(error) => {
                    tracing::warn!(provider, %error, "the line of waiting calls does not answer");
                    self.repeat(words);
                    PAUSE
                }
            };
            tokio::select! {
                () = self.said.notified() => {}
                () = tokio::time::sleep(sleep) => {}
                () = stop.cancelled() => {}
            }
        }
        let last = self.close();
        if !last.is_empty() && lines.exchange(&provider, &last, options.turns, None).await.is_err() {
            tracing::debug!(provider, "the line does not know yet that this broker has gone");
        }
    }

    /// Turns everybody away; answers what remains to be said.
    fn close(&self) -> Vec<Word> {
        let mut desk = self.desk.lock();
        desk.closed = true;
        let mut words = std::mem::take(&mut desk.words);
        words.retain(|word| !matches!(word, Word::Asks(_)));
        words.extend(std::mem::take(&mut desk.waiting).into_keys().map(Word::Leaves));
        words
    }

    /// Everything that is to be said; none if there is nothing and nobody waits.
    fn take(&self, beat: bool, turn: Duration) -> Option<Vec<Word>> {
        let mut desk = self.desk.lock();
        self.busy.store(desk.waiting.values().any(|waiting| !waiting.admitted), Ordering::Relaxed);
        if desk.words.is_empty() && desk.waiting.is_empty() {
            return None;
        }
        let mut words = std::mem::take(&mut desk.words);
        for (ticket, waiting) in &mut desk.waiting {
            waiting.deaf = waiting.turn.is_some();
            // Who has not been refused by now is being served.
            if !waiting.admitted && waiting.turn.is_some_and(|since| since.elapsed() >= turn) {
                waiting.admitted = true;
                words.push(Word::Admitted(*ticket));
            }
            if beat && !waiting.admitted {
                words.push(Word::Asks(*ticket));
            }
        }
        Some(words)
    }

    /// Says it again: each word is understood once.
    fn repeat(&self, mut words: Vec<Word>) {
        let mut desk = self.desk.lock();
        words.append(&mut desk.words);
        desk.words = words;
    }

    /// Passes on what the line answers; answers how long there will be nothing new.
    fn hear(&self, words: &[Word], answer: &Answer, options: QueueOptions) -> Duration {
        let mut desk = self.desk.lock();
        let joined = words.iter().filter_map(|word| match word {
            Word::Join(newcomer) => Some(newcomer.ticket),
            _ => None,
        });
        for (ticket, joined) in joined.zip(&answer.joined) {
            if !joined && let Some(waiting) = desk.waiting.remove(&ticket) {
                waiting.news.send_replace(News::Full);
            }
        }
        let asked = words.iter().filter_map(|word| match word {
            Word::Asks(ticket) => Some(*ticket),
            _ => None,
        });
        for (ticket, standing) in asked.zip(&answer.standings) {
            let Some(waiting) = desk.waiting.get(&ticket).filter(|waiting| !waiting.deaf) else { continue };
            match standing {
                Some(_) => drop(waiting.news.send_replace(News::Waiting(*standing))),
                // The store has lost it, or thought this broker dead.
                None => {
                    let word = joins(ticket, &waiting.newcomer);
                    desk.words.push(word);
                }
            }
        }
        for ticket in &answer.turns {
            match desk.waiting.get_mut(ticket) {
                Some(waiting) if waiting.deaf => {}
                Some(waiting) => {
                    waiting.turn.get_or_insert_with(Instant::now);
                    waiting.news.send_replace(News::Turn);
                }
                // Its caller left before the line knew it.
                None => desk.words.push(Word::Leaves(*ticket)),
            }
        }
        if !desk.words.is_empty() {
            return Duration::ZERO;
        }
        let wait = answer.wake_at.map_or(Millis::MAX, |wake_at| wake_at.saturating_sub(answer.now));
        Duration::from_millis(u64::try_from(wait).unwrap_or(0)).clamp(options.look, options.beat.max(options.look))
    }
}

/// What a call says when it joins, for the first time or again.
fn joins(ticket: Ticket, newcomer: &Newcomer) -> Word {
    Word::Join(lines::Newcomer {
        ticket,
        tenant: newcomer.tenant,
        priority: newcomer.priority,
        cost: newcomer.cost,
        waited: millis(newcomer.since.elapsed()),
        patience: millis(newcomer.until.saturating_duration_since(Instant::now())),
    })
}

fn millis(span: Duration) -> Millis {
    Millis::try_from(span.as_millis()).unwrap_or(Millis::MAX)
}
