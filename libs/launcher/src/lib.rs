//! Private Postgres and Redis servers: started from local binaries on free loopback ports, ready in a second or two, gone with
//! the process that started them.
//!
//! `weir dev` keeps their data between runs; tests and benchmarks throw it away, kill the servers and start them again. Both work
//! as an ordinary user and as root (Postgres refuses to run as root, so the servers then run as `postgres` or `nobody`).
//!
//! A server whose directory is kept has a generated password beside its data. A throw-away server trusts every connection from
//! this machine, which saves each test a password hash per connection.

mod account;
mod error;
mod ports;
mod postgres;
mod process;
mod programs;
mod redis;
mod workspace;

pub use account::Account;
pub use error::{Error, Result};
pub use ports::free_port;
pub use postgres::{Postgres, PostgresOptions};
pub use redis::{Redis, RedisOptions};
