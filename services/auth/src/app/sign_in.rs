//! Exchanges e-mail and password for a principal token.

use weir_types::names;

use super::{Auth, TokenSubject};
use crate::domain::{Email, Password, PrincipalToken, Refusal};
use crate::error::{Error, Result};
use crate::passwords::Verdict;
use crate::storage::audit_log::{self, Action, Entry};
use crate::storage::users::SignInRecord;
use crate::storage::{self, users};

impl Auth {
    /// Exchanges e-mail and password for a principal token. A wrong password, an unknown address and a user without a password
    /// are told apart neither by the answer nor by its time.
    ///
    /// # Errors
    /// When they don't belong together, the user is disabled, or too many sign-ins are waiting.
    pub(crate) async fn sign_in(&self, email: &Email, password: Password) -> Result<PrincipalToken> {
        let result = self.check_and_sign(email, password).await;
        let outcome = match &result {
            Ok(_) => "accepted",
            Err(Error::WrongPassword | Error::Refused(_)) => "refused",
            Err(_) => "failed",
        };
        metrics::counter!("weir_auth_sign_ins_total", "outcome" => outcome).increment(1);
        result
    }

    async fn check_and_sign(&self, email: &Email, password: Password) -> Result<PrincipalToken> {
        let record = {
            let mut tx = self.database.begin().await?;
            users::find_for_sign_in(&mut tx, email).await?
        };
        // No connection is held while the password is hashed.
        let stored = record.as_ref().and_then(|record| record.password_hash.clone());
        let verdict = self.passwords.verify(password, stored.clone()).await?;
        let (record, verdict) = match (record, verdict) {
            (Some(record), Verdict::Right | Verdict::RightRehashed(_)) if record.disabled => {
                self.note_failure(Some(&record), "the user is disabled").await?;
                return Err(Error::Refused(Refusal::OwnerDisabled));
            }
            (Some(record), verdict @ (Verdict::Right | Verdict::RightRehashed(_))) => (record, verdict),
            (record, _) => {
                let why = if record.is_some() { "wrong password" } else { "unknown address" };
                self.note_failure(record.as_ref(), why).await?;
                return Err(Error::WrongPassword);
            }
        };
        if let (Verdict::RightRehashed(new), Some(old)) = (verdict, stored) {
            let mut tx = self.database.begin().await?;
            users::rehash(&mut tx, record.id, &old, &new).await?;
            storage::commit(tx).await?;
        }
        let subject = TokenSubject {
            organization: record.organization,
            user: Some(record.id),
            api_key: None,
            scopes: record.role.scopes(),
            credential_ends: None,
        };
        self.sign(subject, self.clock.now()).await
    }

    /// For an unknown address too, without saying which, so that both cases take as long.
    async fn note_failure(&self, record: Option<&SignInRecord>, why: &str) -> Result<()> {
        let target = record.map(|record| names::user(&record.organization, &record.id)).unwrap_or_default();
        let mut tx = self.database.begin().await?;
        let entry = Entry {
            organization: record.map(|record| record.organization),
            at: self.now(),
            actor: "",
            action: Action::FailSignIn,
            target: &target,
            detail: why,
        };
        audit_log::append(&mut tx, entry).await?;
        Ok(storage::commit(tx).await?)
    }
}
