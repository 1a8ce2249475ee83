//! The class of a path: a hash of the path without its ids.
//!
//! Paths of one class have the same method, and differ only in segments that look like an id: digits, or a UUID.

/// A class of paths: a hash of what they have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::http) struct PathClass(pub(super) u64);

/// An odd factor with bits spread evenly: 2^64 divided by the golden ratio.
pub(super) const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl PathClass {
    #[inline]
    pub(in crate::http) fn of(method: &str, path: &str) -> Self {
        let initial = method.bytes().next().unwrap_or_default();
        let mut class = (method.len() as u64) << 8 | u64::from(initial);
        let path = path.as_bytes();
        let mut rest = path.strip_prefix(b"/").unwrap_or(path);
        loop {
            let (hash, behind) = match id_length(rest) {
                Some(length) => (SPREAD, after_slash(rest, length)),
                None => literal_segment(rest),
            };
            class = mix(class, hash);
            match behind {
                Some(behind) => rest = behind,
                // Zero is the class of an empty place.
                None => return Self(class | 1),
            }
        }
    }
}

/// Adds a number to a hash. The upper bits depend on all numbers and on their order.
#[inline]
pub(super) fn mix(hash: u64, number: u64) -> u64 {
    let mixed = (hash ^ number).wrapping_mul(SPREAD);
    mixed ^ mixed >> 32
}

/// What follows the slash at this place. `None` at the end of the path.
#[inline]
fn after_slash(path: &[u8], slash: usize) -> Option<&[u8]> {
    path.get(slash + 1..)
}

/// The length of the first segment of a path, if that looks like an id. Most others differ in their first bytes.
#[inline]
fn id_length(path: &[u8]) -> Option<usize> {
    let mut has_digit = false;
    for (at, byte) in path.iter().enumerate() {
        match byte {
            b'0'..=b'9' => has_digit = true,
            b'a'..=b'f' | b'A'..=b'F' | b'-' => {}
            b'/' => return has_digit.then_some(at),
            _ => return None,
        }
    }
    has_digit.then_some(path.len())
}

/// A hash of the first segment of a path, and what follows it.
#[inline]
fn literal_segment(mut path: &[u8]) -> (u64, Option<&[u8]>) {
    let mut hash = 0;
    loop {
        let word = first_word(path);
        let length = slash(word).min(path.len());
        if length < WORD {
            // The bits of the bytes before the slash.
            let segment = word & ((1 << (8 * length)) - 1);
            return (mix(hash, segment), after_slash(path, length));
        }
        hash = mix(hash, word);
        path = &path[WORD..];
    }
}

/// Bytes in a word.
pub(super) const WORD: usize = size_of::<u64>();
/// A word whose bytes are all one.
pub(super) const ONES: u64 = u64::from_le_bytes([1; WORD]);
/// The highest bit of each byte of a word.
pub(super) const HIGHEST_BITS: u64 = ONES << 7;

/// The first eight bytes, with zeros behind a shorter path.
#[inline]
fn first_word(path: &[u8]) -> u64 {
    match path.first_chunk::<WORD>() {
        Some(word) => u64::from_le_bytes(*word),
        None => (path.iter().rev()).fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// The place of the first slash in a word; 8 without one.
#[inline]
fn slash(word: u64) -> usize {
    let others = word ^ u64::from_le_bytes([b'/'; WORD]);
    // A byte that is zero borrows into its highest bit. The lowest such bit is right, those above it may not be.
    let zeros = others.wrapping_sub(ONES) & !others & HIGHEST_BITS;
    zeros.trailing_zeros() as usize / 8
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn paths_that_differ_in_ids_only_have_one_class() {
        let uuid = "/items/0b8f6e2c-93aa-4b8c-9d9e-2f1d1f0c7a55";
        for (one, other, expected, why) in [
            ("/items/5", "/items/123456", true, "numbers"),
            ("/items/5", uuid, true, "a UUID"),
            ("/items/5/posts", "/items/6/posts", true, "an id within"),
            ("/items/5", "/items/5/", false, "a slash at the end"),
            ("/items/5", "/items/me", false, "a word"),
            ("/items/5", "/posts/5", false, "another word before"),
            ("/items/cafe", "/items/face", false, "words of hex digits"),
            ("/items/v1", "/items/v2", false, "a letter that is no digit"),
            ("/a/1/b", "/b/1/a", false, "another order"),
            ("/ab/c", "/a/bc", false, "other bounds"),
        ] {
            let is_same = PathClass::of("GET", one) == PathClass::of("GET", other);
            assert_eq!(is_same, expected, "{why}: {one} and {other}");
        }
        assert_ne!(PathClass::of("GET", "/a"), PathClass::of("PUT", "/a"));
    }

    #[test]
    fn each_segment_is_hashed_as_a_whole() {
        let bytes = "abcdefghijklmnopqrstuvwxyz";
        let mut classes = HashSet::new();
        for length in 0..bytes.len() {
            let segment = &bytes[..length];
            for path in [
                format!("/{segment}"),
                format!("/{segment}/"),
                format!("/{segment}/z"),
                format!("/{segment}/z/z"),
                format!("/z/{segment}/x/7/x"),
                format!("/{segment}z"),
            ] {
                assert_eq!(PathClass::of("GET", &path), PathClass::of("GET", &path));
                assert!(classes.insert(PathClass::of("GET", &path).0), "{path}");
            }
            let numbers = [5, 123_456_789].map(|id| format!("/{segment}/{id}/{segment}"));
            let [one, other] = numbers.map(|path| PathClass::of("GET", &path));
            assert_eq!(one, other, "{segment}");
        }
    }
}
