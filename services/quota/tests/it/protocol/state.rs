//! The state of a small deployment: what the stores hold, what each engine believes, what is under way.

/// Two clients, each with one reservation; the janitor settles what expires.
pub(super) const CLIENTS: usize = 2;
pub(super) const ENGINES: usize = 2;
/// What a reservation holds, what its call really uses, and what the janitor estimates.
pub(super) const RESERVED: u8 = 2;
pub(super) const ACTUAL: u8 = 1;
/// A request of each client, an older one of it that nobody waits for any more, and the janitor's.
pub(super) const THREADS: usize = 2 * CLIENTS + 1;
pub(super) const JANITOR: usize = 2 * CLIENTS;

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) redis: Redis,
    pub(super) postgres: Postgres,
    /// The generation that each engine believes in, and whether it answers for money.
    pub(super) engines: [Option<u8>; ENGINES],
    pub(super) clients: [Client; CLIENTS],
    pub(super) threads: [Option<Thread>; THREADS],
    /// What the janitor has taken over.
    pub(super) taken: Option<usize>,
    /// Reservations that were ever made.
    pub(super) reserved: [bool; CLIENTS],
    /// Reservations whose client died and whose record was lost with it: a double fault, which the documentation states.
    pub(super) forgotten: [bool; CLIENTS],
    /// What may still go wrong.
    pub(super) left: Left,
}

/// Bounds of the exploration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Left {
    pub(super) losses: u8,
    pub(super) engine_crashes: u8,
    pub(super) client_crashes: u8,
    /// Requests given up and repeated, while the first goes on.
    pub(super) repeats: u8,
    /// Leases that end.
    pub(super) expiries: u8,
}

/// The fast store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Redis {
    pub(super) epoch: Option<u8>,
    /// Generations whose scripts it knows.
    pub(super) scripts: [bool; 4],
    /// None until somebody sets it; never the same twice.
    pub(super) fence: Option<u8>,
    pub(super) fences: u8,
    pub(super) emptied: u8,
    pub(super) counter: Option<Counter>,
    pub(super) records: [Record; CLIENTS],
    pub(super) expired: [bool; CLIENTS],
    /// Whether the time for announcements is over in this generation.
    pub(super) open: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Counter {
    pub(super) generation: u8,
    pub(super) spent: u8,
    pub(super) version: u8,
    pub(super) held: u8,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Record {
    #[default]
    None,
    Held(u8),
    /// Settled; whether by an estimate.
    Settled(bool),
}

/// The books.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Postgres {
    pub(super) rows: [Row; CLIENTS],
    pub(super) total: u8,
    pub(super) version: u8,
    pub(super) generations: u8,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Row {
    #[default]
    None,
    Committed {
        amount: u8,
        estimated: bool,
    },
    Released,
}

impl Row {
    pub(super) const fn amount(self) -> u8 {
        match self {
            Self::Committed { amount, .. } => amount,
            Self::None | Self::Released => 0,
        }
    }
}

/// What a client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Client {
    Idle,
    Asking,
    /// It was admitted.
    Holding,
    Settling(Settle),
    /// It was told that its settlement is durable.
    Settled(Settle),
    Refused,
    Dead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Settle {
    Commit,
    Release,
    /// By the janitor.
    Estimate,
}

/// A request under way in an engine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Thread {
    pub(super) engine: usize,
    pub(super) id: usize,
    pub(super) at: At,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum At {
    Reserve,
    Extend,
    /// An announcement that has asked the books.
    Announce,
    Settle(Settle),
    /// The fast store was told first: a mistake.
    Write(Settle),
    /// The books are written: the row, the total and its version, whether this wrote it, what an estimate was replaced.
    Apply {
        settle: Settle,
        row: Row,
        total: u8,
        version: u8,
        applied: bool,
    },
    /// Counters are loaded for a request that found none: the fence and the generation are known, then the total.
    Fenced {
        for_: Wants,
        fence: u8,
        generation: u8,
    },
    Loaded {
        for_: Wants,
        fence: u8,
        generation: u8,
        total: u8,
        version: u8,
    },
    Answer(Answer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Wants {
    Reserve,
    Announce,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Answer {
    Admitted,
    Refused,
    Extended,
    Settled(Settle),
}
