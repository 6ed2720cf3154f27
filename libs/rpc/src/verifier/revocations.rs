//! What must no longer be accepted, as auth tells it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::broadcast;
use tokio::time::Instant;
use uuid::Uuid;
use weir_proto::auth::v1::{Revocation, revocation::Subject};
use weir_types::{ApiKeyId, OrganizationId, UserId, names};

use crate::Principal;
use crate::token::MAX_TOKEN_LIFETIME;

/// A credential or a user that has been revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// Every token that this key was exchanged for.
    ApiKey(OrganizationId, ApiKeyId),
    /// Every token of this user.
    User(OrganizationId, UserId),
}

impl Revoked {
    /// Reads auth's message; none for a heartbeat or a name that is none.
    #[must_use]
    pub fn read(revocation: &Revocation) -> Option<Self> {
        match revocation.subject.as_ref()? {
            Subject::ApiKey(name) => names::parse_api_key(name).ok().map(|(o, key)| Self::ApiKey(o, key)),
            Subject::User(name) => names::parse_user(name).ok().map(|(o, user)| Self::User(o, user)),
            Subject::Heartbeat(()) => None,
        }
    }

    fn id(&self) -> Uuid {
        match self {
            Self::ApiKey(_, key) => *key.as_uuid(),
            Self::User(_, user) => *user.as_uuid(),
        }
    }

    /// Whether it concerns this principal.
    #[must_use]
    pub fn concerns(&self, principal: &Principal) -> bool {
        match self {
            Self::ApiKey(_, key) => principal.api_key.as_ref() == Some(key),
            Self::User(_, user) => principal.user.as_ref() == Some(user),
        }
    }
}

/// The revocations that can still matter, shared by everything in a process that accepts credentials.
#[derive(Clone)]
pub struct Revocations(Arc<State>);

struct State {
    /// Spares the hot path the lock while nothing is revoked.
    any: AtomicBool,
    /// Until when each id is refused: by then every token of it has ended.
    until: RwLock<HashMap<Uuid, Instant>>,
    news: broadcast::Sender<Revoked>,
}

impl Default for Revocations {
    fn default() -> Self {
        Self(Arc::new(State {
            any: AtomicBool::new(false),
            until: RwLock::default(),
            news: broadcast::Sender::new(1024),
        }))
    }
}

impl Revocations {
    /// Refuses it from now on, and tells the subscribers.
    pub fn revoke(&self, revoked: Revoked) {
        let now = Instant::now();
        {
            let mut until = self.0.until.write();
            until.retain(|_, until| *until > now);
            until.insert(revoked.id(), now + MAX_TOKEN_LIFETIME + Duration::from_secs(60));
            self.0.any.store(true, Ordering::Release);
        }
        // Nobody has to listen.
        let _ = self.0.news.send(revoked);
    }

    /// Whether the principal's key or user has been revoked.
    #[must_use]
    pub fn concern(&self, principal: &Principal) -> bool {
        if !self.0.any.load(Ordering::Acquire) {
            return false;
        }
        let until = self.0.until.read();
        principal.api_key.is_some_and(|key| until.contains_key(key.as_uuid()))
            || principal.user.is_some_and(|user| until.contains_key(user.as_uuid()))
    }

    /// Each revocation as it comes. Who falls behind (`Lagged`) must forget everything that it cached.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Revoked> {
        self.0.news.subscribe()
    }
}

impl std::fmt::Debug for Revocations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Revocations").field("remembered", &self.0.until.read().len()).finish()
    }
}
