//! E-mail addresses.

/// Why an e-mail address is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidEmail {
    /// Not of the form `name@domain`.
    #[error("is not an e-mail address: expected `name@domain`")]
    Form,
    /// RFC 5321 allows paths of at most 256 octets, brackets included.
    #[error("is longer than 254 bytes")]
    TooLong,
}

/// An e-mail address as it was given, and as it is compared.
///
/// Only the form is checked: whether mail arrives is known only by sending one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Email {
    text: String,
    key: String,
}

impl Email {
    /// Reads an address.
    ///
    /// # Errors
    /// When it is not of the form `name@domain`, or too long.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidEmail> {
        let text = text.trim();
        if text.len() > 254 {
            return Err(InvalidEmail::TooLong);
        }
        let (name, domain) = text.rsplit_once('@').ok_or(InvalidEmail::Form)?;
        let domain_is_sound = domain.split('.').all(|label| !label.is_empty());
        let printable = !text.chars().any(|c| c.is_whitespace() || c.is_control());
        if name.is_empty() || name.contains('@') || !domain_is_sound || !printable {
            return Err(InvalidEmail::Form);
        }
        Ok(Self { text: text.to_owned(), key: text.to_lowercase() })
    }

    /// As it was given.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// As it is compared: in lower case (Unicode, independent of the database's collation).
    #[must_use]
    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_without_regard_to_case() {
        let email = Email::parse(" Ada.Lovelace@Example.COM ").expect("an address");
        assert_eq!((email.as_str(), email.key()), ("Ada.Lovelace@Example.COM", "ada.lovelace@example.com"));
        assert_eq!(Email::parse("ÅSA@example.com").expect("an address").key(), "åsa@example.com");
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        for text in ["", "ada", "@example.com", "ada@", "a@b@c", "ada@.com", "ada@x..y", "a da@x.y", "a\n@x.y"] {
            assert_eq!(Email::parse(text), Err(InvalidEmail::Form), "{text:?}");
        }
        assert_eq!(Email::parse(&format!("{}@x.y", "a".repeat(260))), Err(InvalidEmail::TooLong));
    }
}
