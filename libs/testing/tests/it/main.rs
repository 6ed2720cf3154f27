//! The servers that other crates' tests stand on.

mod databases;
mod redis_servers;
