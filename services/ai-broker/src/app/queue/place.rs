//! A caller's place in a line.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::line::{Line, News};
use crate::app::background::Presence;
use crate::domain::queue::{Standing, Ticket};

/// How often a waiting call looks whether its client is still there.
const LOOK: Duration = Duration::from_millis(250);

/// A place in the line; given up when it is dropped.
pub(crate) struct Place {
    line: Arc<Line>,
    ticket: Ticket,
    news: watch::Receiver<News>,
    until: Instant,
}

/// Why a call does not get the turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TurnedAway {
    /// The line is full.
    Full,
    /// It has waited for as long as it may.
    TooLong,
    /// Its client has left.
    Gone,
    /// This broker is shutting down.
    Stopping,
}

impl Place {
    pub(super) const fn new(line: Arc<Line>, ticket: Ticket, news: watch::Receiver<News>, until: Instant) -> Self {
        Self { line, ticket, news, until }
    }

    /// Waits for the turn. `tell` hears where the caller stands, whenever that changes.
    pub(crate) async fn turn(&mut self, client: &Presence, mut tell: impl FnMut(Standing)) -> Result<(), TurnedAway> {
        let mut told = None;
        loop {
            let stopping = self.news.has_changed().is_err();
            match *self.news.borrow_and_update() {
                News::Full => return Err(TurnedAway::Full),
                // Nobody would hear that there was no room after all.
                _ if stopping => return Err(TurnedAway::Stopping),
                News::Turn => return Ok(()),
                News::Waiting(standing) => {
                    if let Some(standing) = standing
                        && told != Some(standing)
                    {
                        told = Some(standing);
                        tell(standing);
                    }
                }
            }
            if client.is_gone() {
                return Err(TurnedAway::Gone);
            }
            let now = Instant::now();
            if now >= self.until {
                return Err(TurnedAway::TooLong);
            }
            if let Ok(Err(_)) = timeout_at(self.until.min(now + LOOK), self.news.changed()).await {
                return Err(TurnedAway::Stopping);
            }
        }
    }

    /// Its turn.
    pub(crate) fn its_turn(&self) -> Turn {
        Turn { line: Arc::clone(&self.line), ticket: self.ticket }
    }

    /// The provider has taken the call.
    pub(crate) fn served(self) {
        self.line.served(self.ticket);
    }

    /// The provider has no room for so long: back to the place.
    pub(crate) fn blocked(&mut self, wait: Duration) {
        self.line.blocked(self.ticket, wait);
    }
}

/// The turn of a call: it may see whether there is room.
pub(crate) struct Turn {
    line: Arc<Line>,
    ticket: Ticket,
}

impl Turn {
    /// There is: others may see whether there is more, while the provider works on this call.
    pub(crate) fn admitted(self) {
        self.line.admitted(self.ticket);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.line.leave(self.ticket);
    }
}
