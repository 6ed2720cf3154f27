//! Configuration: the crates' own commented defaults, a file on top, the environment on top of both, and every mistake reported
//! at once.
//!
//! The defaults files are the ones that the binary loads, so a key that is not in them does not exist: the user's keys are
//! compared with that tree before anything is deserialized.

mod compare;
pub mod duration;
mod environment;
mod loader;
mod master_key;
mod nearest;
mod problem;
mod secret;

pub use loader::Loader;
pub use master_key::{MasterKey, MasterKeyError};
pub use problem::{Errors, Problem, Source, Validate};
pub use secret::Secret;
