//! What becomes of events, given what the books say about their ids: the one place where that is decided.

use std::collections::HashMap;
use std::sync::OnceLock;

use weir_types::{OrganizationId, ReservationId};

use super::{Event, PayloadHash, RollupKey, SumOverflow, Sums};

/// A valid event on its way into the books.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The event.
    pub event: Event,
    hash: OnceLock<PayloadHash>,
}

impl Entry {
    /// An entry for `event`.
    #[must_use]
    pub const fn new(event: Event) -> Self {
        Self { event, hash: OnceLock::new() }
    }

    /// The event's hash. Computed when it is asked for: for almost all events that is when their row is written, while the
    /// database is busy with the rows before.
    #[must_use]
    pub fn hash(&self) -> PayloadHash {
        *self.hash.get_or_init(|| PayloadHash::of(&self.event))
    }
}

/// An event as it stands in the books.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The event.
    pub event: Event,
    /// Of the event.
    pub hash: PayloadHash,
    /// 1 for the first; each supersession adds one.
    pub revision: i32,
}

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// Recorded now.
    Recorded,
    /// The same event was recorded before.
    Duplicate,
    /// It replaced an estimate of the same id.
    Superseded,
    /// An estimate for an id that is recorded already: the event that counts.
    DuplicateEstimate(Box<Event>),
    /// The id stands for another event.
    IdReused,
}

/// A row to write.
#[derive(Debug, Clone, Copy)]
pub struct Fresh<'a> {
    /// What to write.
    pub entry: &'a Entry,
    /// Its revision.
    pub revision: i32,
    /// An estimate that came in the same batch and was superseded in it: kept as an original all the same.
    pub original: Option<&'a Entry>,
}

/// A row to replace.
#[derive(Debug, Clone, Copy)]
pub struct Supersession<'a> {
    /// The row that goes.
    pub old: &'a Recorded,
    /// What to write instead.
    pub new: &'a Entry,
    /// Its revision.
    pub revision: i32,
}

/// All that has to be written for a batch, and what to answer once it is durable.
#[derive(Debug, Default)]
pub struct Plan<'a> {
    /// One for each entry, in order.
    pub dispositions: Vec<Disposition>,
    /// Rows to write, in the order they came.
    pub fresh: Vec<Fresh<'a>>,
    /// Rows to replace, in any order.
    pub superseded: Vec<Supersession<'a>>,
}

impl<'a> Plan<'a> {
    /// How sums move, sorted by key.
    ///
    /// # Errors
    /// When a sum does not fit into 64 bits.
    pub fn moves(&self) -> Result<Vec<(RollupKey<'a>, Sums)>, SumOverflow> {
        let mut moves: HashMap<RollupKey<'a>, Sums> = HashMap::new();
        for Supersession { old, .. } in &self.superseded {
            moves.entry(RollupKey::of(&old.event)).or_default().subtract(&Sums::of(&old.event))?;
        }
        let superseding = self.superseded.iter().map(|superseded| superseded.new);
        for new in self.fresh.iter().map(|fresh| fresh.entry).chain(superseding) {
            moves.entry(RollupKey::of(&new.event)).or_default().add(&Sums::of(&new.event))?;
        }
        let mut moves: Vec<_> = moves.into_iter().filter(|(_, sums)| !sums.is_zero()).collect();
        moves.sort_unstable_by_key(|(key, _)| *key);
        Ok(moves)
    }

    /// How many positions the feed moves on by.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.fresh.len() + self.superseded.len()
    }
}

type Key<'a> = (ReservationId, OrganizationId, &'a str);

fn key(event: &Event) -> Key<'_> {
    (event.id, event.organization, &event.source)
}

struct State<'a> {
    stored: Option<&'a Recorded>,
    latest: Option<&'a Entry>,
    original: Option<&'a Entry>,
    revision: i32,
}

/// Decides what becomes of `entries`, in their order, when the books hold `recorded` for their ids.
///
/// With nothing in `recorded` this is the plan for the case that all ids are new.
#[must_use]
pub fn plan<'a>(entries: &[&'a Entry], recorded: &'a [Recorded]) -> Plan<'a> {
    let mut states: Vec<State<'a>> = Vec::with_capacity(entries.len());
    let mut index: HashMap<Key<'a>, usize> = HashMap::with_capacity(entries.len() + recorded.len());
    for stored in recorded {
        index.insert(key(&stored.event), states.len());
        states.push(State { stored: Some(stored), latest: None, original: None, revision: stored.revision });
    }
    let mut dispositions = Vec::with_capacity(entries.len());
    for entry in entries {
        let at = *index.entry(key(&entry.event)).or_insert(states.len());
        if at == states.len() {
            states.push(State { stored: None, latest: None, original: None, revision: 0 });
        }
        dispositions.push(states[at].take(entry));
    }
    let mut plan = Plan { dispositions, ..Plan::default() };
    for state in &states {
        let Some(new) = state.latest else { continue };
        match state.stored {
            Some(old) => plan.superseded.push(Supersession { old, new, revision: state.revision }),
            None => plan.fresh.push(Fresh { entry: new, revision: state.revision, original: state.original }),
        }
    }
    plan
}

impl<'a> State<'a> {
    fn take(&mut self, entry: &'a Entry) -> Disposition {
        let current = match (self.latest, self.stored) {
            (Some(latest), _) => Some((&latest.event, latest.hash())),
            (None, Some(stored)) => Some((&stored.event, stored.hash)),
            (None, None) => None,
        };
        let Some((known, hash)) = current else {
            self.latest = Some(entry);
            self.revision = 1;
            return Disposition::Recorded;
        };
        if hash == entry.hash() && known.estimated == entry.event.estimated {
            return Disposition::Duplicate;
        }
        if entry.event.estimated {
            return Disposition::DuplicateEstimate(Box::new(known.clone()));
        }
        if !known.estimated {
            return Disposition::IdReused;
        }
        self.original = self.latest.or(self.original);
        self.latest = Some(entry);
        self.revision += 1;
        Disposition::Superseded
    }
}
