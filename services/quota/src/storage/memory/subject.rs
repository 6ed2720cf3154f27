//! The counters of one subject.

use smallvec::SmallVec;

use super::buckets::Buckets;
use crate::domain::{Entry, LimitId, Millis, SubjectState, Value};

/// Whose counters: a [`Value`] in as few bytes as possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whose {
    Organization,
    User([u8; 16]),
    ApiKey([u8; 16]),
    /// [`Value::field`] of the others.
    Other(Box<[u8]>),
}

/// The counters of one subject, as [`SubjectState`] describes them.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) whose: Whose,
    pub(super) generation: u64,
    pub(super) layout: u64,
    /// When nothing in it can matter any more; -1 if it always will.
    pub(super) sweep_after: Millis,
    /// The plan's counters in its order; after them those of former plans that still hold something.
    pub(super) counters: SmallVec<[Counter; 2]>,
}

/// One counter.
#[derive(Debug, Clone)]
pub(super) enum Counter {
    /// Of periods that follow each other.
    Period { limit: LimitId, start: Millis, spent: i64, held: i64, version: i64 },
    /// Of a rolling window; what is held is a part of what is spent.
    Rolling { limit: LimitId, spent: i64, held: i64, buckets: Buckets },
}

impl Whose {
    /// Of a value whose bytes are kept.
    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Organization => Self::Organization,
            Value::User(id) => Self::User(*id.as_uuid().as_bytes()),
            Value::ApiKey(id) => Self::ApiKey(*id.as_uuid().as_bytes()),
            other => Self::Other(other.field().into()),
        }
    }

    /// Whether it stands for this value.
    pub(super) fn is(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Organization, Value::Organization) => true,
            (Self::User(bytes), Value::User(id)) => bytes == id.as_uuid().as_bytes(),
            (Self::ApiKey(bytes), Value::ApiKey(id)) => bytes == id.as_uuid().as_bytes(),
            (Self::Other(bytes), other) => **bytes == *other.field(),
            _ => false,
        }
    }

    /// The value.
    pub(super) fn value(&self) -> Option<Value> {
        match self {
            Self::Organization => Some(Value::Organization),
            Self::User(bytes) => Some(Value::User(uuid::Uuid::from_bytes(*bytes).into())),
            Self::ApiKey(bytes) => Some(Value::ApiKey(uuid::Uuid::from_bytes(*bytes).into())),
            Self::Other(bytes) => Value::from_field(bytes),
        }
    }

    fn heap(&self) -> usize {
        if let Self::Other(bytes) = self { bytes.len() } else { 0 }
    }
}

impl Subject {
    /// The counter of a limit.
    pub(super) fn counter(&mut self, limit: LimitId) -> Option<&mut Counter> {
        self.counters.iter_mut().find(|counter| counter.limit() == limit)
    }

    /// Takes the counters over into a generation, which knows nothing of what was held before it.
    pub(super) fn adopt(&mut self, generation: u64) {
        if self.generation != generation {
            self.generation = generation;
            self.counters.iter_mut().for_each(|counter| *counter.held() = 0);
        }
    }

    /// For those who read.
    pub(super) fn state(&self) -> SubjectState {
        SubjectState {
            generation: self.generation,
            layout: self.layout,
            sweep_after: (self.sweep_after >= 0).then_some(self.sweep_after),
            entries: self.counters.iter().map(Counter::entry).collect(),
        }
    }

    /// The memory that it has beside its own, in bytes.
    pub(super) fn heap(&self) -> usize {
        let spilled = if self.counters.spilled() { self.counters.capacity() * size_of::<Counter>() } else { 0 };
        spilled + self.whose.heap() + self.counters.iter().map(Counter::heap).sum::<usize>()
    }

    /// Gives up room that nothing uses.
    pub(super) fn shrink(&mut self) {
        for counter in &mut self.counters {
            if let Counter::Rolling { buckets, .. } = counter {
                buckets.shrink();
            }
        }
    }
}

impl Counter {
    pub(super) const fn limit(&self) -> LimitId {
        match self {
            Self::Period { limit, .. } | Self::Rolling { limit, .. } => *limit,
        }
    }

    pub(super) const fn held(&mut self) -> &mut i64 {
        match self {
            Self::Period { held, .. } | Self::Rolling { held, .. } => held,
        }
    }

    pub(super) fn heap(&self) -> usize {
        if let Self::Rolling { buckets, .. } = self { buckets.heap() } else { 0 }
    }

    fn entry(&self) -> Entry {
        match self {
            Self::Period { limit, start, spent, held, version } => {
                Entry { limit: *limit, period: *start, spent: *spent, held: *held, version: *version, queue: None }
            }
            Self::Rolling { limit, spent, held, buckets } => {
                Entry { limit: *limit, period: 0, spent: *spent, held: *held, version: 0, queue: Some(buckets.list()) }
            }
        }
    }
}

/// Sums may grow beyond what every part of the system counts exactly only by commits of more than was reserved; they stay at the
/// largest one.
pub(super) const fn clamp(value: i64) -> i64 {
    if value > weir_types::MAX_AMOUNT {
        weir_types::MAX_AMOUNT
    } else if value < 0 {
        0
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_types::{ApiKeyId, UserId};

    #[test]
    fn a_value_is_recognised_and_no_other() {
        let values = [
            Value::Organization,
            Value::User(UserId::new_v7()),
            Value::User(UserId::new_v7()),
            Value::ApiKey(ApiKeyId::new_v7()),
            Value::Ip("192.0.2.1".to_owned()),
            Value::Label("feature".to_owned(), "192.0.2.1".to_owned()),
        ];
        for one in &values {
            let whose = Whose::of(one);
            assert_eq!(whose.value().as_ref(), Some(one));
            for other in &values {
                assert_eq!(whose.is(other), one == other, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn counters_are_small() {
        assert_eq!((size_of::<Counter>(), size_of::<Whose>()), (48, 24));
        assert!(size_of::<Option<Subject>>() <= 160, "{}", size_of::<Option<Subject>>());
    }
}
