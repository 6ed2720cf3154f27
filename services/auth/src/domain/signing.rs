//! The Ed25519 keys that sign principal tokens, and how they rest in the database.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use zeroize::Zeroizing;

/// What goes wrong with keys only when something is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Defect {
    /// The system's random number generator failed.
    #[error("the system has no random numbers to give")]
    Random,
    /// A sealed key doesn't open.
    #[error("signing key {0} does not open: it was sealed under another master key, or was changed")]
    Sealed(String),
    /// An opened key is not the one that its row says.
    #[error("signing key {0} does not match its public key")]
    Mismatch(String),
}

/// The public half of a signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicKey {
    /// The `kid` of tokens: the key's thumbprint (RFC 7638).
    pub(crate) id: String,
    /// The 32 bytes.
    pub(crate) bytes: [u8; 32],
    /// Whether tokens are signed with it now.
    pub(crate) current: bool,
}

/// A key that signs tokens.
pub(crate) struct SigningKey {
    id: String,
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

impl SigningKey {
    /// A new key and its seed, which is to be sealed and forgotten.
    ///
    /// # Errors
    /// When the system has no random numbers to give.
    pub(crate) fn generate() -> Result<(Self, Zeroizing<[u8; 32]>), Defect> {
        let mut seed = Zeroizing::new([0_u8; 32]);
        SystemRandom::new().fill(seed.as_mut()).map_err(|_| Defect::Random)?;
        let key = Self::from_seed(seed.as_ref()).ok_or(Defect::Random)?;
        Ok((key, seed))
    }

    fn from_seed(seed: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        Some(Self { id: thumbprint(&public), pair, public })
    }

    /// The `kid`.
    #[must_use]
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The public half.
    #[must_use]
    pub(crate) const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The Ed25519 signature of `message`.
    #[must_use]
    pub(crate) fn sign(&self, message: &[u8]) -> ring::signature::Signature {
        self.pair.sign(message)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

/// RFC 7638 with the members of RFC 8037, appendix A.3.
fn thumbprint(public: &[u8; 32]) -> String {
    let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, URL_SAFE_NO_PAD.encode(public));
    URL_SAFE_NO_PAD.encode(digest(&SHA256, jwk.as_bytes()))
}

/// Seals signing keys: AES-256-GCM under a key derived from the master key, with the `kid` as associated data,
/// so that a row's sealed key can't be put in another row.
pub(crate) struct SealingKey(LessSafeKey);

impl SealingKey {
    /// From 32 derived bytes.
    ///
    /// # Errors
    /// None that can happen: AES-256 takes any 32 bytes.
    pub(crate) fn new(bytes: &[u8; 32]) -> Result<Self, Defect> {
        let key = UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| Defect::Random)?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Nonce, ciphertext and tag. The nonce is random: a few keys a year are far from where 96 bits repeat.
    ///
    /// # Errors
    /// When the system has no random numbers to give.
    pub(crate) fn seal(&self, id: &str, seed: &[u8; 32]) -> Result<Vec<u8>, Defect> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| Defect::Random)?;
        let mut sealed = seed.to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(id.as_bytes()), &mut sealed)
            .map_err(|_| Defect::Random)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// The signing key that was sealed.
    ///
    /// # Errors
    /// When it was sealed under another key or name, was changed, or isn't the key of that name.
    pub(crate) fn open(&self, id: &str, sealed: &[u8]) -> Result<SigningKey, Defect> {
        let fails = || Defect::Sealed(id.to_owned());
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or_else(fails)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| fails())?;
        let mut bytes = Zeroizing::new(sealed.to_vec());
        let seed = self.0.open_in_place(nonce, Aad::from(id.as_bytes()), bytes.as_mut_slice()).map_err(|_| fails())?;
        let key = SigningKey::from_seed(seed).ok_or_else(fails)?;
        if key.id == id { Ok(key) } else { Err(Defect::Mismatch(id.to_owned())) }
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037, appendix A.1 and A.3.
    #[test]
    fn a_key_id_is_the_thumbprint_of_rfc_8037() {
        let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").expect("base64url");
        let key = SigningKey::from_seed(&seed).expect("a seed");
        assert_eq!(URL_SAFE_NO_PAD.encode(key.public()), "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(key.id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_sealed_key_opens_under_its_own_name_and_master_key_only() {
        let sealing = SealingKey::new(&[7; 32]).expect("32 bytes");
        let (key, seed) = SigningKey::generate().expect("random numbers");
        let sealed = sealing.seal(key.id(), &seed).expect("sealed");
        assert_eq!(sealing.open(key.id(), &sealed).expect("opens").public(), key.public());
        assert!(!sealed.windows(32).any(|window| window == seed.as_slice()));

        assert!(sealing.open("another", &sealed).is_err());
        assert!(SealingKey::new(&[8; 32]).expect("32 bytes").open(key.id(), &sealed).is_err());
        let mut changed = sealed;
        changed[20] ^= 1;
        assert_eq!(sealing.open(key.id(), &changed).err(), Some(Defect::Sealed(key.id().to_owned())));
    }
}
