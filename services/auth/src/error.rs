//! What goes wrong in auth, and the text that a caller is told. `grpc/error.rs` has the reasons.

use weir_types::{InvalidPageToken, Scope};

use crate::domain::{Defect, Invalid, Lacking, Refusal};

/// A result of auth.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// What goes wrong in auth.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The request is not well-formed.
    #[error("the request is not valid: {0}")]
    Invalid(#[from] Invalid),
    /// A page token that this list did not give.
    #[error(transparent)]
    PageToken(#[from] InvalidPageToken),
    /// The resource does not exist, or is not the caller's to see.
    #[error("{0} does not exist")]
    NotFound(String),
    /// A user with that e-mail address exists, here or in another organisation.
    #[error("a user with this e-mail address exists")]
    EmailTaken,
    /// The id was used before for an organisation of another name.
    #[error("{0} exists with another display name")]
    OrganizationDiffers(String),
    /// The key has a successor, whose secret can't be shown twice.
    #[error("the key was rotated to {successor} before; if its secret is lost, rotate that one")]
    AlreadyRotated {
        /// The successor's name.
        successor: String,
    },
    /// The caller lacks a scope, or wants to give one away that they lack.
    #[error("this needs the scope `{0}`")]
    Lacking(Scope),
    /// A presented credential is not accepted.
    #[error("{}", refusal(*.0))]
    Refused(Refusal),
    /// E-mail and password don't belong together, or there is no such user.
    #[error("e-mail address or password is wrong")]
    WrongPassword,
    /// Too many sign-ins are waiting.
    #[error("too many sign-ins are waiting")]
    Busy,
    /// Signing keys or revocations have not been read from the database yet, or not for too long.
    #[error("{0} could not be read yet")]
    NotReady(&'static str),
    /// A receiver of revocations did not keep up.
    #[error("the receiver did not keep up with {0} revocations: watch again")]
    FellBehind(u64),
    /// The process is about to stop.
    #[error("auth is shutting down: watch again")]
    Stopping,
    /// The database.
    #[error(transparent)]
    Database(#[from] weir_database::Error),
    /// A key that doesn't open, or a system without random numbers.
    #[error(transparent)]
    Defect(#[from] Defect),
    /// Anything else that can't happen.
    #[error("{0}")]
    Bug(String),
}

const fn refusal(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Unknown => "the API key is not valid",
        Refusal::Expired => "the API key has expired",
        Refusal::Revoked => "the API key has been revoked",
        Refusal::OwnerDisabled => "the user is disabled",
    }
}

impl From<Lacking> for Error {
    fn from(Lacking(scope): Lacking) -> Self {
        Self::Lacking(scope)
    }
}
