//! Passwords: the rules for choosing one.

use std::fmt;

use zeroize::Zeroizing;

/// Why a password is not acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPassword {
    /// Fewer than 12 characters.
    #[error("must have at least 12 characters")]
    TooShort,
    /// More than 1,024 bytes: hashing time would be the client's to choose.
    #[error("must not be longer than 1,024 bytes")]
    TooLong,
}

/// A password that somebody chose or typed. Wiped from memory when dropped, never printed.
///
/// Length is the only rule: rules of composition make passwords worse (NIST SP 800-63B, 3.1.1.2).
pub(crate) struct Password(Zeroizing<String>);

impl Password {
    const MIN_CHARACTERS: usize = 12;
    const MAX_BYTES: usize = 1024;

    /// A new password.
    ///
    /// # Errors
    /// When it is too short or too long.
    pub(crate) fn chosen(text: String) -> Result<Self, InvalidPassword> {
        let password = Self::typed(text)?;
        if password.0.chars().count() < Self::MIN_CHARACTERS { Err(InvalidPassword::TooShort) } else { Ok(password) }
    }

    /// A password to compare with one that was chosen before, perhaps under other rules.
    ///
    /// # Errors
    /// When it is too long to be one.
    pub(crate) fn typed(text: String) -> Result<Self, InvalidPassword> {
        let text = Zeroizing::new(text);
        if text.len() > Self::MAX_BYTES { Err(InvalidPassword::TooLong) } else { Ok(Self(text)) }
    }

    /// The bytes to hash.
    #[must_use]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_the_only_rule() {
        assert!(Password::chosen("aaaaaaaaaaaa".into()).is_ok());
        assert!(Password::chosen("ääääääääääää".into()).is_ok());
        assert_eq!(Password::chosen("ääääääääää".into()).err(), Some(InvalidPassword::TooShort));
        assert_eq!(Password::chosen("a".repeat(1025)).err(), Some(InvalidPassword::TooLong));
    }

    #[test]
    fn a_password_is_never_printed() {
        let password = Password::chosen("correct horse battery".into()).expect("long enough");
        assert_eq!(format!("{password:?}"), "Password([redacted])");
    }
}
