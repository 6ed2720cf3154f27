//! Values by a small number.

use smallvec::SmallVec;

/// Numbered values in chunks: growing never moves what is there, so no request waits for a copy of a large tenant.
#[derive(Debug)]
pub(super) struct Slab<T> {
    /// The first one is here, so that a small tenant's is not looked for.
    chunks: SmallVec<[Vec<Option<T>>; 1]>,
    free: Vec<u32>,
    next: u32,
}

const SHIFT: u32 = 12;
const CHUNK: usize = 1 << SHIFT;

const fn place(slot: u32) -> (usize, usize) {
    ((slot >> SHIFT) as usize, slot as usize & (CHUNK - 1))
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self { chunks: SmallVec::new(), free: Vec::new(), next: 0 }
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.next as usize - self.free.len()
    }

    /// One more than the highest number ever given.
    pub(super) const fn end(&self) -> u32 {
        self.next
    }

    /// Adds a value; answers its number.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(slot) = self.free.pop() {
            let (chunk, at) = place(slot);
            self.chunks[chunk][at] = Some(value);
            return slot;
        }
        let slot = self.next;
        self.next += 1;
        let (chunk, _) = place(slot);
        if chunk == self.chunks.len() {
            // The first one grows as it is needed: most tenants are small.
            self.chunks.push(Vec::with_capacity(if chunk == 0 { 4 } else { CHUNK }));
        }
        self.chunks[chunk].push(Some(value));
        slot
    }

    pub(super) fn get(&self, slot: u32) -> Option<&T> {
        let (chunk, at) = place(slot);
        self.chunks.get(chunk)?.get(at)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        let (chunk, at) = place(slot);
        self.chunks.get_mut(chunk)?.get_mut(at)?.as_mut()
    }

    /// Takes a value out. When the last one goes, so does the room for all.
    pub(super) fn remove(&mut self, slot: u32) -> Option<T> {
        let (chunk, at) = place(slot);
        let value = self.chunks.get_mut(chunk)?.get_mut(at)?.take()?;
        self.free.push(slot);
        if self.len() == 0 {
            *self = Self::new();
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_numbers_and_gaps_are_filled() {
        let mut slab = Slab::new();
        let slots: Vec<u32> = (0..9_000).map(|value| slab.insert(value)).collect();
        assert_eq!((slab.len(), slab.end()), (9_000, 9_000));
        assert_eq!(slab.remove(slots[1_500]), Some(1_500));
        assert_eq!((slab.remove(slots[1_500]), slab.get(slots[1_500])), (None, None));
        assert_eq!(slab.insert(7), slots[1_500]);
        assert_eq!((slab.get(slots[1_500]), slab.get(slots[8_999])), (Some(&7), Some(&8_999)));
        assert_eq!(slab.get(9_000), None);
        assert!(slots.iter().all(|slot| slab.remove(*slot).is_some()));
        assert_eq!((slab.len(), slab.end()), (0, 0));
    }
}
