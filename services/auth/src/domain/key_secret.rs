//! The text of an API key: `weir_<key id, 32 hex digits>_<32 random bytes, 43 characters of base64url>`.
//!
//! The id in it makes the look-up one read by primary key. The secret part has 256 bits of entropy, so nobody can
//! try them all and a single fast SHA-256 of the whole text is the right thing to store; slow hashes are for
//! passwords, which people choose.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;
use weir_types::ApiKeyId;
use zeroize::Zeroizing;

use super::Defect;

const START: &str = "weir_";
const ID_LENGTH: usize = 32;
const RANDOM_LENGTH: usize = 43;
const LENGTH: usize = START.len() + ID_LENGTH + 1 + RANDOM_LENGTH;
/// Up to where a key's text may be shown: the id's time part, enough to tell keys apart.
const PREFIX_LENGTH: usize = START.len() + 12;

/// Text that is not an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The text of an API key. Wiped from memory when dropped, never printed.
pub(crate) struct KeySecret {
    id: ApiKeyId,
    text: Zeroizing<String>,
}

impl KeySecret {
    /// A new secret for the key `id`.
    ///
    /// # Errors
    /// When the system has no random numbers to give.
    pub(crate) fn generate(id: ApiKeyId) -> Result<Self, Defect> {
        let mut random = Zeroizing::new([0_u8; 32]);
        SystemRandom::new().fill(random.as_mut()).map_err(|_| Defect::Random)?;
        let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(random.as_ref()));
        let text = Zeroizing::new(format!("{START}{}_{}", id.as_uuid().as_simple(), encoded.as_str()));
        Ok(Self { id, text })
    }

    /// Reads what a client presented.
    ///
    /// # Errors
    /// When it doesn't have the form of a key.
    pub(crate) fn parse(text: String) -> Result<Self, Malformed> {
        let text = Zeroizing::new(text);
        if text.len() != LENGTH {
            return Err(Malformed);
        }
        let rest = text.strip_prefix(START).ok_or(Malformed)?;
        let (id, random) = rest.split_once('_').ok_or(Malformed)?;
        let sound = id.len() == ID_LENGTH
            && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            && random.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !sound {
            return Err(Malformed);
        }
        let id = Uuid::try_parse(id).map_err(|_| Malformed)?.into();
        Ok(Self { id, text })
    }

    /// The key that it belongs to, if it is genuine.
    #[must_use]
    pub(crate) const fn id(&self) -> ApiKeyId {
        self.id
    }

    /// The whole text, to be shown once.
    #[must_use]
    pub(crate) fn expose(&self) -> &str {
        &self.text
    }

    /// What is stored.
    #[must_use]
    pub(crate) fn digest(&self) -> SecretDigest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, self.text.as_bytes()).as_ref());
        SecretDigest(bytes)
    }

    /// What a key is recognised by: the first characters of its text.
    #[must_use]
    pub(crate) fn prefix(id: ApiKeyId) -> String {
        let mut prefix = format!("{START}{}", id.as_uuid().as_simple());
        prefix.truncate(PREFIX_LENGTH);
        prefix
    }
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySecret({}, [redacted])", self.id)
    }
}

/// The SHA-256 of a whole key text. Compared in constant time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SecretDigest([u8; 32]);

impl SecretDigest {
    /// What an unknown key is compared with, so that it takes the time of a known one. No text is known to have it.
    pub(crate) const OF_NOTHING: Self = Self([0; 32]);

    /// The bytes.
    #[must_use]
    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether `stored` is the same.
    #[must_use]
    pub(crate) fn matches(&self, stored: &[u8]) -> bool {
        self.0.ct_eq(stored).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_reads_back_and_matches_its_own_digest_only() {
        let id = ApiKeyId::new_v7();
        let secret = KeySecret::generate(id).expect("random numbers");
        assert_eq!(secret.expose().len(), 81);
        let read = KeySecret::parse(secret.expose().to_owned()).expect("its own text");
        assert_eq!(read.id(), id);
        assert!(read.digest().matches(secret.digest().as_bytes()));
        let other = KeySecret::generate(id).expect("random numbers");
        assert!(!other.digest().matches(secret.digest().as_bytes()));
        assert!(!other.digest().matches(&[]));
        assert!(secret.expose().starts_with(&KeySecret::prefix(id)));
    }

    #[test]
    fn what_does_not_look_like_a_key_is_malformed() {
        let good = KeySecret::generate(ApiKeyId::new_v7()).expect("random numbers").expose().to_owned();
        let upper =
            format!("weir_{}{}", good[5..37].to_uppercase().replace(|c: char| c.is_ascii_digit(), "A"), &good[37..]);
        for text in
            ["", "weir_", "sk-1234", &good[1..], &good[..80], &format!("{good}x"), &upper, &good.replace('_', "-")]
        {
            assert!(KeySecret::parse(text.to_owned()).is_err(), "{text}");
        }
        assert!(KeySecret::parse(good.replace("weir_", "wier_")).is_err());
        let wide = format!("weir_{}é_{}", "0".repeat(30), "A".repeat(43));
        assert!(KeySecret::parse(wide).is_err(), "81 bytes, but not of hex digits");
    }

    #[test]
    fn a_secret_is_never_printed() {
        let secret = KeySecret::generate(ApiKeyId::new_v7()).expect("random numbers");
        assert!(!format!("{secret:?}").contains(&secret.expose()[38..]));
    }
}
