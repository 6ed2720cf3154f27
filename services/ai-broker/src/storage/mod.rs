//! What brokers share: the lines of waiting calls and kept answers, in Redis; jobs and calls with an idempotency key, in Postgres;
//! what jobs store, in object storage.

pub(crate) mod answers;
pub(crate) mod cache_policies;
pub(crate) mod health;
pub(crate) mod idempotency;
pub(crate) mod jobs;
pub(crate) mod lines;
pub(crate) mod objects;
pub(crate) mod own_keys;
pub(crate) mod results;
