//! The broker behind its real layers, with siblings that are faked behind real gRPC and a provider that
//! speaks HTTP over a real socket.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, missing_docs, reason = "a test fails by panicking")]

mod books;
mod cache;
mod cache_again;
mod coalescing;
mod counted_hits;
mod cut;
mod database;
mod dialects;
mod failing_provider;
mod fal;
mod idempotency;
mod jobs;
mod keys;
mod load;
mod logs;
mod media;
mod messages;
mod own_keys;
mod queue;
mod refusals;
mod reloading;
mod responses;
mod results;
mod routes;
mod scene;
mod shared_keys;
mod siblings;
mod spans;
mod streams;
mod survival;
mod tiers;
