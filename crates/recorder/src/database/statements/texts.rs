//! A bounded map of the texts that a connection has run recently, by their hash.

use std::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashMap;

/// A bounded map of the texts that were used most recently.
///
/// It has two generations. When the young one is full it becomes the old one, and the previous old one is cleared. A text
/// that is found in the old generation moves to the young one. A connection that uses at most as many texts as one
/// generation has room for never loses any of them.
#[derive(Debug)]
pub(super) struct Texts<T> {
    young: Generation<T>,
    old: Generation<T>,
    most: usize,
}

type Generation<T> = HashMap<u64, T, BuildHasherDefault<Hashed>>;

impl<T: Copy> Texts<T> {
    /// Keeps at least the `most` texts that were used last, and at most twice as many.
    pub(super) fn new(most: usize) -> Self {
        Self {
            young: HashMap::default(),
            old: HashMap::default(),
            most,
        }
    }

    /// Returns the value of the text with this hash.
    #[inline]
    pub(super) fn get(&mut self, hash: u64) -> Option<T> {
        if let Some(known) = self.young.get(&hash) {
            return Some(*known);
        }
        let known = self.old.remove(&hash)?;
        self.insert(hash, known);
        Some(known)
    }

    /// Whether there is a value for the text with this hash. Does not count as a use of it.
    pub(super) fn contains(&self, hash: u64) -> bool {
        self.young.contains_key(&hash) || self.old.contains_key(&hash)
    }

    /// Remembers a value for the text with this hash.
    pub(super) fn insert(&mut self, hash: u64, known: T) {
        if self.young.len() >= self.most && !self.young.contains_key(&hash) {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(hash, known);
    }

    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

/// A hasher for keys that are hashes already.
#[derive(Debug, Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash that is spread over all bits, as that of a text.
    fn hash(number: u64) -> u64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn texts_that_alternate_are_all_kept() {
        let mut texts = Texts::new(100);
        for round in 0..5 {
            for number in 0..100 {
                let known = texts.get(hash(number));
                assert_eq!(known, (round > 0).then_some(number), "{round}");
                if known.is_none() {
                    texts.insert(hash(number), number);
                }
            }
        }
    }

    #[test]
    fn a_text_in_use_is_kept_among_texts_that_are_used_once() {
        let mut texts = Texts::new(100);
        texts.insert(hash(0), 0);
        for number in 1..10_000 {
            texts.insert(hash(number), number);
            if number % 50 == 0 {
                assert_eq!(texts.get(hash(0)), Some(0), "{number}");
            }
        }
        assert!(texts.len() <= 200);
        assert_eq!(texts.get(hash(1)), None);
    }
}
