//! The bucket index against exact arithmetic, and the storage against a plain map.

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::cell::{SharedAccess, SoleAccess};
use super::*;

/// Natural numbers of any size, in limbs of 32 bits, the lowest first.
type Natural = Vec<u32>;

fn natural(value: u64) -> Natural {
    vec![(value & 0xffff_ffff) as u32, (value >> 32) as u32]
}

fn multiply(a: &Natural, b: &Natural) -> Natural {
    let mut product = vec![0_u32; a.len() + b.len()];
    for (i, x) in a.iter().enumerate() {
        let mut carry = 0_u64;
        for (j, y) in b.iter().enumerate() {
            let sum = u64::from(product[i + j]) + u64::from(*x) * u64::from(*y) + carry;
            product[i + j] = (sum & 0xffff_ffff) as u32;
            carry = sum >> 32;
        }
        product[i + b.len()] = u32::try_from(carry).unwrap();
    }
    product
}

/// Whether `numerator^32 < 2^power`, exactly.
fn below_root(numerator: u64, power: u32) -> bool {
    let mut value = natural(numerator);
    for _ in 0..5 {
        value = multiply(&value, &value);
    }
    let bits = (value.iter().enumerate().rev())
        .find(|(_, limb)| **limb != 0)
        .map_or(0, |(at, limb)| {
            u32::try_from(at).unwrap() * 32 + limb.ilog2() + 1
        });
    bits <= power
}

#[test]
fn the_bounds_are_the_correctly_rounded_roots() {
    // With 53 + 1 bits of fraction: 2^(i/32) lies within half a unit of the last place of the bound.
    for (i, mantissa) in (1_u32..).zip(&BOUNDS[1..PER_OCTAVE]) {
        let doubled = ((1 << MANTISSA_BITS) | mantissa) * 2;
        let power = 32 * (MANTISSA_BITS + 1) + i;
        assert!(
            below_root(doubled - 1, power),
            "2^({i}/32) is below its bound"
        );
        assert!(
            !below_root(doubled + 1, power),
            "2^({i}/32) is above its bound"
        );
    }
}

/// The index by its definition: a search in the bounds of the value's octave.
fn reference(value: f64) -> i32 {
    if value == f64::INFINITY {
        return 1024 * 32 + 1;
    }
    let mut exponent = 0;
    let mut fraction = value;
    for step in [512, 256, 128, 64, 32, 16, 8, 4, 2, 1] {
        let power = 2_f64.powi(step);
        if fraction >= power {
            fraction /= power;
            exponent += step;
        }
        if fraction < 2.0 / power {
            fraction *= power;
            exponent -= step;
        }
    }
    let bound = |i: usize| f64::from_bits((1023 << MANTISSA_BITS) | BOUNDS[i]);
    let within = (0..PER_OCTAVE)
        .find(|i| fraction <= bound(*i))
        .unwrap_or(PER_OCTAVE);
    exponent * 32 + i32::try_from(within).unwrap()
}

fn check(value: f64) {
    if value > ZERO_THRESHOLD {
        let index = index(value);
        assert_eq!(index, reference(value), "{value:e}");
        assert!(value <= upper_bound(index, SCHEMA), "{value:e}");
        assert!(value > upper_bound(index - 1, SCHEMA), "{value:e}");
    }
}

#[test]
fn a_million_values_and_the_neighbours_of_every_bound_have_the_exact_index() {
    let mut random = StdRng::seed_from_u64(7);
    for _ in 0..1_000_000 {
        check(f64::from_bits(random.random::<u64>() >> 1));
    }
    for exponent in -127..1024 {
        for slot in BOUNDS.iter().take(PER_OCTAVE) {
            let exponent = u64::try_from(exponent + 1023).unwrap();
            let bound = f64::from_bits(exponent << MANTISSA_BITS | slot);
            for value in [bound.next_down(), bound, bound.next_up()] {
                check(value);
            }
        }
    }
}

#[test]
fn the_ends_of_the_number_line_have_their_indices() {
    for (value, expected, why) in [
        (1.0, 0, "a power of two ends its octave"),
        (1.0_f64.next_up(), 1, "and the next begins right above"),
        (2.0, 32, "an octave has 32 buckets"),
        (0.5, -32, "below one they are negative"),
        (f64::MAX, 32_768, "the largest number's bucket ends at it"),
        (f64::INFINITY, 32_769, "infinity has one of its own"),
        (
            ZERO_THRESHOLD.next_up(),
            -128 * 32 + 1,
            "the first above the zero bucket",
        ),
    ] {
        assert_eq!(index(value), expected, "{why}");
    }
    assert!((ZERO_THRESHOLD - 2_938_735_877_055_719e-54).abs() < 1e-54);
    assert_eq!(upper_bound(32_768, SCHEMA).to_bits(), f64::MAX.to_bits());
    assert!(upper_bound(32_769, SCHEMA).is_infinite());
}

fn record_all(values: &[f64]) -> Vec<(i32, u64)> {
    // However they are spread over shards.
    let shards = [Buckets::default(), Buckets::default()];
    for (at, value) in values.iter().enumerate() {
        shards[at % 2].record::<SoleAccess>(*value);
    }
    let mut out = Vec::new();
    read(&shards.iter(), &mut out);
    out
}

#[test]
fn values_outside_of_the_table_are_kept_in_order() {
    let values = [
        1e-30,
        1e-12,
        1e-9,
        1.0,
        2_f64.powi(34),
        2_f64.powi(34).next_up(),
        1e300,
        f64::INFINITY,
    ];
    let expected: Vec<_> = values.iter().map(|value| (index(*value), 1)).collect();
    assert_eq!(record_all(&values), expected);
}

#[test]
fn counts_go_on_where_a_cell_ends() {
    fn record<A: CellAccess>(buckets: &Buckets) {
        for _ in 0..100_000 {
            buckets.record::<A>(1.5);
            buckets.record::<A>(3.0);
        }
    }
    let [shared, one, other] = [(); 3].map(|()| Buckets::default());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| record::<SharedAccess>(&shared));
        }
        scope.spawn(|| record::<SoleAccess>(&one));
        scope.spawn(|| record::<SoleAccess>(&other));
        // Whatever is carried meanwhile, no count ever falls.
        let (mut out, mut before) = (Vec::new(), [0, 0]);
        while before != [400_000; 2] {
            read(&[&shared, &one, &other].into_iter(), &mut out);
            for (count, (_, now)) in before.iter_mut().zip(&out) {
                assert!(*count <= *now, "{count} fell to {now}");
                *count = *now;
            }
        }
    });
}

#[test]
fn a_reader_holds_the_lock_of_one_shard_at_a_time() {
    // Two series may have the same shards in different orders. Readers that held several locks could wait for each other.
    let shards = [Buckets::default(), Buckets::default()];
    for shard in &shards {
        shard.record::<SoleAccess>(1e300);
    }
    let is_free = |shard: &Buckets| shard.beyond.get().unwrap().try_lock().is_ok();
    let reached = shards
        .iter()
        .inspect(|_| assert!(shards.iter().all(is_free)));
    let mut out = Vec::new();
    read(&reached, &mut out);
    assert_eq!(out, [(index(1e300), 2)]);
}

fn recordable() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => 1e-6..100.0,
        // Any bits: by their order, all positive floats above the threshold, and infinity.
        1 => (ZERO_THRESHOLD.to_bits() + 1..=f64::INFINITY.to_bits()).prop_map(f64::from_bits),
    ]
}

proptest! {
    #[test]
    fn the_storage_equals_a_plain_map(values in proptest::collection::vec(recordable(), 0..400)) {
        let mut map = BTreeMap::new();
        for value in &values {
            *map.entry(index(*value)).or_insert(0_u64) += 1;
        }
        prop_assert_eq!(record_all(&values), map.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn lowering_keeps_every_value_within_its_bucket(
        values in proptest::collection::vec(recordable(), 1..400),
        limit in 1_usize..40,
    ) {
        let mut buckets = record_all(&values);
        let schema = lower(&mut buckets, limit);
        prop_assert!(buckets.len() <= limit || schema == LOWEST_SCHEMA);
        prop_assert!(buckets.is_sorted_by(|a, b| a.0 < b.0));
        let mut counted = 0;
        for (index, count) in &buckets {
            let (lower, upper) = (upper_bound(index - 1, schema), upper_bound(*index, schema));
            let within = values.iter().filter(|v| **v > lower && **v <= upper).count() as u64;
            prop_assert_eq!(within, *count);
            counted += count;
        }
        prop_assert_eq!(counted, values.len() as u64);
    }
}
