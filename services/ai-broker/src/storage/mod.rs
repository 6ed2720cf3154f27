//! What brokers share through the fast store.

pub(crate) mod lines;
