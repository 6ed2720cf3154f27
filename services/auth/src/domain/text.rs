//! Names for people.

/// Why a display name is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidDisplayName {
    /// Nothing but white space, or nothing at all.
    #[error("is required: 1 to 120 characters")]
    Missing,
    /// More than 120 characters.
    #[error("has {0} characters: at most 120 are allowed")]
    TooLong(usize),
    /// Line breaks and their like, which would break lists and logs.
    #[error("must not contain control characters")]
    Control,
}

/// A name for people: at most 120 characters, no control characters, no white space around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DisplayName(String);

impl DisplayName {
    const MAX: usize = 120;

    /// A name that must be there.
    ///
    /// # Errors
    /// When it is missing, too long or not printable.
    pub(crate) fn required(text: &str) -> Result<Self, InvalidDisplayName> {
        let name = Self::optional(text)?;
        if name.0.is_empty() { Err(InvalidDisplayName::Missing) } else { Ok(name) }
    }

    /// A name that may be empty.
    ///
    /// # Errors
    /// When it is too long or not printable.
    pub(crate) fn optional(text: &str) -> Result<Self, InvalidDisplayName> {
        let text = text.trim();
        let length = text.chars().count();
        if length > Self::MAX {
            return Err(InvalidDisplayName::TooLong(length));
        }
        if text.chars().any(char::is_control) {
            return Err(InvalidDisplayName::Control);
        }
        Ok(Self(text.to_owned()))
    }

    /// A name as it was stored.
    pub(crate) const fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_display_name_is_trimmed_and_bounded() {
        assert_eq!(DisplayName::required("  Ada  ").map(|name| name.0).as_deref(), Ok("Ada"));
        assert_eq!(DisplayName::required(" \n "), Err(InvalidDisplayName::Missing));
        assert_eq!(DisplayName::required("a\u{7}b"), Err(InvalidDisplayName::Control));
        assert!(DisplayName::required(&"é".repeat(120)).is_ok());
        assert_eq!(DisplayName::required(&"é".repeat(121)), Err(InvalidDisplayName::TooLong(121)));
        assert!(DisplayName::optional("").is_ok());
    }
}
