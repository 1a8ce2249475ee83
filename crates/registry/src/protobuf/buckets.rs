//! Native buckets in protobuf: spans of populated buckets, and their counts, each as the difference to the count before it,
//! packed.
//!
//! Most counts are small, and most octaves are dense. Such an octave is written as a whole: its counts become bytes, all
//! differences are computed at once, and only the beginning of a run of populated buckets takes a branch. Without this, a
//! protobuf exposition takes a third longer (`benches/exposition.rs`).

use super::wire::{LENGTH, push_bytes, push_tag, push_uint, push_varint, varint_length, zigzag};
use crate::exposition::NativeReading;
use crate::native::{Octave, PER_OCTAVE};

/// Up to this many empty buckets in a row are written out, as `client_golang` does: they are smaller than another span.
const GAP: i32 = 2;

/// The tags of a span, of its offset and of its length: fields 12, 1 and 2.
const SPAN_TAGS: [u8; 3] = [12 << 3 | 2, 1 << 3, 2 << 3];

/// The difference of two counts below this takes one byte.
const SMALL: u32 = 64;

/// Appends spans and counts. Without any, an empty span marks the histogram as native. `deltas` is a buffer.
pub(super) fn push_buckets(out: &mut Vec<u8>, deltas: &mut Vec<u8>, native: &NativeReading) {
    deltas.clear();
    let mut spans = IndexSpans {
        out,
        deltas,
        last: None,
        before: 0,
    };
    for octave in &native.octaves {
        spans.push_octave(octave);
    }
    for (index, count) in &native.buckets {
        spans.push_bucket(*index, *count);
    }
    spans.end();
}

/// Writes spans as they end. The counts follow after all of them.
struct IndexSpans<'a> {
    out: &'a mut Vec<u8>,
    deltas: &'a mut Vec<u8>,
    last: Option<IndexSpan>,
    /// The count of the bucket that was written last.
    before: u64,
}

#[derive(Clone, Copy, Default)]
struct IndexSpan {
    /// From the end of the span before; from 0 for the first.
    offset: i32,
    start: i32,
    /// The index after the last bucket.
    end: i32,
}

impl IndexSpans<'_> {
    fn push_octave(&mut self, octave: &Octave) {
        let Some(counts) = small(&octave.counts) else {
            for (index, count) in (octave.first..).zip(octave.counts) {
                if count > 0 {
                    self.push_bucket(index, count.into());
                }
            }
            return;
        };
        let differences = differences(&counts);
        let mut runs = runs(populated(&counts));
        while runs != 0 {
            let start = runs.trailing_zeros();
            let length = (!(runs >> start)).trailing_zeros();
            runs &= !(u32::MAX >> (u32::BITS - length) << start);
            let (at, length) = (start as usize, length as usize);
            self.go_to(octave.first + start.cast_signed(), length);
            self.push_count(u64::from(counts[at]));
            // A copy of fixed length that is cut afterwards is faster than a copy of the run's length.
            let written = self.deltas.len() + length - 1;
            (self.deltas).extend_from_slice(&differences[at + 1..][..PER_OCTAVE]);
            self.deltas.truncate(written);
            self.before = u64::from(counts[at + length - 1]);
        }
    }

    fn push_bucket(&mut self, index: i32, count: u64) {
        self.go_to(index, 1);
        self.push_count(count);
    }

    /// Continues the last span, or starts a new one, with `length` buckets from `index` on.
    #[inline]
    fn go_to(&mut self, index: i32, length: usize) {
        // A length is at most that of an octave.
        let end = index + i32::try_from(length).unwrap_or(0);
        let mut offset = index;
        if let Some(last) = &mut self.last {
            offset = index - last.end;
            if offset <= GAP {
                last.end = end;
                for _ in 0..offset {
                    self.push_count(0);
                }
                return;
            }
            push_span(self.out, *last);
        }
        self.last = Some(IndexSpan {
            offset,
            start: index,
            end,
        });
    }

    #[inline]
    fn push_count(&mut self, count: u64) {
        let delta = count.wrapping_sub(self.before).cast_signed();
        push_varint(self.deltas, zigzag(delta));
        self.before = count;
    }

    fn end(self) {
        push_span(self.out, self.last.unwrap_or_default());
        if !self.deltas.is_empty() {
            push_bytes(self.out, 13, self.deltas);
        }
    }
}

fn push_span(out: &mut Vec<u8>, span: IndexSpan) {
    let offset = zigzag(i64::from(span.offset));
    let length = u64::from(span.start.abs_diff(span.end));
    if let (Ok(offset @ ..0x80), Ok(length @ ..0x80)) = (u8::try_from(offset), u8::try_from(length))
    {
        // Most spans: all varints take one byte.
        let [span, first, second] = SPAN_TAGS;
        out.extend_from_slice(&[span, 4, first, offset, second, length]);
        return;
    }
    push_tag(out, 12, LENGTH);
    push_varint(
        out,
        (2 + varint_length(offset) + varint_length(length)) as u64,
    );
    push_uint(out, 1, offset);
    push_uint(out, 2, length);
}

/// The counts as bytes, if all are small.
#[inline]
fn small(counts: &[u32; PER_OCTAVE]) -> Option<[u8; PER_OCTAVE]> {
    let all = counts.iter().fold(0, |all, count| all | count);
    if all >= SMALL {
        return None;
    }
    // A loop and not `map`, which is not inlined if the crate is built in several codegen units.
    let mut bytes = [0; PER_OCTAVE];
    for (byte, count) in bytes.iter_mut().zip(counts) {
        *byte = (*count & 0x3f) as u8;
    }
    Some(bytes)
}

/// The difference of each count to the one before it, in zigzag encoding. Zeros follow, so that a copy of fixed length may
/// start at any of them.
#[inline]
fn differences(counts: &[u8; PER_OCTAVE]) -> [u8; 2 * PER_OCTAVE + 1] {
    let mut differences = [0; 2 * PER_OCTAVE + 1];
    for (at, difference) in differences[1..PER_OCTAVE].iter_mut().enumerate() {
        let signed = counts[at + 1].wrapping_sub(counts[at]).cast_signed();
        *difference = (signed << 1 ^ signed >> 7).cast_unsigned();
    }
    differences
}

/// A bit for each count that is not 0. The counts are below [`SMALL`].
///
/// Eight counts at a time: adding 0x7f sets the highest bit of each byte that is not 0, and the product collects these bits in
/// the highest byte. One count at a time costs a protobuf exposition 5 % more instructions (`make instructions`).
#[inline]
fn populated(counts: &[u8; PER_OCTAVE]) -> u32 {
    let (words, _) = counts.as_chunks::<8>();
    words.iter().rev().fold(0, |bits, word| {
        let added = u64::from_le_bytes(*word) + 0x7f7f_7f7f_7f7f_7f7f;
        let not_zero = (added & 0x8080_8080_8080_8080) >> 7;
        bits << 8 | (not_zero.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
    })
}

/// The populated buckets, and the empty ones between them that are written out, as bits.
#[inline]
fn runs(populated: u32) -> u32 {
    let empty = !populated;
    let left_out = (1..=GAP).fold(empty, |all, by| all & empty >> by);
    let left_out = (1..=GAP).fold(left_out, |all, by| all | left_out << by);
    let before = populated.wrapping_neg() | populated;
    let behind = u32::MAX.checked_shr(populated.leading_zeros()).unwrap_or(0);
    before & behind & !left_out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(native: &NativeReading) -> Vec<u8> {
        let mut out = Vec::new();
        push_buckets(&mut out, &mut Vec::new(), native);
        out
    }

    /// The buckets of the octaves one by one.
    fn listed(octaves: &[Octave]) -> Vec<(i32, u64)> {
        octaves
            .iter()
            .flat_map(|octave| (octave.first..).zip(octave.counts.map(u64::from)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    #[test]
    fn runs_hold_the_gaps_that_are_written_out() {
        for (populated, expected) in [
            (0b0, 0b0),
            (0b1, 0b1),
            (0b1001, 0b1111),
            (0b1_0001, 0b1_0001),
            (0b1_0001_0010_1000, 0b1_0001_1111_1000),
            (1 << 31, 1 << 31),
            (1 << 31 | 1 << 28 | 1, 0b1111 << 28 | 1),
            (u32::MAX, u32::MAX),
        ] {
            assert_eq!(runs(populated), expected, "{populated:b}");
        }
    }

    proptest! {
        #[test]
        fn whole_octaves_are_written_as_their_buckets_are(
            octaves in proptest::collection::vec(
                (
                    1..3_i32,
                    proptest::collection::vec(prop_oneof![4 => Just(0), 4 => 0..70_u32, 1 => 0..300_u32, 1 => any::<u32>()], PER_OCTAVE),
                    any::<bool>(),
                ),
                0..5,
            ),
        ) {
            let mut first = -95;
            let octaves: Vec<_> = (octaves.into_iter())
                .map(|(distance, counts, large)| {
                    first += distance * 32;
                    let most = if large { u32::MAX } else { SMALL - 1 };
                    let counts: Vec<_> = counts.into_iter().map(|count| count.min(most)).collect();
                    Octave { first, counts: counts.try_into().unwrap() }
                })
                .collect();
            let one_by_one = NativeReading { buckets: listed(&octaves), ..NativeReading::default() };
            let whole = NativeReading { octaves, ..NativeReading::default() };
            prop_assert_eq!(whole.count(), one_by_one.count());
            prop_assert_eq!(written(&whole), written(&one_by_one));
        }
    }
}
