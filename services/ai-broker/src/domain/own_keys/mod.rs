//! Keys of providers that users and organisations bring themselves.

mod seal;

use weir_types::{NanoUsd, OrganizationId, ProviderKeyId, UserId};

pub(crate) use seal::{DataKey, FIRST_MASTER, Masters, NotOpened, Wrapped};

/// Whose a key is, and of which provider. It never changes, and a sealed secret opens for nobody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) organization: OrganizationId,
    /// None: the whole organisation.
    pub(crate) user: Option<UserId>,
    pub(crate) provider: String,
}

/// What its holder lets a key be used for; what is unset is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct KeyLimits {
    pub(crate) requests_per_minute: Option<i64>,
    pub(crate) tokens_per_minute: Option<i64>,
    /// By list price, in a calendar month in UTC.
    pub(crate) cost_per_month: Option<NanoUsd>,
}

impl KeyLimits {
    /// Whether there is no limit at all.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The lengths of a secret that are taken. Of one that is shorter, four characters would tell too much.
pub(crate) const SECRET_BYTES: std::ops::RangeInclusive<usize> = 16..=1024;
/// The most characters of a label.
pub(crate) const LABEL_CHARS: usize = 64;

/// Why a secret can't be a key.
pub(crate) fn fault_of_secret(secret: &str) -> Option<&'static str> {
    if !SECRET_BYTES.contains(&secret.len()) {
        return Some("must have 16 to 1,024 characters");
    }
    let is_plain = secret.bytes().all(|byte| byte.is_ascii_graphic());
    (!is_plain).then_some("must be letters, digits and signs, without spaces")
}

/// What people may see of a secret that has no fault.
pub(crate) fn last_four(secret: &str) -> String {
    secret.chars().skip(secret.chars().count().saturating_sub(4)).collect()
}

/// A key, in what is said of it where something goes wrong.
pub(crate) fn named(label: &str, last_four: &str) -> String {
    if label.is_empty() { format!("…{last_four}") } else { format!("`{label}` (…{last_four})") }
}

/// A key as its holder sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyView {
    pub(crate) id: ProviderKeyId,
    pub(crate) holder: Holder,
    pub(crate) label: String,
    pub(crate) last_four: String,
    pub(crate) limits: KeyLimits,
    pub(crate) created_at: chrono::DateTime<chrono::Utc>,
    pub(crate) updated_at: chrono::DateTime<chrono::Utc>,
    pub(crate) used_at: Option<chrono::DateTime<chrono::Utc>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_plain_and_long_enough_to_show_four_of_it() {
        let secret = "sk-0123456789abcdef";
        assert_eq!((fault_of_secret(secret), last_four(secret).as_str()), (None, "cdef"));
        for bad in
            ["", "sk-short", "sk-0123456789 abcdef", "sk-0123456789\nabcdef", "sk-0123456789äbcdef", &"x".repeat(1025)]
        {
            assert!(fault_of_secret(bad).is_some(), "{bad}");
        }
        assert_eq!(named("mine", "cdef"), "`mine` (…cdef)");
        assert_eq!(named("", "cdef"), "…cdef");
    }
}
