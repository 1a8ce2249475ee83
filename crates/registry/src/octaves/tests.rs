use proptest::prelude::*;

use super::super::cell::CARRY;
use super::*;

fn small(counts: [u8; PER_OCTAVE]) -> SmallCounts {
    SmallCounts::of(&counts.map(u32::from)).unwrap()
}

#[test]
fn sums_of_more_than_32_bits_are_noticed() {
    let mut sums = [3; PER_OCTAVE];
    assert!(add(&mut sums, &[u32::MAX - 3; PER_OCTAVE]));
    assert_eq!(
        Counts::Large(&sums).sum(),
        u64::from(u32::MAX) * PER_OCTAVE as u64
    );
    let mut one = [0; PER_OCTAVE];
    one[17] = 1;
    assert!(!add(&mut sums, &one));
}

#[test]
fn a_count_is_small_below_64_wherever_it_is() {
    for at in 0..PER_OCTAVE {
        let mut counts = [0; PER_OCTAVE];
        counts[at] = 63;
        assert!(SmallCounts::of(&counts).is_some(), "{at}");
        counts[at] = 64;
        assert!(SmallCounts::of(&counts).is_none(), "{at}");
        counts[at] = CARRY * 2 + 3;
        assert!(SmallCounts::of(&counts).is_none(), "{at}");
    }
}

/// Octaves of one shard: the number of each, and its counts.
fn shard() -> impl Strategy<Value = Vec<(i32, [u32; PER_OCTAVE])>> {
    let count = prop_oneof![6 => Just(0), 4 => 0..40_u32, 1 => 0..130_u32, 1 => 0..u32::MAX / 4];
    let counts = proptest::collection::vec(count, PER_OCTAVE);
    let octaves = proptest::collection::btree_map(-3..4, counts, 0..5);
    octaves.prop_map(|octaves| {
        let octaves = octaves.into_iter();
        octaves
            .map(|(octave, counts)| (octave, counts.try_into().unwrap()))
            .collect()
    })
}

proptest! {
    #[test]
    fn shards_add_up_whether_their_counts_are_small_or_not(
        shards in proptest::collection::vec(shard(), 0..4),
        limit in 0..200_usize,
    ) {
        let mut octaves = Octaves::default();
        let mut expected = std::collections::BTreeMap::<i32, u64>::new();
        for shard in &shards {
            let mut at = 0;
            for (octave, counts) in shard {
                let first = octave * 32 + 1;
                prop_assert!(octaves.add(&mut at, first, &NarrowCellLine::of(counts)));
                for (index, count) in (first..).zip(counts).filter(|(_, count)| **count > 0) {
                    *expected.entry(index).or_default() += u64::from(*count);
                }
            }
        }
        prop_assert_eq!(octaves.buckets().collect::<Vec<_>>(), expected.iter().map(|(index, count)| (*index, *count)).collect::<Vec<_>>());
        prop_assert_eq!(octaves.count(), expected.values().sum::<u64>());
        prop_assert_eq!(octaves.has_more_than(limit), expected.len() > limit);
        prop_assert!(octaves.iter().is_sorted_by(|(one, _), (next, _)| one < next));
    }

    #[test]
    fn bytes_side_by_side_are_as_the_counts_one_by_one(
        counts in proptest::array::uniform32(prop_oneof![Just(0), Just(63), 0..64_u8]),
    ) {
        let read = small(counts);
        prop_assert_eq!(read.to_bytes(), counts);
        prop_assert_eq!(read.sum(), counts.iter().map(|count| u64::from(*count)).sum::<u64>());
        let mut before = 0;
        for (at, (count, difference)) in counts.into_iter().zip(read.differences()).enumerate() {
            prop_assert_eq!(read.populated() >> at & 1 == 1, count > 0);
            let signed = i64::from(count) - i64::from(before);
            prop_assert_eq!(i64::from(difference), signed << 1 ^ signed >> 63);
            before = count;
        }
    }
}
