//! Answers that are kept: named by keyed hashes and encrypted, under keys of each tenant's own.
//!
//! Every key is derived from the master key and lies nowhere. A name tells nothing about what it was made of, not even whether
//! two tenants asked the same. Each content has a key of its own, which takes a secret that is not stored beside it.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use weir_config::MasterKey;
use weir_types::OrganizationId;

/// A keyed hash; 32 bytes.
pub(crate) type Name = [u8; 32];

/// The keys of one tenant for one purpose.
#[derive(Clone)]
pub(crate) struct TenantKeys {
    names: hmac::Key,
    contents: hmac::Key,
}

impl TenantKeys {
    /// Those of `owner` (an organisation, or what stands for all) for `purpose`.
    pub(crate) fn of(master: &MasterKey, purpose: &str, owner: &str) -> Self {
        let key = |what| hmac::Key::new(hmac::HMAC_SHA256, &master.derive(&format!("{purpose}/{what}/{owner}")));
        Self { names: key("names"), contents: key("contents") }
    }

    /// Those of an organisation.
    pub(crate) fn of_tenant(master: &MasterKey, purpose: &str, organization: OrganizationId) -> Self {
        Self::of(master, purpose, &organization.to_string())
    }

    /// The name of what these parts say, in this order.
    pub(crate) fn name<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> Name {
        digest(&self.names, parts)
    }

    /// The key of the content that `secret` stands for.
    pub(crate) fn seal<'a>(&self, secret: impl IntoIterator<Item = &'a [u8]>) -> Seal {
        Seal(digest(&self.contents, secret))
    }
}

/// An HMAC over parts, each with its length before it, so that no two lists of parts are the same text.
fn digest<'a>(key: &hmac::Key, parts: impl IntoIterator<Item = &'a [u8]>) -> Name {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut name = [0; 32];
    name.copy_from_slice(context.sign().as_ref());
    name
}

/// Encrypts and decrypts one content: AES-256-GCM, with a random nonce before the ciphertext.
pub(crate) struct Seal([u8; 32]);

impl Seal {
    fn key(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&AES_256_GCM, &self.0).ok().map(LessSafeKey::new)
    }

    /// Encrypts; what is sealed under one name can't be opened under another. None if the system gave no randomness.
    pub(crate) fn close(&self, name: &Name, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = Vec::with_capacity(NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.key()?.seal_in_place_separate_tag(nonce, Aad::from(name), &mut sealed[NONCE_LEN..]).ok()?;
        sealed.extend_from_slice(tag.as_ref());
        Some(sealed)
    }

    /// Decrypts; none if it is not what was sealed with this key under this name.
    pub(crate) fn open(&self, name: &Name, mut sealed: Vec<u8>) -> Option<Vec<u8>> {
        let nonce = Nonce::try_assume_unique_for_key(sealed.get(..NONCE_LEN)?).ok()?;
        let length = self.key()?.open_in_place(nonce, Aad::from(name), &mut sealed[NONCE_LEN..]).ok()?.len();
        sealed.truncate(NONCE_LEN + length);
        sealed.drain(..NONCE_LEN);
        Some(sealed)
    }
}

impl std::fmt::Debug for TenantKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TenantKeys([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(purpose: &str, organization: OrganizationId) -> TenantKeys {
        let master = MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").expect("a key");
        TenantKeys::of_tenant(&master, purpose, organization)
    }

    #[test]
    fn names_tell_tenants_purposes_and_parts_apart() {
        let ours = OrganizationId::new_v7();
        let name = |purpose, organization, parts: &[&str]| {
            keys(purpose, organization).name(parts.iter().map(|part| part.as_bytes()))
        };
        assert_eq!(name("a", ours, &["x", "yz"]), name("a", ours, &["x", "yz"]));
        assert_ne!(name("a", ours, &["x", "yz"]), name("a", ours, &["xy", "z"]));
        assert_ne!(name("a", ours, &["x"]), name("b", ours, &["x"]));
        assert_ne!(name("a", ours, &["x"]), name("a", OrganizationId::new_v7(), &["x"]));
    }

    #[test]
    fn only_who_knows_the_secret_and_the_name_can_open_what_was_sealed() {
        let keys = keys("a", OrganizationId::new_v7());
        let seal = |secret: &str| keys.seal([secret.as_bytes()]);
        let sealed = seal("s").close(&[1; 32], b"an answer").expect("randomness");
        assert!(!sealed.windows(6).any(|bytes| bytes == b"answer"));
        assert_eq!(seal("s").open(&[1; 32], sealed.clone()).as_deref(), Some(b"an answer".as_slice()));
        assert_eq!(seal("t").open(&[1; 32], sealed.clone()), None);
        assert_eq!(seal("s").open(&[2; 32], sealed.clone()), None);
        let mut bent = sealed.clone();
        bent[NONCE_LEN] ^= 1;
        assert_eq!(seal("s").open(&[1; 32], bent), None);
        assert_eq!(seal("s").open(&[1; 32], sealed[..5].to_vec()), None);
        assert_ne!(seal("s").close(&[1; 32], b"an answer"), Some(sealed), "each has a nonce of its own");
    }
}
