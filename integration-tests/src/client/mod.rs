//! A client for load: raw HTTP/1.1 on keep-alive connections, so that what is measured is the server.

mod answer;
mod connection;

pub use answer::{Ending, Observed};
pub use connection::{Connection, Request};
