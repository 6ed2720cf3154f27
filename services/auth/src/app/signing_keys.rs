//! What verifiers need to know of signing keys, and their rotation.

use super::Auth;
use crate::domain::{Actor, PublicKey};
use crate::error::Result;

impl Auth {
    /// The public keys: current, next, and retired ones of which a token may still be alive.
    ///
    /// # Errors
    /// When they could never be read.
    pub(crate) async fn signing_keys(&self) -> Result<Vec<PublicKey>> {
        self.ring.public().await
    }

    /// Makes the next key current.
    ///
    /// # Errors
    /// When the database doesn't answer.
    pub(crate) async fn rotate_signing_key(&self, actor: &Actor) -> Result<Vec<PublicKey>> {
        self.ring.rotate(actor).await?;
        self.ring.public().await
    }
}
