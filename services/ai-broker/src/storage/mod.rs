//! What brokers share through the fast store.

pub(crate) mod health;
pub(crate) mod lines;
