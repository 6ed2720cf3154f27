//! What auth knows, without any I/O: values that check themselves, credentials, tokens.

mod actor;
mod api_key;
mod email;
mod field;
mod key_secret;
mod organization;
mod password;
mod revocation;
mod signing;
mod text;
mod token;
mod user;

pub(crate) use actor::{Actor, Lacking};
pub(crate) use api_key::{ApiKey, Overlap, Refusal, Standing};
pub(crate) use email::Email;
pub(crate) use field::{Fields, Invalid};
pub(crate) use key_secret::{KeySecret, SecretDigest};
pub(crate) use organization::Organization;
pub(crate) use password::Password;
pub(crate) use revocation::{Revocation, Subject};
pub(crate) use signing::{Defect, PublicKey, SealingKey, SigningKey};
pub(crate) use text::DisplayName;
pub(crate) use token::{Claims, PrincipalToken};
pub(crate) use user::{Role, User};

use chrono::{DateTime, SubsecRound as _, Utc};

/// `time` as the database keeps it (microseconds), so that an answer equals what is read later.
#[must_use]
pub(crate) fn stored(time: DateTime<Utc>) -> DateTime<Utc> {
    time.trunc_subsecs(6)
}
