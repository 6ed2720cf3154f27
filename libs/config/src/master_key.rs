use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

/// The one secret of a deployment; every other secret that the services share is derived from it.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The text is no key.
    #[error("a master key is 32 random bytes in base64 (`head -c 32 /dev/urandom | base64` makes one)")]
    Malformed,
    /// Others may read the file.
    #[error("{} may be read by others: `chmod 600` it", .0.display())]
    Exposed(PathBuf),
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The key's file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The operating system gave no randomness.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
}

impl MasterKey {
    /// A new key from the operating system's randomness.
    ///
    /// # Errors
    /// [`MasterKeyError::NoRandomness`].
    pub fn generate() -> Result<Self, MasterKeyError> {
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(bytes.as_mut()).map_err(|_| MasterKeyError::NoRandomness)?;
        Ok(Self(bytes))
    }

    /// Reads a key from base64.
    ///
    /// # Errors
    /// [`MasterKeyError::Malformed`] unless it is exactly 32 bytes.
    pub fn from_base64(text: &str) -> Result<Self, MasterKeyError> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| MasterKeyError::Malformed)?);
        let bytes: [u8; 32] = bytes.as_slice().try_into().map_err(|_| MasterKeyError::Malformed)?;
        Ok(Self(Zeroizing::new(bytes)))
    }

    /// Reads the key of a file that only its owner may read.
    ///
    /// # Errors
    /// When it cannot be read, others may read it too, or it holds no key.
    pub fn load(path: &Path) -> Result<Self, MasterKeyError> {
        let io = |source| MasterKeyError::Io { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(io)?.mode() & 0o077 != 0 {
            return Err(MasterKeyError::Exposed(path.to_owned()));
        }
        Self::from_base64(&Zeroizing::new(std::fs::read_to_string(path).map_err(io)?))
    }

    /// Reads the key of a file, or makes it (mode 0600) when there is none. Several processes may do so at once: all of them
    /// get the same key.
    ///
    /// # Errors
    /// As [`MasterKey::load`], and when the file cannot be written.
    pub fn load_or_create(path: &Path) -> Result<Self, MasterKeyError> {
        let io = |source| MasterKeyError::Io { path: path.to_owned(), source };
        match Self::load(path) {
            Err(MasterKeyError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            result => return result,
        }
        let key = Self::generate()?;
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}", &key.derive_password("draft")[..8]));
        let draft = PathBuf::from(draft);
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft).map_err(io)?;
        let text = Zeroizing::new(format!("{}\n", STANDARD.encode(key.0.as_ref())));
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
        // Linking fails if somebody else was first, and nobody ever sees a half-written key.
        let linked = std::fs::hard_link(&draft, path);
        std::fs::remove_file(&draft).map_err(io)?;
        match linked {
            Ok(()) => Ok(key),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Self::load(path),
            Err(error) => Err(io(error)),
        }
    }

    /// The key for one purpose: HKDF-SHA256 (RFC 5869) with the purpose as its info.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let prk = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, b"weir").extract(self.0.as_ref());
        let mut key = [0; 32];
        let info = [purpose.as_bytes()];
        // 32 bytes are one block of SHA-256, which `expand` and `fill` cannot refuse.
        let filled = prk.expand(&info, ring::hkdf::HKDF_SHA256).and_then(|material| material.fill(&mut key));
        assert!(filled.is_ok(), "HKDF of one block");
        key
    }

    /// A password for one purpose, in characters that need no quoting in a URL or in SQL.
    #[must_use]
    pub fn derive_password(&self, purpose: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.derive(purpose))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::{MasterKey, MasterKeyError};

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    #[test]
    fn each_purpose_has_its_own_stable_key() {
        let key = MasterKey::from_base64(KEY).expect("it is a key");
        assert_eq!(key.derive("a"), key.derive("a"));
        assert_ne!(key.derive("a"), key.derive("b"));
        assert_ne!(key.derive("a"), MasterKey::generate().expect("randomness").derive("a"));
        assert!(key.derive_password("a").bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    }

    #[test]
    fn a_text_that_is_not_32_bytes_is_refused() {
        for text in ["", "secret", "AAEC", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gIQ=="] {
            assert!(matches!(MasterKey::from_base64(text), Err(MasterKeyError::Malformed)), "{text}");
        }
    }
}
