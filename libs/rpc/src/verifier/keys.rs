//! Auth's public keys.

use std::collections::HashMap;
use std::time::Duration;

use arc_swap::ArcSwap;
use jsonwebtoken::DecodingKey;
use tokio::time::Instant;
use weir_proto::auth::v1::auth_service_client::AuthServiceClient;

use crate::{Channel, Failure};

/// An unknown key is asked for at most this often, so that made-up key ids don't become calls.
const REFETCH: Duration = Duration::from_secs(1);
const FETCH_DEADLINE: Duration = Duration::from_secs(2);

/// The keys that verify principal tokens, fetched from auth and kept.
pub(super) struct Keys {
    auth: Channel,
    known: ArcSwap<HashMap<String, DecodingKey>>,
    /// When the last fetch ended, and how. Held while fetching: one fetch serves all who wait.
    last: tokio::sync::Mutex<Option<(Instant, Result<(), Failure>)>>,
}

/// A key that could not be had.
pub(super) enum KeyError {
    /// Auth does not know it.
    Unknown,
    /// Auth could not be asked.
    Unreachable(Failure),
}

impl Keys {
    pub(super) fn new(auth: Channel) -> Self {
        Self { auth, known: ArcSwap::default(), last: tokio::sync::Mutex::default() }
    }

    /// The key of this id; auth is asked if it is not known.
    pub(super) async fn get(&self, id: &str) -> Result<DecodingKey, KeyError> {
        if let Some(key) = self.known.load().get(id) {
            return Ok(key.clone());
        }
        let mut last = self.last.lock().await;
        if let Some(key) = self.known.load().get(id) {
            return Ok(key.clone());
        }
        let outcome = match &*last {
            Some((at, outcome)) if at.elapsed() < REFETCH => outcome.clone(),
            _ => {
                let outcome = self.fetch().await;
                *last = Some((Instant::now(), outcome.clone()));
                outcome
            }
        };
        match (self.known.load().get(id), outcome) {
            (Some(key), _) => Ok(key.clone()),
            (None, Ok(())) => Err(KeyError::Unknown),
            (None, Err(failure)) => Err(KeyError::Unreachable(failure)),
        }
    }

    /// Fetches the keys anew, so that retired ones go. Known ones stay when auth does not answer.
    pub(super) async fn refresh(&self) {
        let mut last = self.last.lock().await;
        let outcome = self.fetch().await;
        *last = Some((Instant::now(), outcome));
    }

    async fn fetch(&self) -> Result<(), Failure> {
        let mut request = tonic::Request::new(());
        request.set_timeout(FETCH_DEADLINE);
        let answer =
            AuthServiceClient::new(self.auth.clone()).get_signing_keys(request).await.map_err(Failure::from)?;
        let keys = answer.into_inner().keys;
        let keys = keys
            .into_iter()
            // A key of another length would make the verifier panic.
            .filter(|key| key.public_key.len() == 32)
            .map(|key| (key.key_id, DecodingKey::from_ed_der(&key.public_key)))
            .collect();
        self.known.store(std::sync::Arc::new(keys));
        Ok(())
    }
}
