//! Addresses of results that expire: signed, and checked without looking anything up.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use weir_config::MasterKey;

/// Why an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LinkError {
    /// It was good once.
    #[error("the address has expired")]
    Expired,
    /// It never was.
    #[error("the address is not signed by this deployment")]
    Forged,
}

/// What makes an address good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// In seconds since 1970.
    pub(crate) expires: i64,
    /// `{version}.{signature}`.
    pub(crate) signature: String,
}

/// Signs addresses. The version before the newest one is good still, so that addresses survive a rotation.
#[derive(Clone)]
pub(crate) struct Links {
    newest: u32,
    keys: Vec<(u32, hmac::Key)>,
}

impl Links {
    /// With keys of this version and the one before it.
    pub(crate) fn new(master: &MasterKey, newest: u32) -> Self {
        let key =
            |version: u32| (version, hmac::Key::new(hmac::HMAC_SHA256, &master.derive(&format!("results/{version}"))));
        Self { newest, keys: (newest.saturating_sub(1)..=newest).map(key).collect() }
    }

    /// Signs `path` until `expires`.
    pub(crate) fn sign(&self, path: &str, expires: i64) -> Link {
        let key = self.keys.iter().find(|(version, _)| *version == self.newest);
        let tag = key.map(|(_, key)| hmac::sign(key, &content(path, expires)));
        let tag = tag.map(|tag| URL_SAFE_NO_PAD.encode(tag)).unwrap_or_default();
        Link { expires, signature: format!("{}.{tag}", self.newest) }
    }

    /// Checks what came with `path` at `now`.
    ///
    /// # Errors
    /// It was not signed here, or has expired.
    pub(crate) fn check(&self, path: &str, link: &Link, now: i64) -> Result<(), LinkError> {
        let (version, tag) = link.signature.split_once('.').ok_or(LinkError::Forged)?;
        let version: u32 = version.parse().map_err(|_| LinkError::Forged)?;
        let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| LinkError::Forged)?;
        let (_, key) = self.keys.iter().find(|(known, _)| *known == version).ok_or(LinkError::Forged)?;
        // In constant time.
        hmac::verify(key, &content(path, link.expires), &tag).map_err(|_| LinkError::Forged)?;
        if now < link.expires { Ok(()) } else { Err(LinkError::Expired) }
    }
}

fn content(path: &str, expires: i64) -> Vec<u8> {
    format!("{path}\n{expires}").into_bytes()
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("newest", &self.newest).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(version: u32) -> Links {
        let master = MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").expect("a key");
        Links::new(&master, version)
    }

    #[test]
    fn an_address_is_good_for_its_own_path_until_it_expires() {
        let links = links(3);
        let link = links.sign("a/b.jpg", 1000);
        assert_eq!(links.check("a/b.jpg", &link, 999), Ok(()));
        assert_eq!(links.check("a/b.jpg", &link, 1000), Err(LinkError::Expired));
        assert_eq!(links.check("a/c.jpg", &link, 999), Err(LinkError::Forged));
        assert_eq!(links.check("a/b.jpg", &Link { expires: 2000, ..link.clone() }, 999), Err(LinkError::Forged));
        for signature in ["", "3", "3.", "3.AAAA", "x.y"] {
            assert_eq!(
                links.check("a/b.jpg", &Link { signature: signature.into(), ..link.clone() }, 999),
                Err(LinkError::Forged)
            );
        }
    }

    #[test]
    fn a_rotation_keeps_the_addresses_of_the_version_before() {
        let old = links(3).sign("a/b.jpg", 1000);
        assert_eq!(links(4).check("a/b.jpg", &old, 1), Ok(()));
        assert_eq!(links(5).check("a/b.jpg", &old, 1), Err(LinkError::Forged));
    }
}
