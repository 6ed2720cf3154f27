//! The facade over a real socket, with siblings that are faked behind real gRPC and its real layers.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod answers;
mod anthropic;
mod bad_input;
mod bodies;
mod cache;
mod chat;
mod cors;
mod credentials;
mod document;
mod faults;
mod fixtures;
mod jobs;
mod media;
mod models;
mod provider_keys;
mod raw;
mod rest;
mod results;
mod routes;
mod scene;
mod siblings;
mod streams;
