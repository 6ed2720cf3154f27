//! How secrets are sealed: AES-256-GCM under a data key of the tenant's, which is wrapped under a master key that has a version.
//!
//! What is sealed is `nonce (12 random bytes) ‖ ciphertext ‖ tag`. The additional data binds it to its place: a row that is copied to
//! another tenant, key, user or provider does not open there. A tag is compared in constant time, by `ring`.

use std::collections::BTreeMap;
use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use weir_config::MasterKey;
use weir_types::{OrganizationId, ProviderKeyId};
use zeroize::Zeroizing;

use super::Holder;

/// The version of the deployment's own master key.
pub(crate) const FIRST_MASTER: i32 = 1;
/// What a master key is asked for.
const PURPOSE: &str = "own-keys";
const KEY_LEN: usize = 32;

/// Something sealed does not open: it was altered or moved, or the key for it is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotOpened {
    /// No master key of this version is configured here.
    #[error("there is no master key of version {0}")]
    NoMaster(i32),
    /// Altered, moved, or sealed under another key.
    #[error("it was altered, or sealed under another key")]
    Altered,
    /// The operating system gave no random bytes, or a length is not a key's.
    #[error("the cipher can't be used")]
    Cipher,
}

/// A data key under a master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrapped {
    pub(crate) master_version: i32,
    pub(crate) bytes: Vec<u8>,
}

/// The master keys by version.
pub(crate) struct Masters {
    keys: BTreeMap<i32, LessSafeKey>,
    wraps: i32,
}

impl fmt::Debug for Masters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions: Vec<_> = self.keys.keys().collect();
        f.debug_struct("Masters").field("versions", &versions).field("wraps", &self.wraps).finish()
    }
}

impl Masters {
    /// These keys, of which the version `wraps` wraps what is wrapped from now on.
    ///
    /// # Errors
    /// [`NotOpened::NoMaster`] if that is not among them.
    pub(crate) fn new(keys: &BTreeMap<i32, MasterKey>, wraps: i32) -> Result<Self, NotOpened> {
        let cipher = |(version, master): (&i32, &MasterKey)| {
            let bytes = Zeroizing::new(master.derive(PURPOSE));
            Ok((*version, cipher(bytes.as_ref())?))
        };
        let keys: BTreeMap<i32, LessSafeKey> = keys.iter().map(cipher).collect::<Result<_, NotOpened>>()?;
        if keys.contains_key(&wraps) { Ok(Self { keys, wraps }) } else { Err(NotOpened::NoMaster(wraps)) }
    }

    /// The version that wraps.
    pub(crate) const fn wraps(&self) -> i32 {
        self.wraps
    }

    /// A new data key for a tenant, wrapped.
    pub(crate) fn make(&self, tenant: OrganizationId) -> Result<Wrapped, NotOpened> {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        SystemRandom::new().fill(bytes.as_mut()).map_err(|_| NotOpened::Cipher)?;
        self.wrap(tenant, bytes.as_ref())
    }

    /// A tenant's data key.
    pub(crate) fn unwrap(&self, tenant: OrganizationId, wrapped: &Wrapped) -> Result<DataKey, NotOpened> {
        cipher(&self.unwrapped(tenant, wrapped)?).map(DataKey)
    }

    /// The same data key under the master key that wraps now.
    pub(crate) fn rewrap(&self, tenant: OrganizationId, wrapped: &Wrapped) -> Result<Wrapped, NotOpened> {
        self.wrap(tenant, &self.unwrapped(tenant, wrapped)?)
    }

    fn wrap(&self, tenant: OrganizationId, bytes: &[u8]) -> Result<Wrapped, NotOpened> {
        let master = self.keys.get(&self.wraps).ok_or(NotOpened::NoMaster(self.wraps))?;
        Ok(Wrapped { master_version: self.wraps, bytes: seal(master, &place_of_data_key(tenant, self.wraps), bytes)? })
    }

    fn unwrapped(&self, tenant: OrganizationId, wrapped: &Wrapped) -> Result<Zeroizing<Vec<u8>>, NotOpened> {
        let version = wrapped.master_version;
        let master = self.keys.get(&version).ok_or(NotOpened::NoMaster(version))?;
        open(master, &place_of_data_key(tenant, version), &wrapped.bytes)
    }
}

/// What seals the secrets of one tenant.
pub(crate) struct DataKey(LessSafeKey);

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey([redacted])")
    }
}

impl DataKey {
    /// Seals a secret for its place.
    pub(crate) fn seal(&self, id: ProviderKeyId, holder: &Holder, secret: &str) -> Result<Vec<u8>, NotOpened> {
        seal(&self.0, &place_of_secret(id, holder), secret.as_bytes())
    }

    /// The secret that was sealed for this place.
    pub(crate) fn open(
        &self,
        id: ProviderKeyId,
        holder: &Holder,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, NotOpened> {
        open(&self.0, &place_of_secret(id, holder), sealed)
    }
}

fn cipher(bytes: &[u8]) -> Result<LessSafeKey, NotOpened> {
    UnboundKey::new(&AES_256_GCM, bytes).map(LessSafeKey::new).map_err(|_| NotOpened::Cipher)
}

fn seal(key: &LessSafeKey, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, NotOpened> {
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).map_err(|_| NotOpened::Cipher)?;
    let mut sealed = Vec::with_capacity(NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
    sealed.extend_from_slice(&nonce);
    // Encrypted where it stands: no copy of it remains.
    sealed.extend_from_slice(plain);
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut sealed[NONCE_LEN..])
        .map_err(|_| NotOpened::Cipher)?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

fn open(key: &LessSafeKey, place: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, NotOpened> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(NotOpened::Altered)?;
    let mut plain = Zeroizing::new(sealed.to_vec());
    let length = key
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(place), &mut plain)
        .map_err(|_| NotOpened::Altered)?
        .len();
    plain.truncate(length);
    Ok(plain)
}

fn place_of_data_key(tenant: OrganizationId, version: i32) -> Vec<u8> {
    [b"weir data key\0".as_slice(), tenant.as_uuid().as_bytes(), &version.to_be_bytes()].concat()
}

fn place_of_secret(id: ProviderKeyId, holder: &Holder) -> Vec<u8> {
    let user = holder.user.as_ref().map_or([0; 16], |user| *user.as_uuid().as_bytes());
    let organization = holder.organization.as_uuid();
    let parts = [b"weir provider key\0", organization.as_bytes().as_slice(), id.as_uuid().as_bytes(), &user];
    // The provider's name is last: nothing follows that it could be mistaken for.
    [parts.concat().as_slice(), holder.provider.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use weir_types::UserId;

    use super::*;

    fn masters(versions: &[i32], wraps: i32) -> Masters {
        let keys = versions.iter().map(|version| {
            let text = STANDARD.encode([u8::try_from(*version).expect("small"); KEY_LEN]);
            (*version, MasterKey::from_base64(&text).expect("32 bytes"))
        });
        Masters::new(&keys.collect(), wraps).expect("wraps with one of them")
    }

    fn holder() -> Holder {
        let user = Some(UserId::new_v7());
        Holder { organization: OrganizationId::new_v7(), user, provider: "openai".into() }
    }

    #[test]
    fn a_secret_opens_in_its_place_and_in_no_other() {
        let (masters, mine, id) = (masters(&[1], 1), holder(), ProviderKeyId::new_v7());
        let data_key =
            masters.unwrap(mine.organization, &masters.make(mine.organization).expect("made")).expect("opens");
        let sealed = data_key.seal(id, &mine, "sk-secret").expect("sealed");
        assert_eq!(data_key.open(id, &mine, &sealed).expect("opens").as_slice(), b"sk-secret");
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_ne!(sealed, data_key.seal(id, &mine, "sk-secret").expect("sealed"), "a nonce is used once");
        let elsewhere = [
            Holder { organization: OrganizationId::new_v7(), ..mine.clone() },
            Holder { user: None, ..mine.clone() },
            Holder { user: Some(UserId::new_v7()), ..mine.clone() },
            Holder { provider: "openai2".into(), ..mine.clone() },
        ];
        for other in &elsewhere {
            assert_eq!(data_key.open(id, other, &sealed).err(), Some(NotOpened::Altered), "{other:?}");
        }
        assert!(data_key.open(ProviderKeyId::new_v7(), &mine, &sealed).is_err());
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(data_key.open(id, &mine, &altered).is_err(), "byte {at}");
        }
        assert_eq!(data_key.open(id, &mine, &sealed[..5]).err(), Some(NotOpened::Altered));
    }

    #[test]
    fn a_data_key_opens_for_its_tenant_alone() {
        let (masters, ours) = (masters(&[1], 1), OrganizationId::new_v7());
        let wrapped = masters.make(ours).expect("made");
        assert!(masters.unwrap(ours, &wrapped).is_ok());
        assert_eq!(masters.unwrap(OrganizationId::new_v7(), &wrapped).err(), Some(NotOpened::Altered));
    }

    #[test]
    fn a_rotated_master_key_wraps_anew_and_the_secrets_stay_as_they_are() {
        let (mine, id) = (holder(), ProviderKeyId::new_v7());
        let old = masters(&[1], 1);
        let first = old.make(mine.organization).expect("made");
        let sealed =
            old.unwrap(mine.organization, &first).expect("opens").seal(id, &mine, "sk-secret").expect("sealed");
        let both = masters(&[1, 2], 2);
        let second = both.rewrap(mine.organization, &first).expect("wrapped anew");
        assert_eq!(second.master_version, 2);
        let new = masters(&[2], 2);
        let opened = new.unwrap(mine.organization, &second).expect("opens").open(id, &mine, &sealed);
        assert_eq!(opened.expect("opens").as_slice(), b"sk-secret");
        assert_eq!(new.unwrap(mine.organization, &first).err(), Some(NotOpened::NoMaster(1)));
        // A version's number is not its key.
        let renumbered = Wrapped { master_version: 2, ..first };
        assert_eq!(both.unwrap(mine.organization, &renumbered).err(), Some(NotOpened::Altered));
        assert!(Masters::new(&BTreeMap::new(), 1).is_err());
    }

    #[test]
    fn nothing_of_a_key_is_printed() {
        let masters = masters(&[1, 2], 2);
        let tenant = OrganizationId::new_v7();
        let data_key = masters.unwrap(tenant, &masters.make(tenant).expect("made")).expect("opens");
        let printed = format!("{masters:?} {data_key:?}");
        assert_eq!(printed, "Masters { versions: [1, 2], wraps: 2 } DataKey([redacted])");
    }
}
