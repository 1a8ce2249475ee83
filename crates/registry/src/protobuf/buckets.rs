//! Native buckets in protobuf: spans of populated buckets, and their counts, each as the difference to the count before it,
//! packed.
//!
//! Most counts are small, and most octaves are dense. Such an octave is written as a whole: all differences are computed at
//! once, and only the beginning of a run of populated buckets takes a branch.

use super::wire::{
    LENGTH, push_block, push_bytes, push_tag, push_uint, push_varint, varint_length, zigzag,
};
use crate::exposition::NativeReading;
use crate::native::PER_OCTAVE;
use crate::octaves::Counts;

/// Up to this many empty buckets in a row are written out, as `client_golang` does: they are smaller than another span.
const GAP: i32 = 2;

/// The tags of a span, of its offset and of its length: fields 12, 1 and 2.
const SPAN_TAGS: [u8; 3] = [12 << 3 | 2, 1 << 3, 2 << 3];

/// Appends spans and counts. Without any, an empty span marks the histogram as native. `deltas` is a buffer.
pub(super) fn push_buckets(out: &mut Vec<u8>, deltas: &mut Vec<u8>, native: &NativeReading) {
    deltas.clear();
    let mut spans = IndexSpans {
        out,
        deltas,
        last: None,
        before: 0,
    };
    for (first, counts) in native.octaves.iter() {
        spans.push_octave(first, counts);
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
    fn push_octave(&mut self, first: i32, counts: Counts<'_>) {
        let Counts::Small(counts) = counts else {
            for (index, count) in (first..).zip(counts.to_u32()) {
                if count > 0 {
                    self.push_bucket(index, count.into());
                }
            }
            return;
        };
        let mut runs = runs(counts.populated());
        // Zeros follow the differences, so that a copy of fixed length may start at any of them.
        let mut differences = [0; 2 * PER_OCTAVE];
        differences[..PER_OCTAVE].copy_from_slice(&counts.differences());
        let counts = counts.to_bytes();
        while runs != 0 {
            let start = runs.trailing_zeros();
            let length = (!(runs >> start)).trailing_zeros();
            runs &= !(u32::MAX >> (u32::BITS - length) << start);
            let (at, length) = (start as usize, length as usize);
            self.go_to(first + start.cast_signed(), length);
            self.push_count(u64::from(counts[at]));
            let rest = *differences[at + 1..]
                .first_chunk::<{ PER_OCTAVE - 1 }>()
                .unwrap_or(&[0; _]);
            push_block(self.deltas, rest, length - 1);
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
                    prop_oneof![
                        proptest::collection::vec(prop_oneof![Just(0), 0..64_u32], PER_OCTAVE),
                        proptest::collection::vec(prop_oneof![4 => Just(0), 4 => 0..70_u32, 1 => 0..300_u32, 1 => any::<u32>()], PER_OCTAVE),
                    ],
                ),
                0..5,
            ),
        ) {
            let mut first = -95;
            let mut whole = NativeReading::default();
            for (distance, counts) in octaves {
                first += distance * 32;
                whole.octaves.push(first, counts.try_into().unwrap());
            }
            let one_by_one = NativeReading { buckets: whole.octaves.buckets().collect(), ..NativeReading::default() };
            prop_assert_eq!(whole.count(), one_by_one.count());
            prop_assert_eq!(written(&whole), written(&one_by_one));
        }
    }
}
