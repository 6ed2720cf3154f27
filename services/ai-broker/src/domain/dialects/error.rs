//! Why something cannot be said in another dialect.

use std::fmt::Display;

/// Why a body was not translated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TranslateError {
    /// Not JSON, or not of the dialect's shape.
    #[error("the body cannot be read: {0}")]
    Malformed(String),
    /// A field is not what its own dialect allows.
    #[error("`{field}` {reason}")]
    Invalid {
        /// Its path, as `messages[2].content[0].type`.
        field: String,
        /// What is wrong, to follow the field's name.
        reason: String,
    },
    /// A field is well-formed, but the provider's dialect cannot say it.
    #[error("`{field}` {reason}")]
    Inexpressible {
        /// Its path, as `messages[2].content[0].type`.
        field: String,
        /// Why, to follow the field's name.
        reason: String,
    },
}

impl TranslateError {
    /// The path of the field at fault; empty if it is the body as a whole.
    #[must_use]
    pub fn field(&self) -> &str {
        match self {
            Self::Malformed(_) => "",
            Self::Invalid { field, .. } | Self::Inexpressible { field, .. } => field,
        }
    }

    pub(super) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }

    pub(super) fn inexpressible(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Inexpressible { field: field.into(), reason: reason.into() }
    }

    /// A field that neither dialect is known to have.
    pub(super) fn unknown(field: &str) -> Self {
        Self::inexpressible(field, "is not known, so it cannot be translated")
    }

    /// The same, said from one level further out.
    pub(super) fn under(self, outer: impl Display) -> Self {
        let place = |field: String| if field.is_empty() { outer.to_string() } else { format!("{outer}.{field}") };
        match self {
            Self::Malformed(reason) => {
                Self::Invalid { field: outer.to_string(), reason: format!("cannot be read: {reason}") }
            }
            Self::Invalid { field, reason } => Self::Invalid { field: place(field), reason },
            Self::Inexpressible { field, reason } => Self::Inexpressible { field: place(field), reason },
        }
    }
}

impl From<serde_json::Error> for TranslateError {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Puts the place before what went wrong in it.
pub(super) trait Under<T> {
    fn under(self, outer: impl Display) -> Result<T, TranslateError>;
}

impl<T, E: Into<TranslateError>> Under<T> for Result<T, E> {
    fn under(self, outer: impl Display) -> Result<T, TranslateError> {
        self.map_err(|error| error.into().under(outer))
    }
}
