//! From hashes to slots.

use hashbrown::HashTable;
use smallvec::SmallVec;

/// A hash table that never grows all at once: it is many small ones, and when they are full on average, one of them is split
/// (linear hashing). A tenant with ten million users doubles its index in steps of some thousand entries, each within one request.
#[derive(Debug)]
pub(super) struct Index {
    /// Most tenants have one, which is here.
    parts: SmallVec<[HashTable<Entry>; 1]>,
    len: usize,
}

/// Half of a hash, kept so that growing does not touch what it stands for, and the slot.
#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u32,
    slot: u32,
}

/// Entries of a part, on average, above which one is split.
const FULL: usize = 4_096;

/// All of a table's hash from the half that chose the part: the bits that are alike in a part must not be those that choose its
/// bucket.
const fn spread(hash: u32) -> u64 {
    let mixed = (hash as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}

impl Index {
    pub(super) fn new() -> Self {
        Self { parts: SmallVec::new(), len: 0 }
    }

    fn part(&self, hash: u32) -> usize {
        let parts = self.parts.len();
        let mask = parts.next_power_of_two() - 1;
        let part = hash as usize & mask;
        if part < parts { part } else { part & (mask >> 1) }
    }

    /// The slot of a hash that `is` accepts.
    pub(super) fn find(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<u32> {
        let hash = fold(hash);
        let part = self.parts.get(self.part(hash))?;
        part.find(spread(hash), |entry| entry.hash == hash && is(entry.slot)).map(|entry| entry.slot)
    }

    /// Adds a slot that is not there.
    pub(super) fn insert(&mut self, hash: u64, slot: u32) {
        let hash = fold(hash);
        if self.len >= self.parts.len() * FULL {
            self.split();
        }
        let part = self.part(hash);
        self.parts[part].insert_unique(spread(hash), Entry { hash, slot }, |entry| spread(entry.hash));
        self.len += 1;
    }

    /// Takes a slot off.
    pub(super) fn remove(&mut self, hash: u64, slot: u32) {
        let hash = fold(hash);
        let part = self.part(hash);
        let Some(part) = self.parts.get_mut(part) else { return };
        if let Ok(entry) = part.find_entry(spread(hash), |entry| entry.slot == slot) {
            entry.remove();
            self.len -= 1;
        }
        if self.len == 0 {
            *self = Self::new();
        }
    }

    fn split(&mut self) {
        let new = self.parts.len();
        self.parts.push(HashTable::new());
        if new == 0 {
            return;
        }
        let old = new - ((new + 1).next_power_of_two() >> 1);
        let mut from = std::mem::take(&mut self.parts[old]);
        for entry in from.drain() {
            let part = self.part(entry.hash);
            self.parts[part].insert_unique(spread(entry.hash), entry, |entry| spread(entry.hash));
        }
    }
}

const fn fold(hash: u64) -> u32 {
    let [a, b, c, d, e, f, g, h] = hash.to_le_bytes();
    u32::from_le_bytes([a, b, c, d]) ^ u32::from_le_bytes([e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn hash(number: u32) -> u64 {
        (number as u64).wrapping_mul(0xd6e8_feb8_6659_fd93)
    }

    #[test]
    fn what_is_put_in_is_found_however_often_it_was_split() {
        let mut index = Index::new();
        let count = 100_000;
        for number in 0..count {
            index.insert(hash(number), number);
        }
        assert!(index.parts.len() > 20);
        assert!(index.parts.iter().all(|part| part.len() < 3 * FULL), "split evenly");
        for number in 0..count {
            assert_eq!(index.find(hash(number), |slot| slot == number), Some(number));
        }
        for number in (0..count).step_by(2) {
            index.remove(hash(number), number);
        }
        for number in 0..count {
            let expected = (number % 2 == 1).then_some(number);
            assert_eq!(index.find(hash(number), |slot| slot == number), expected);
        }
        assert_eq!(index.len, 50_000);
    }
}
