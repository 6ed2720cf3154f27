//! What brokers share: the lines of waiting calls, in Redis; jobs and calls with an idempotency key, in Postgres.

pub(crate) mod health;
pub(crate) mod idempotency;
pub(crate) mod jobs;
pub(crate) mod lines;
