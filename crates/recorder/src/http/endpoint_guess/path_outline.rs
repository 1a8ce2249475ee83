//! The outline of a path: a hash of the path without its numbers, which costs less than its class.
//!
//! A number is a segment of digits only. A path is read eight bytes at a time. Paths with one outline have one class, but a
//! class has many outlines: one for each length of each number, and one for each UUID.

use super::path_class::{HIGHEST_BITS, ONES, SPREAD, WORD, mix};

/// The outline of a path and a method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::http) struct PathOutline(pub(super) u64);

impl PathOutline {
    #[inline]
    pub(in crate::http) fn of(method: &str, path: &str) -> Self {
        let initial = method.bytes().next().unwrap_or_default();
        let path = path.as_bytes();
        let sizes = (path.len() as u64) << 16 | (method.len() as u64) << 8;
        // Spread, since a first word could make up for a small difference of two seeds.
        let seed = (sizes | u64::from(initial)).wrapping_mul(SPREAD);
        let mut numbers = Numbers::default();
        let (words, rest) = path.as_chunks();
        let mut hash = seed;
        for word in words {
            hash = mix(hash, numbers.mask(u64::from_le_bytes(*word)));
        }
        if !rest.is_empty() {
            hash = mix(hash, numbers.mask(last_word(path, rest.len())));
        }
        if numbers.are_only_digits() {
            // Zero is the outline of an empty place.
            Self(hash | 1)
        } else {
            Self::of_all(seed, path)
        }
    }

    /// The outline of a path in which a segment begins with digits and goes on with something else.
    #[cold]
    fn of_all(seed: u64, path: &[u8]) -> Self {
        let words = path.chunks(WORD).map(|chunk| last_word(chunk, chunk.len()));
        // The seed differs from that of paths without such segments.
        Self(words.fold(!seed, mix) | 1)
    }
}

/// The last bytes of a path, this many of eight, with slashes behind them.
#[inline]
fn last_word(path: &[u8], length: usize) -> u64 {
    let bits = 8 * length;
    let word = match path.last_chunk::<WORD>() {
        Some(word) => u64::from_le_bytes(*word) >> (8 * WORD - bits),
        None => short_word(path),
    };
    if length == WORD {
        return word;
    }
    word | SLASHES << bits
}

/// A path of fewer than eight bytes, with zeros behind it.
#[inline]
fn short_word(path: &[u8]) -> u64 {
    if let (Some(first), Some(last)) = (path.first_chunk(), path.last_chunk()) {
        let [first, last] = [first, last].map(|half| u64::from(u32::from_le_bytes(*half)));
        return first | last << (8 * (path.len() - 4));
    }
    (path.iter().rev()).fold(0, |word, byte| word << 8 | u64::from(*byte))
}

const SLASHES: u64 = ONES * b'/' as u64;

/// Finds the numbers of a path, a word at a time. Flags are the highest or the lowest bits of bytes.
#[derive(Debug, Default)]
struct Numbers {
    /// Whether a number may begin or go on with the next byte: 1 or 0.
    may_go_on: u64,
    /// Whether the last byte was a digit of a number: 1 or 0.
    is_open: u64,
    /// Bytes behind a number that are no slash.
    wrong_ends: u64,
}

impl Numbers {
    /// Replaces the digits of numbers by zeros.
    #[inline]
    fn mask(&mut self, word: u64) -> u64 {
        let digits = digits(word);
        if digits | self.is_open == 0 {
            self.may_go_on = u64::from(word >> 56 == u64::from(b'/'));
            return word;
        }
        let slashes = zero_bytes(word ^ SLASHES);
        // All bits of each digit.
        let digits = (digits << 1).wrapping_sub(digits >> 7);
        let first = (slashes << 1 | self.may_go_on) & digits;
        // The carry of the addition runs through the digits of a number, and stops in the byte behind it.
        let (sum, goes_on) = digits.overflowing_add(first);
        let ends = (sum | self.is_open) & !digits;
        self.wrong_ends |= ends & !(slashes >> 7) & ONES;
        self.is_open = u64::from(goes_on);
        self.may_go_on = slashes >> 63 | self.is_open;
        word & !(digits & !sum)
    }

    /// Whether each segment that begins with a digit was a number. The end of the path ends a number, too.
    #[inline]
    fn are_only_digits(&self) -> bool {
        self.wrong_ends == 0
    }
}

/// The highest bit of each byte that is a digit.
#[inline]
fn digits(word: u64) -> u64 {
    let values = word ^ (ONES * u64::from(b'0'));
    // A value of ten or more carries into the highest bit.
    let others = ((values & !HIGHEST_BITS) + ONES * (0x80 - 10)) | values;
    !others & HIGHEST_BITS
}

/// The highest bit of each byte that is zero.
#[inline]
fn zero_bytes(word: u64) -> u64 {
    let others = ((word & !HIGHEST_BITS) + !HIGHEST_BITS) | word;
    !others & HIGHEST_BITS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::path_class::PathClass, *};

    /// The path with the digits of its numbers replaced, in the plain way.
    fn without_numbers(path: &str) -> String {
        let is_number = |segment: &str| {
            !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit())
        };
        let segments = path.split('/').enumerate().map(|(at, segment)| {
            // Nothing is before the first slash.
            if at > 0 && is_number(segment) {
                "#".repeat(segment.len())
            } else {
                segment.to_owned()
            }
        });
        segments.collect::<Vec<_>>().join("/")
    }

    /// Whether a segment begins with a digit and is no number, so that no digit is replaced.
    fn has_other_digits(path: &str) -> bool {
        path.split('/').skip(1).any(|segment| {
            let digits = segment.bytes().take_while(u8::is_ascii_digit).count();
            digits > 0 && digits < segment.len()
        })
    }

    fn outline(path: &str) -> PathOutline {
        PathOutline::of("GET", path)
    }

    #[test]
    fn paths_that_differ_in_the_digits_of_numbers_have_one_outline() {
        for (one, other, expected, why) in [
            ("/items/5", "/items/7", true, "a number"),
            ("/items/5", "/items/55", false, "another length"),
            (
                "/api/v1/users/42/posts/7",
                "/api/v1/users/99/posts/1",
                true,
                "two numbers",
            ),
            (
                "/items/123456789012",
                "/items/999999999999",
                true,
                "a number over two words",
            ),
            ("/v1", "/v2", false, "a letter before the digit"),
            ("/2d", "/3d", false, "a letter behind the digit"),
            (
                "/1234567/2",
                "/7654321/1",
                true,
                "a number that ends with its word",
            ),
            ("/123456/d", "/123457/d", true, "a slash that ends its word"),
            (
                "/12345678x",
                "/12345679x",
                false,
                "a letter behind digits of two words",
            ),
            ("/1-1", "/1-2", false, "a dash"),
            ("/items/a", "/items/b", false, "words"),
            ("/items", "/items/", false, "a slash at the end"),
            ("5", "7", false, "no slash"),
            ("/5", "/7", true, "nothing else"),
            ("", "/", false, "an empty path"),
            ("//-", "/", false, "bytes that differ as the lengths do"),
        ] {
            assert_eq!(
                outline(one) == outline(other),
                expected,
                "{why}: {one} and {other}"
            );
        }
        assert_ne!(PathOutline::of("GET", "/a"), PathOutline::of("PUT", "/a"));
    }

    proptest! {
        #[test]
        fn an_outline_is_that_of_the_path_without_its_numbers(
            one in "(/[0-9a-c-]{0,9}){0,4}",
            other in "(/[0-9a-c-]{0,9}){0,4}",
            digit in "[0-9]",
        ) {
            let same = without_numbers(&one) == without_numbers(&other)
                && (one == other || !has_other_digits(&one));
            prop_assert_eq!(outline(&one) == outline(&other), same);
            // The same numbers with other digits.
            let changed = without_numbers(&one).replace('#', &digit);
            let is_same = one == changed || !has_other_digits(&one);
            prop_assert_eq!(outline(&one) == outline(&changed), is_same);
            if is_same {
                prop_assert_eq!(PathClass::of("GET", &one), PathClass::of("GET", &changed));
            }
        }
    }
}
