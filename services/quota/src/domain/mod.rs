//! Limits, windows, plans, handles and counters: pure, without a store or a clock.

pub mod alarm;
pub mod amounts;
pub mod demand;
pub mod evaluate;
pub mod handle;
mod last_period;
pub mod lease;
pub mod limit;
pub mod period;
pub mod plan;
pub mod shared;
pub mod state;
pub mod subject;

pub use alarm::{Alarm, Recurrence};
pub use amounts::{Amounts, InvalidAmounts, Unit};
pub use demand::{Demand, Part, Touch};
pub use evaluate::{LimitState, evaluate};
pub use handle::{Decided, Handle, HandleConcurrent, HandleCounter, InvalidHandle};
pub use limit::{CalendarUnit, CounterKey, Kind, Limit, LimitId, OnFailure, Scope, Window};
pub use period::Period;
pub use plan::{Plan, PlanLimit, PlanScope, Tuning};
pub use state::{Entry, SubjectState};
pub use subject::{InvalidSubject, Subject, Value};

/// Milliseconds since the Unix epoch; every instant in here is one, because Redis scripts count in them.
pub type Millis = i64;
