//! Native buckets as protobuf has them: spans of populated buckets, and the counts of these, each as its difference to the
//! one before, packed.
//!
//! Most counts are small, and most octaves dense. Such an octave is written as a whole: its counts become bytes, their
//! differences are taken all at once, and only where a run of populated buckets begins is there anything to decide.

use super::wire::{
    EIGHT_BYTES, LENGTH, VARINT, low_seven, push_block, push_bytes, push_varint, varint, zigzag,
};
use crate::registry::cell::NarrowBytes;
use crate::registry::exposition::NativeReading;
use crate::registry::native::{Octave, PER_OCTAVE};

/// Empty buckets up to this many in a row are written out, as `client_golang` does: cheaper than another span.
const GAP: i32 = 2;

/// Appends spans and counts. Where there are none, an empty span marks the histogram as native. `deltas` is a buffer to be
/// used.
pub(super) fn push_buckets(out: &mut Vec<u8>, deltas: &mut Vec<u8>, native: &NativeReading) {
    let buckets = native.octaves.len() * PER_OCTAVE + native.buckets.len();
    // Longer than what can be written: three differences of at most ten bytes for each bucket, and a whole octave once.
    let room = buckets * 30 + PER_OCTAVE;
    if deltas.len() < room {
        deltas.resize(room, 0);
    }
    let mut spans = Spans {
        out,
        deltas,
        written: 0,
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

/// Spans in the making. They go out as they end, the counts thereafter.
struct Spans<'a> {
    out: &'a mut Vec<u8>,
    deltas: &'a mut [u8],
    /// How much of `deltas` is written.
    written: usize,
    last: Option<Span>,
    /// The count of the bucket that was written last.
    before: u64,
}

#[derive(Clone, Copy)]
struct Span {
    /// From the end of the span before; from 0 for the first.
    offset: i32,
    start: i32,
    /// The index after the last bucket.
    end: i32,
}

impl Spans<'_> {
    fn push_octave(&mut self, octave: &Octave) {
        let small = octave.small.as_ref().map(differences);
        let mut runs = runs(octave.populated);
        while runs != 0 {
            let start = runs.trailing_zeros();
            let length = (!(runs >> start)).trailing_zeros();
            runs &= !(u32::MAX >> (u32::BITS - length) << start);
            let (at, length) = (start as usize, length as usize);
            self.go_to(octave.first + start.cast_signed(), length);
            let Some(differences) = &small else {
                (at..at + length).for_each(|at| self.push_count(octave.sums.get(at)));
                continue;
            };
            self.push_count(octave.sums.get(at));
            // All that there may be, of which the rest of the run stays: faster than a copy of unknown length.
            self.deltas[self.written..][..PER_OCTAVE]
                .copy_from_slice(&differences[at + 1..][..PER_OCTAVE]);
            self.written += length - 1;
            self.before = octave.sums.get(at + length - 1);
        }
    }

    fn push_bucket(&mut self, index: i32, count: u64) {
        self.go_to(index, 1);
        self.push_count(count);
    }

    /// Goes on with `length` buckets from `index` on, in the last span or a new one.
    #[inline]
    fn go_to(&mut self, index: i32, length: usize) {
        // An octave has few.
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
        self.last = Some(Span {
            offset,
            start: index,
            end,
        });
    }

    #[inline]
    fn push_count(&mut self, count: u64) {
        let delta = zigzag(count.wrapping_sub(self.before).cast_signed());
        self.before = count;
        let rest = &mut self.deltas[self.written..];
        if delta < 0x80 {
            rest[0] = low_seven(delta);
            self.written += 1;
        } else if delta < EIGHT_BYTES {
            let (varint, length) = varint(delta);
            rest[..8].copy_from_slice(&varint.to_le_bytes());
            self.written += length;
        } else {
            self.written += write_long_varint(rest, delta);
        }
    }

    fn end(self) {
        let empty = Span {
            offset: 0,
            start: 0,
            end: 0,
        };
        push_span(self.out, self.last.unwrap_or(empty));
        if self.written > 0 {
            push_bytes(self.out, 13, &self.deltas[..self.written]);
        }
    }
}

/// Writes a varint of more than eight bytes, and returns its length.
#[cold]
fn write_long_varint(to: &mut [u8], value: u64) -> usize {
    let mut long = Vec::with_capacity(10);
    push_varint(&mut long, value);
    to[..long.len()].copy_from_slice(&long);
    long.len()
}

/// Appends a span in one go: indices have few bits.
fn push_span(out: &mut Vec<u8>, span: Span) {
    let (offset, offset_length) = varint(zigzag(i64::from(span.offset)));
    let (length, length_length) = varint(u64::from(span.start.abs_diff(span.end)));
    push_block(
        out,
        u64::from(12 << 3 | LENGTH)
            | ((2 + offset_length + length_length) as u64) << 8
            | u64::from(1 << 3 | VARINT) << 16
            | offset << 24,
        3 + offset_length,
    );
    push_block(
        out,
        u64::from(2 << 3 | VARINT) | length << 8,
        1 + length_length,
    );
}

/// The difference of each small count to the one before it, as zigzag has it; and nothing behind them, so that as many may
/// be copied from any of them on. The first is not to be used.
#[inline]
fn differences(counts: &NarrowBytes) -> [u8; 2 * PER_OCTAVE] {
    const HIGHEST: u64 = 0x8080_8080_8080_8080;
    let mut differences = [0; 2 * PER_OCTAVE];
    let (words, _) = differences.as_chunks_mut::<8>();
    let mut carried = 0;
    for (word, counts) in words.iter_mut().zip(counts) {
        let before = counts << 8 | carried;
        carried = counts >> 56;
        // Above the highest bit of each byte, so that none borrows from its neighbour.
        let signed = (counts | HIGHEST) - before;
        let negative = (!signed & HIGHEST) >> 7;
        let doubled = (signed & !HIGHEST) << 1;
        *word = (doubled ^ (negative * 0xff)).to_le_bytes();
    }
    differences
}

/// The populated buckets, and the empty ones between them that are written out.
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
    use crate::registry::cell::{NarrowLine, Sole};

    fn written(native: &NativeReading) -> Vec<u8> {
        let mut out = Vec::new();
        push_buckets(&mut out, &mut Vec::new(), native);
        out
    }

    /// An octave that holds this.
    fn octave(first: i32, counts: &[u64]) -> Octave {
        let line = NarrowLine::default();
        for (at, count) in counts.iter().enumerate() {
            for _ in 0..*count {
                line.inc::<Sole>(at);
            }
        }
        Octave::of(first, [&line].into_iter())
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
                    proptest::collection::vec(prop_oneof![4 => Just(0), 4 => 0..70_u64, 1 => 0..300_u64], PER_OCTAVE),
                    any::<bool>(),
                ),
                0..5,
            ),
        ) {
            let mut first = -95;
            let mut one_by_one = NativeReading::default();
            let mut whole = NativeReading::default();
            for (distance, counts, large) in octaves {
                first += distance * 32;
                let most = if large { u64::MAX } else { 63 };
                let counts: Vec<_> = counts.into_iter().map(|count| count.min(most)).collect();
                whole.octaves.push(octave(first, &counts));
                let populated = (first..).zip(counts).filter(|(_, count)| *count > 0);
                one_by_one.buckets.extend(populated);
            }
            prop_assert_eq!(whole.populated(), one_by_one.buckets.len());
            prop_assert_eq!(whole.count(), one_by_one.count());
            prop_assert_eq!(written(&whole), written(&one_by_one));
        }
    }
}
