//! The octaves of a histogram as a reader finds them: the native buckets of all shards, 32 side by side.
//!
//! Most counts are small. An octave of small counts is read as bytes, eight of them in a word, so that few instructions add,
//! compare or write all of them. The counts of other octaves have 32 bits.

use super::cell::NarrowCellLine;
use super::native::PER_OCTAVE;

/// Small counts have at most this many bits. In protobuf, the difference of two of them takes one byte.
const SMALL_BITS: u32 = 6;

/// Eight bytes of 1.
const ONES: u64 = 0x0101_0101_0101_0101;

/// The highest bit of eight bytes.
const TOPS: u64 = ONES * 0x80;

/// The counts of an octave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Counts<'a> {
    Small(SmallCounts),
    Large(&'a [u32; PER_OCTAVE]),
}

/// Small counts, eight in a word, the first in its lowest byte.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SmallCounts([u64; PER_OCTAVE / 8]);

/// Octaves with values, ascending.
#[derive(Debug, Default)]
pub(crate) struct Octaves {
    list: Vec<Octave>,
    /// The counts of the octaves that have a large one.
    large: Vec<[u32; PER_OCTAVE]>,
}

#[derive(Debug)]
struct Octave {
    /// The index of its first bucket.
    first: i32,
    /// The small counts, or the position of the large ones.
    counts: Result<SmallCounts, usize>,
}

impl Octaves {
    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.large.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The index of the first bucket of each octave, and its counts.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i32, Counts<'_>)> {
        self.list.iter().map(|octave| {
            let counts = match &octave.counts {
                Ok(small) => Counts::Small(*small),
                Err(at) => Counts::Large(&self.large[*at]),
            };
            (octave.first, counts)
        })
    }

    /// Index and count of the populated buckets, ascending.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (i32, u64)> {
        self.iter().flat_map(|(first, counts)| {
            let counts = counts.to_u32().map(u64::from);
            (first..).zip(counts).filter(|(_, count)| *count > 0)
        })
    }

    /// Whether more than `limit` buckets are populated.
    pub(crate) fn has_more_than(&self, limit: usize) -> bool {
        self.list.len() * PER_OCTAVE > limit && {
            let populated = self.iter().map(|(_, counts)| counts.populated());
            populated.sum::<u32>() as usize > limit
        }
    }

    /// The sum of all buckets.
    pub(crate) fn count(&self) -> u64 {
        self.iter().map(|(_, counts)| counts.sum()).sum()
    }

    /// Adds the counts of one shard's octave that begins at index `first`. Octaves come in ascending order, and `at` is the
    /// position from which on this one may be; 0 for the first one of a shard. Most series have one shard, whose octaves are
    /// appended one after the other. Returns false if a sum has more than 32 bits; the octaves are of no use then.
    #[inline]
    pub(crate) fn add(&mut self, at: &mut usize, first: i32, line: &NarrowCellLine) -> bool {
        let mut known = self.list[*at..].iter();
        *at += known
            .by_ref()
            .take_while(|known| known.first < first)
            .count();
        let counts = line.load_bytes(SMALL_BITS).map(SmallCounts);
        match (self.list.get_mut(*at), counts) {
            (Some(known), counts) if known.first == first => {
                *at += 1;
                let sum = match (&known.counts, counts) {
                    (Ok(known), Some(counts)) => known.plus(counts),
                    _ => None,
                };
                match sum {
                    Some(sum) => {
                        known.counts = Ok(sum);
                        true
                    }
                    None => self.add_large(*at - 1, line),
                }
            }
            (_, Some(counts)) => {
                self.insert(at, first, Ok(counts));
                true
            }
            (_, None) => {
                self.large.push(line.load());
                self.insert(at, first, Err(self.large.len() - 1));
                true
            }
        }
    }

    #[inline]
    fn insert(&mut self, at: &mut usize, first: i32, counts: Result<SmallCounts, usize>) {
        let octave = Octave { first, counts };
        if *at == self.list.len() {
            self.list.push(octave);
        } else {
            self.list.insert(*at, octave);
        }
        *at += 1;
    }

    /// Appends an octave.
    #[cfg(test)]
    pub(crate) fn push(&mut self, first: i32, counts: [u32; PER_OCTAVE]) {
        let counts = SmallCounts::of(&counts).ok_or_else(|| {
            self.large.push(counts);
            self.large.len() - 1
        });
        self.list.push(Octave { first, counts });
    }

    /// Adds counts to those of the octave at this position. Either are large, or their sum is.
    fn add_large(&mut self, position: usize, line: &NarrowCellLine) -> bool {
        let octave = &mut self.list[position];
        let at = match octave.counts {
            Ok(small) => {
                self.large.push(small.to_u32());
                self.large.len() - 1
            }
            Err(at) => at,
        };
        octave.counts = Err(at);
        add(&mut self.large[at], &line.load())
    }
}

/// Adds the counts to the sums. Returns false if one of them does not fit.
fn add(sums: &mut [u32; PER_OCTAVE], counts: &[u32; PER_OCTAVE]) -> bool {
    let mut fit = true;
    for (sum, count) in sums.iter_mut().zip(counts) {
        let (added, has_overflown) = sum.overflowing_add(*count);
        *sum = added;
        fit &= !has_overflown;
    }
    fit
}

impl Counts<'_> {
    /// The counts one by one.
    pub(crate) fn to_u32(self) -> [u32; PER_OCTAVE] {
        match self {
            Counts::Small(counts) => counts.to_u32(),
            Counts::Large(counts) => *counts,
        }
    }

    /// The number of populated buckets.
    fn populated(self) -> u32 {
        match self {
            Counts::Small(counts) => counts.populated().count_ones(),
            Counts::Large(counts) => counts.iter().map(|count| u32::from(*count > 0)).sum(),
        }
    }

    /// The sum of all buckets.
    #[inline]
    fn sum(self) -> u64 {
        /// The sum of an octave's counts below this fits into 32 bits.
        const SUMMABLE: u32 = u32::MAX >> PER_OCTAVE.trailing_zeros();
        match self {
            Counts::Small(counts) => counts.sum(),
            Counts::Large(counts) if counts.iter().fold(0, |all, one| all | one) < SUMMABLE => {
                counts.iter().sum::<u32>().into()
            }
            Counts::Large(counts) => counts.iter().map(|count| u64::from(*count)).sum(),
        }
    }
}

impl SmallCounts {
    /// The counts, if they are small.
    #[cfg(test)]
    fn of(counts: &[u32; PER_OCTAVE]) -> Option<Self> {
        let line = NarrowCellLine::of(counts);
        line.load_bytes(SMALL_BITS).map(Self)
    }

    /// The sums of two octaves, if these are small as well.
    #[inline]
    fn plus(self, other: Self) -> Option<Self> {
        let mut sums = self.0;
        for (sum, more) in sums.iter_mut().zip(other.0) {
            *sum += more;
        }
        let all = sums.iter().fold(0, |all, sum| all | sum);
        let large = ONES * (0xff & !((1 << SMALL_BITS) - 1));
        (all & large == 0).then_some(Self(sums))
    }

    /// The sum of the counts.
    #[inline]
    fn sum(self) -> u64 {
        // Four small counts fit into a byte, and all 32 into 16 bits.
        let bytes = self.0.iter().sum::<u64>();
        let pairs = (bytes & 0x00ff_00ff_00ff_00ff) + (bytes >> 8 & 0x00ff_00ff_00ff_00ff);
        pairs.wrapping_mul(0x0001_0001_0001_0001) >> 48
    }

    /// The counts as bytes.
    #[inline]
    pub(crate) fn to_bytes(self) -> [u8; PER_OCTAVE] {
        bytes_of(self.0)
    }

    fn to_u32(self) -> [u32; PER_OCTAVE] {
        self.to_bytes().map(u32::from)
    }

    /// A bit for each count that is not 0.
    ///
    /// Adding 0x7f sets the highest bit of each byte that is not 0, and the product collects these bits in the highest byte.
    #[inline]
    pub(crate) fn populated(self) -> u32 {
        self.0.iter().rev().fold(0, |bits, word| {
            let not_zero = ((word + ONES * 0x7f) & TOPS) >> 7;
            bits << 8 | (not_zero.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
        })
    }

    /// The difference of each count to the one before it, in zigzag encoding; of the first one to 0.
    #[inline]
    pub(crate) fn differences(self) -> [u8; PER_OCTAVE] {
        let mut before = 0;
        let mut differences = [0; PER_OCTAVE / 8];
        for (difference, word) in differences.iter_mut().zip(self.0) {
            // 128 more than the difference, so that no byte borrows from its neighbour.
            let raised = (word | TOPS) - (word << 8 | before);
            before = word >> 56;
            // Twice the difference, inverted if that is negative.
            let negative = (!raised >> 7 & ONES) * 0xff;
            *difference = ((raised << 1) & (ONES * 0xfe)) ^ negative;
        }
        bytes_of(differences)
    }
}

#[inline]
fn bytes_of(words: [u64; PER_OCTAVE / 8]) -> [u8; PER_OCTAVE] {
    let mut bytes = [0; PER_OCTAVE];
    let (chunks, _) = bytes.as_chunks_mut::<8>();
    for (chunk, word) in chunks.iter_mut().zip(words) {
        *chunk = word.to_le_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests;
