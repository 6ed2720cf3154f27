//! SQL as small functions that take the transaction: the caller owns atomicity, and the role it runs as.
//!
//! Transactions from `begin_tenant` see one organisation by row-level security, whatever a query says. Still every
//! query of a tenant's rows takes the organisation: two locks on the same door.

pub(crate) mod api_keys;
pub(crate) mod audit_log;
pub(crate) mod organizations;
pub(crate) mod revocations;
pub(crate) mod signing_keys;
pub(crate) mod users;

use sqlx::{Postgres, Transaction};
use weir_database::Error;
use weir_types::{Scope, ScopeSet};

/// Commits. If this fails the caller can't know whether it happened: every operation can be repeated.
pub(crate) async fn commit(tx: Transaction<'static, Postgres>) -> Result<(), Error> {
    Ok(tx.commit().await?)
}

/// A stored value that this version of the program can't read.
fn unreadable(what: &'static str) -> Error {
    Error::from(sqlx::Error::Decode(what.into()))
}

/// Scopes as stored. One that this version doesn't know grants nothing.
fn scopes(stored: &[String]) -> ScopeSet {
    stored.iter().filter_map(|scope| scope.parse::<Scope>().ok()).collect()
}

fn scope_texts(scopes: ScopeSet) -> Vec<&'static str> {
    scopes.iter().map(Scope::as_str).collect()
}
