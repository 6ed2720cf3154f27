//! Walks three lists that are ordered by id, one id at a time.

use futures::{Stream, StreamExt as _};
use uuid::Uuid;

use crate::books::Books;
use crate::check::{Check, Finding};
use crate::record::{Event, Rated, Record, Settlement};
use crate::rows::Row;

/// Reads all three streams to their ends, in step and without holding any of them in memory, and enters every id into the books.
pub(crate) async fn merge<E>(
    settlements: impl Stream<Item = Result<Settlement, E>> + Unpin,
    events: impl Stream<Item = Result<Event, E>> + Unpin,
    rated: impl Stream<Item = Result<Rated, E>> + Unpin,
    books: &mut Books,
) -> Result<(), E> {
    let mut settlements = Cursor::new("quota", settlements);
    let mut events = Cursor::new("usage", events);
    let mut rated = Cursor::new("billing", rated);
    // Side by side, so that three services answer at once.
    let (first, second, third) = futures::join!(settlements.advance(), events.advance(), rated.advance());
    first.and(second).and(third)?;
    while let Some(id) = [settlements.id(), events.id(), rated.id()].into_iter().flatten().min() {
        let row = Row { id, settlement: settlements.take(id), event: events.take(id), rated: rated.take(id) };
        books.enter(&row);
        settlements.advance().await?;
        events.advance().await?;
        rated.advance().await?;
        for (service, id) in [settlements.disorder(), events.disorder(), rated.disorder()].into_iter().flatten() {
            books.find(Finding::new(Check::Order, id.to_string(), service));
        }
    }
    Ok(())
}

/// A stream with its next record at hand.
struct Cursor<S, T> {
    service: &'static str,
    stream: S,
    next: Option<T>,
    last: Option<Uuid>,
    disorder: Option<Uuid>,
    ended: bool,
}

impl<S, T, E> Cursor<S, T>
where
    S: Stream<Item = Result<T, E>> + Unpin,
    T: Record,
{
    fn new(service: &'static str, stream: S) -> Self {
        Self { service, stream, next: None, last: None, disorder: None, ended: false }
    }

    fn id(&self) -> Option<Uuid> {
        self.next.as_ref().map(Record::id)
    }

    /// The record at hand if it has this id.
    fn take(&mut self, id: Uuid) -> Option<T> {
        self.next.take_if(|record| record.id() == id)
    }

    /// Fetches the next record unless one is at hand.
    async fn advance(&mut self) -> Result<(), E> {
        if self.next.is_some() || self.ended {
            return Ok(());
        }
        self.next = self.stream.next().await.transpose()?;
        match (&self.next, self.last) {
            (Some(record), Some(last)) if record.id() <= last => self.disorder = Some(record.id()),
            (None, _) => self.ended = true,
            _ => {}
        }
        self.last = self.id().or(self.last);
        Ok(())
    }

    fn disorder(&mut self) -> Option<(&'static str, Uuid)> {
        self.disorder.take().map(|id| (self.service, id))
    }
}
