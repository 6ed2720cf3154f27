//! What brokers share: the lines of waiting calls, in Redis; jobs, in Postgres.

pub(crate) mod health;
pub(crate) mod jobs;
pub(crate) mod lines;
