//! Jobs: ordered steps, how a try of one ends, and when the next one is due.

mod backoff;
mod cron;
mod ending;
pub(crate) mod network;
mod reference;
pub(crate) mod signature;
mod spec;

pub(crate) use backoff::backoff;
pub(crate) use cron::Pace;
pub(crate) use ending::{Ending, Failed, Finished, JobError, Verdict, judge};
pub(crate) use reference::{is_resolved, resolve};
pub(crate) use spec::{Action, InvalidJob, MAX_STEPS, Spec, Step, Who};
