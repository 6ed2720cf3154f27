//! Postgres and Redis for tests: real servers, private to the tests, thrown away after them.
//!
//! Where a server comes from, first match wins: the URL in `WEIR_TEST_POSTGRES_URL` or `WEIR_TEST_REDIS_URL`; programs installed
//! on this machine; a Docker engine. If there is none of them the test fails and says what to do: a test that silently does not
//! run proves nothing.
//!
//! nextest runs every test in a process of its own. `weir-test-servers cargo nextest run` starts Postgres once and shares it by
//! `WEIR_TEST_POSTGRES_URL`; without it each process starts its own, which takes a second or two.

mod cluster;
mod database;
mod docker;
mod postgres;
mod redis;

pub use crate::{
    cluster::RedisCluster,
    database::{TestDatabase, database},
    postgres::{POSTGRES_URL, Postgres, PostgresServer, postgres},
    redis::{REDIS_URL, RedisServer, private_redis, redis},
};
