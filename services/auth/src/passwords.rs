//! Hashes passwords with argon2id, a bounded number at once and never on the threads that serve requests.

use std::sync::Arc;
use std::time::Instant;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use tokio::sync::Semaphore;

use crate::config;
use crate::domain::Password;
use crate::error::{Error, Result};

/// Hashes and verifies passwords.
#[derive(Debug)]
pub(crate) struct Passwords {
    params: Params,
    turns: Arc<Semaphore>,
    queue_timeout: std::time::Duration,
    /// What a password is compared with when there is no user of that name, so that it takes the same time.
    decoy: Arc<str>,
}

/// What a verification found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not the password.
    Wrong,
    /// The password.
    Right,
    /// The password, hashed with other parameters than today's: the hash to replace it with.
    RightRehashed(String),
}

impl Passwords {
    /// With these parameters. Takes as long as hashing one password.
    ///
    /// # Errors
    /// When argon2 doesn't accept the parameters.
    pub(crate) async fn new(config: &config::Passwords) -> Result<Self> {
        let params = Params::new(config.memory_kib, config.iterations, config.parallelism, None)
            .map_err(|error| Error::Bug(format!("argon2: {error}")))?;
        let turns = Arc::new(Semaphore::new(usize::try_from(config.concurrency).unwrap_or(1)));
        let for_decoy = params.clone();
        // Of a random password, so that nothing matches it.
        let random = uuid::Uuid::new_v4();
        let decoy = blocking(move || hash(&for_decoy, random.as_bytes())).await?;
        Ok(Self { params, turns, queue_timeout: config.queue_timeout, decoy: decoy.into() })
    }

    /// The PHC string to store for a password.
    ///
    /// # Errors
    /// When too many are waiting.
    pub(crate) async fn hash(&self, password: Password) -> Result<String> {
        let params = self.params.clone();
        self.in_turn(move || hash(&params, password.as_bytes())).await
    }

    /// Compares a typed password with the stored hash. Without one it takes as long and is wrong.
    ///
    /// # Errors
    /// When too many are waiting, or the stored hash is not a PHC string.
    pub(crate) async fn verify(&self, password: Password, stored: Option<String>) -> Result<Verdict> {
        let params = self.params.clone();
        let decoy = Arc::clone(&self.decoy);
        self.in_turn(move || {
            let Some(stored) = stored else {
                verify(password.as_bytes(), &decoy)?;
                return Ok(Verdict::Wrong);
            };
            if !verify(password.as_bytes(), &stored)? {
                return Ok(Verdict::Wrong);
            }
            if is_current(&params, &stored) {
                return Ok(Verdict::Right);
            }
            hash(&params, password.as_bytes()).map(Verdict::RightRehashed)
        })
        .await
    }

    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let turn = tokio::time::timeout(self.queue_timeout, Arc::clone(&self.turns).acquire_owned());
        let turn = turn.await.map_err(|_| Error::Busy)?.map_err(|_| Error::Busy)?;
        let started = Instant::now();
        let result = blocking(move || {
            // A caller that leaves must not let the next one in while this one is still at work.
            let _turn = turn;
            work()
        })
        .await;
        metrics::histogram!("weir_auth_password_hash_seconds").record(started.elapsed());
        result
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Bug(format!("hashing a password: {error}"))),
    }
}

fn hash(params: &Params, password: &[u8]) -> Result<String> {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    let hash = argon2.hash_password(password).map_err(|error| Error::Bug(format!("argon2: {error}")))?;
    Ok(hash.to_string())
}

/// With the parameters in the hash. The comparison of the outputs is in constant time (`password_hash::phc::Output`).
fn verify(password: &[u8], stored: &str) -> Result<bool> {
    use argon2::password_hash::Error as Refusal;
    let stored = PasswordHash::new(stored).map_err(|error| Error::Bug(format!("a stored password hash: {error}")))?;
    match Argon2::default().verify_password(password, &stored) {
        Ok(()) => Ok(true),
        Err(Refusal::PasswordInvalid) => Ok(false),
        Err(error) => Err(Error::Bug(format!("argon2: {error}"))),
    }
}

fn is_current(params: &Params, stored: &str) -> bool {
    PasswordHash::new(stored).is_ok_and(|stored| {
        stored.algorithm.as_str() == Algorithm::Argon2id.as_str()
            && Params::try_from(&stored).is_ok_and(|stored| {
                (stored.m_cost(), stored.t_cost(), stored.p_cost())
                    == (params.m_cost(), params.t_cost(), params.p_cost())
            })
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Far below what `config` accepts, because tests run without optimisation.
    fn cheap() -> config::Passwords {
        config::Passwords {
            memory_kib: 64,
            iterations: 1,
            parallelism: 1,
            concurrency: 1,
            queue_timeout: Duration::from_millis(50),
        }
    }

    fn typed(text: &str) -> Password {
        Password::typed(text.to_owned()).expect("not too long")
    }

    #[tokio::test]
    async fn a_password_verifies_against_its_own_hash_only() {
        let passwords = Passwords::new(&cheap()).await.expect("parameters");
        let hash = passwords.hash(typed("correct horse battery")).await.expect("hashed");
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        let verdict = passwords.verify(typed("correct horse battery"), Some(hash.clone())).await.expect("verified");
        assert_eq!(verdict, Verdict::Right);
        assert_eq!(passwords.verify(typed("wrong"), Some(hash)).await.expect("verified"), Verdict::Wrong);
        assert_eq!(passwords.verify(typed("anything"), None).await.expect("verified"), Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_hash_of_other_parameters_is_replaced_at_the_next_sign_in() {
        let old = Passwords::new(&cheap()).await.expect("parameters");
        let hash = old.hash(typed("correct horse battery")).await.expect("hashed");
        let new = Passwords::new(&config::Passwords { iterations: 2, ..cheap() }).await.expect("parameters");
        match new.verify(typed("correct horse battery"), Some(hash)).await.expect("verified") {
            Verdict::RightRehashed(hash) => assert!(hash.contains("t=2"), "{hash}"),
            verdict => panic!("{verdict:?}"),
        }
    }

    #[tokio::test]
    async fn no_more_than_the_configured_number_hash_at_once() {
        let passwords = Passwords::new(&cheap()).await.expect("parameters");
        let turn = Arc::clone(&passwords.turns).acquire_owned().await.expect("open");
        assert!(matches!(passwords.hash(typed("correct horse battery")).await, Err(Error::Busy)));
        drop(turn);
        assert!(passwords.hash(typed("correct horse battery")).await.is_ok());
    }
}
