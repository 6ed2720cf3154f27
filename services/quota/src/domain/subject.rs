//! Whose limits apply.

use uuid::Uuid;
use weir_types::{ApiKeyId, OrganizationId, UserId, names, unit};

use super::Scope;

/// Whose limits apply, with every scope of one request in a fixed order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The tenant.
    pub organization: OrganizationId,
    /// The scopes beside the organisation; at most [`MAX_VALUES`].
    pub values: Vec<Value>,
}

/// One scope of a request and its value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// The tenant as a whole.
    Organization,
    /// A user.
    User(UserId),
    /// An API key.
    ApiKey(ApiKeyId),
    /// An address.
    Ip(String),
    /// An anonymous visitor.
    Visitor(String),
    /// A label.
    Label(String, String),
}

/// User, key, address, visitor and sixteen labels.
pub const MAX_VALUES: usize = 20;
const MAX_LABELS: usize = 16;
const MAX_TEXT: usize = 128;

/// Why a subject was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSubject {
    /// A user or API key that is not the organisation's, or no such name.
    #[error("{field}: {message}")]
    Name {
        /// `user` or `api_key`.
        field: &'static str,
        /// What is wrong.
        message: String,
    },
    /// Too many or too long labels, or an address that is none.
    #[error("{field}: {message}")]
    Text {
        /// `ip`, `visitor` or `labels`.
        field: &'static str,
        /// What is wrong.
        message: &'static str,
    },
}

impl InvalidSubject {
    /// The field that is wrong.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Name { field, .. } | Self::Text { field, .. } => field,
        }
    }
}

impl Subject {
    /// Reads the parts of a request; empty names are scopes that it does not have.
    ///
    /// # Errors
    /// Says which part is malformed or belongs to another organisation.
    pub fn new<'a>(
        organization: OrganizationId,
        user: &str,
        api_key: &str,
        ip: &str,
        visitor: &str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, InvalidSubject> {
        let mut values = Vec::with_capacity(2);
        let foreign = |field| InvalidSubject::Name { field, message: "is not the organisation's".to_owned() };
        if !user.is_empty() {
            let (owner, id) = names::parse_user(user)
                .map_err(|error| InvalidSubject::Name { field: "user", message: error.to_string() })?;
            if owner != organization {
                return Err(foreign("user"));
            }
            values.push(Value::User(id));
        }
        if !api_key.is_empty() {
            let (owner, id) = names::parse_api_key(api_key)
                .map_err(|error| InvalidSubject::Name { field: "api_key", message: error.to_string() })?;
            if owner != organization {
                return Err(foreign("api_key"));
            }
            values.push(Value::ApiKey(id));
        }
        if !ip.is_empty() {
            let ip: std::net::IpAddr =
                ip.parse().map_err(|_| InvalidSubject::Text { field: "ip", message: "is no address" })?;
            // One spelling, and one counter for a host that is reached by both protocols' forms of one address.
            values.push(Value::Ip(ip.to_canonical().to_string()));
        }
        if visitor.len() > MAX_TEXT || visitor.contains('\0') {
            return Err(InvalidSubject::Text { field: "visitor", message: "at most 128 bytes, none of them NUL" });
        }
        if !visitor.is_empty() {
            values.push(Value::Visitor(visitor.to_owned()));
        }
        let mut labels: Vec<(&str, &str)> = labels.into_iter().collect();
        if labels.len() > MAX_LABELS {
            return Err(InvalidSubject::Text { field: "labels", message: "at most 16" });
        }
        labels.sort_unstable();
        for (name, value) in labels {
            if !unit::is_valid(name) || !matches!(Scope::parse(name), Scope::Label(_)) {
                return Err(InvalidSubject::Text {
                    field: "labels",
                    message: "a name must match [a-z][a-z0-9_]{0,62} and be none of organization, user, api_key, ip, visitor",
                });
            }
            // Postgres keeps no NUL.
            if value.is_empty() || value.len() > MAX_TEXT || value.contains('\0') {
                let message = "a value must have 1 to 128 bytes, none of them NUL";
                return Err(InvalidSubject::Text { field: "labels", message });
            }
            values.push(Value::Label(name.to_owned(), value.to_owned()));
        }
        Ok(Self { organization, values })
    }

    /// The value of a label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.values.iter().find_map(|value| match value {
            Value::Label(label, value) if label == name => Some(value.as_str()),
            _ => None,
        })
    }

    /// The value of a scope, if the request has it.
    #[must_use]
    pub fn value(&self, scope: &Scope) -> Option<&Value> {
        match scope {
            Scope::Organization => Some(&Value::Organization),
            _ => self.values.iter().find(|value| value.is_of(scope)),
        }
    }
}

impl Value {
    fn is_of(&self, scope: &Scope) -> bool {
        match (self, scope) {
            (Self::Organization, Scope::Organization)
            | (Self::User(_), Scope::User)
            | (Self::ApiKey(_), Scope::ApiKey)
            | (Self::Ip(_), Scope::Ip)
            | (Self::Visitor(_), Scope::Visitor) => true,
            (Self::Label(name, _), Scope::Label(wanted)) => name == wanted,
            _ => false,
        }
    }

    /// Reads [`text`](Self::text) back.
    #[must_use]
    pub fn from_text(scope: &Scope, text: &str) -> Option<Self> {
        match scope {
            Scope::Organization => text.is_empty().then_some(Self::Organization),
            Scope::User => text.parse().ok().map(Self::User),
            Scope::ApiKey => text.parse().ok().map(Self::ApiKey),
            Scope::Ip => Some(Self::Ip(text.to_owned())),
            Scope::Visitor => Some(Self::Visitor(text.to_owned())),
            Scope::Label(name) => Some(Self::Label(name.clone(), text.to_owned())),
            // Of no tenant.
            Scope::Shared(_) => None,
        }
    }

    /// The value as it stands in Postgres; the scope is the limit's.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Organization => String::new(),
            Self::User(id) => id.to_string(),
            Self::ApiKey(id) => id.to_string(),
            Self::Ip(text) | Self::Visitor(text) | Self::Label(_, text) => text.clone(),
        }
    }

    /// The value and its scope in as few bytes as possible: a field of the tenant's hash in Redis.
    #[must_use]
    pub fn field(&self) -> Vec<u8> {
        let mut field = Vec::with_capacity(self.field_len());
        self.write_field(&mut field);
        field
    }

    /// Appends [`field`](Self::field).
    pub fn write_field(&self, field: &mut Vec<u8>) {
        let (tag, parts): (u8, [&[u8]; 3]) = match self {
            Self::Organization => (b'o', [&[], &[], &[]]),
            Self::User(id) => (b'u', [id.as_uuid().as_bytes(), &[], &[]]),
            Self::ApiKey(id) => (b'k', [id.as_uuid().as_bytes(), &[], &[]]),
            Self::Ip(text) => (b'i', [text.as_bytes(), &[], &[]]),
            Self::Visitor(text) => (b'v', [text.as_bytes(), &[], &[]]),
            // A unit-like name has no NUL.
            Self::Label(name, value) => (b'l', [name.as_bytes(), b"\0", value.as_bytes()]),
        };
        field.push(tag);
        parts.iter().for_each(|part| field.extend_from_slice(part));
    }

    /// The length of [`field`](Self::field).
    #[must_use]
    pub fn field_len(&self) -> usize {
        match self {
            Self::Organization => 1,
            Self::User(_) | Self::ApiKey(_) => 17,
            Self::Ip(text) | Self::Visitor(text) => 1 + text.len(),
            Self::Label(name, value) => 2 + name.len() + value.len(),
        }
    }

    /// Reads [`field`](Self::field) back.
    #[must_use]
    pub fn from_field(field: &[u8]) -> Option<Self> {
        let (tag, rest) = field.split_first()?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok().filter(|text| !text.contains('\0'));
        match tag {
            b'o' if rest.is_empty() => Some(Self::Organization),
            b'u' => Some(Self::User(Uuid::from_slice(rest).ok()?.into())),
            b'k' => Some(Self::ApiKey(Uuid::from_slice(rest).ok()?.into())),
            b'i' => Some(Self::Ip(text(rest)?)),
            b'v' => Some(Self::Visitor(text(rest)?)),
            b'l' => {
                let split = rest.iter().position(|byte| *byte == 0)?;
                Some(Self::Label(text(&rest[..split])?, text(&rest[split + 1..])?))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_of_another_organization_is_refused() {
        let (ours, theirs) = (OrganizationId::new_v7(), OrganizationId::new_v7());
        let user = names::user(&theirs, &UserId::new_v7());
        assert_eq!(Subject::new(ours, &user, "", "", "", []).unwrap_err().field(), "user");
        assert_eq!(Subject::new(ours, "", "x", "", "", []).unwrap_err().field(), "api_key");
        assert_eq!(Subject::new(ours, "", "", "1.2.3", "", []).unwrap_err().field(), "ip");
        assert_eq!(Subject::new(ours, "", "", "", "", [("user", "x")]).unwrap_err().field(), "labels");
    }

    #[test]
    fn a_field_is_read_as_it_is_written() {
        let values = [
            Value::Organization,
            Value::User(UserId::new_v7()),
            Value::ApiKey(ApiKeyId::new_v7()),
            Value::Ip("2001:db8::1".to_owned()),
            Value::Visitor("cookie-7".to_owned()),
            Value::Label("feature".to_owned(), "interview".to_owned()),
        ];
        for value in values {
            assert_eq!(Value::from_field(&value.field()), Some(value));
        }
        assert_eq!(Value::from_field(b"u1"), None);
    }
}
