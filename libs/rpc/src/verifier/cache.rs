//! Verified tokens, found again by their text.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::Caller;

const SHARDS: usize = 16;
/// Per shard: about 10 MiB in all when full.
const CAPACITY: usize = 1024;

/// A bounded map from a token's whole text to who it stands for.
///
/// The key is taken from the signature, which is as good as random, so nothing is hashed; the whole text is compared,
/// so a made-up token with a known signature is not found. Only verified tokens get in.
#[derive(Default)]
pub(super) struct Cache([RwLock<Shard>; SHARDS]);

type Shard = HashMap<u64, Entry, BuildHasherDefault<Taken>>;

struct Entry {
    token: Box<[u8]>,
    expires: i64,
    caller: Arc<Caller>,
}

/// Takes a key that is already spread as its own hash.
#[derive(Default)]
struct Taken(u64);

impl Hasher for Taken {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// 16 characters (96 bits) of the signature, folded. Not the last four: those are not fully random.
fn key(token: &[u8]) -> Option<u64> {
    let end = token.len().checked_sub(4)?;
    let (high, low) = token.get(end.checked_sub(16)?..end)?.split_at(8);
    let word = |bytes: &[u8]| bytes.iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
    Some((word(high) ^ word(low).rotate_left(29)).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

impl Cache {
    fn shard(&self, key: u64) -> &RwLock<Shard> {
        // The map itself uses the low bits and the top seven.
        &self.0[usize::from((key >> 32).to_le_bytes()[0]) % SHARDS]
    }

    pub(super) fn get(&self, token: &[u8], now: i64) -> Option<Arc<Caller>> {
        let key = key(token)?;
        let shard = self.shard(key).read();
        let entry = shard.get(&key)?;
        (entry.expires > now && *entry.token == *token).then(|| Arc::clone(&entry.caller))
    }

    pub(super) fn insert(&self, token: &[u8], expires: i64, caller: Arc<Caller>, now: i64) {
        let Some(key) = key(token) else { return };
        let mut shard = self.shard(key).write();
        if shard.len() >= CAPACITY {
            shard.retain(|_, entry| entry.expires > now);
        }
        if shard.len() >= CAPACITY {
            // Full of good ones: any of them goes, it is only verified again.
            if let Some(&other) = shard.keys().next() {
                shard.remove(&other);
            }
        }
        shard.insert(key, Entry { token: token.into(), expires, caller });
    }

    /// Drops the entries of callers that `gone` names.
    pub(super) fn evict(&self, gone: impl Fn(&Caller) -> bool) {
        for shard in &self.0 {
            shard.write().retain(|_, entry| !gone(&entry.caller));
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.iter().map(|shard| shard.read().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> Arc<Caller> {
        Arc::new(Caller::Service("quota".into()))
    }

    #[test]
    fn a_token_is_found_until_it_ends_and_only_by_its_whole_text() {
        let cache = Cache::default();
        cache.insert(b"header.claims.signature-signature", 100, caller(), 0);
        assert!(cache.get(b"header.claims.signature-signature", 99).is_some());
        assert!(cache.get(b"header.claims.signature-signature", 100).is_none());
        assert!(cache.get(b"header.others.signature-signature", 99).is_none());
        assert!(cache.get(b"short", 0).is_none());
    }

    #[test]
    fn the_cache_is_bounded_whatever_comes() {
        let cache = Cache::default();
        for i in 0..100_000u64 {
            let token = format!("h.c.{:032x}", u128::from(i).wrapping_mul(0x1234_5678_9ABC_DEF1_2345_6789));
            cache.insert(token.as_bytes(), 100, caller(), 0);
        }
        assert!(cache.len() <= SHARDS * CAPACITY);
        assert!(cache.len() > SHARDS * CAPACITY / 2, "the keys spread over the shards: {}", cache.len());
    }
}
