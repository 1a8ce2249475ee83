//! Recording, snapshots and what is computed from them.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

fn layout(bounds: &[f64], shards: usize) -> Arc<HistogramLayout> {
    Arc::new(HistogramLayout {
        bounds: Bounds::new(bounds),
        search: BucketSearch::new(bounds),
        native_buckets: 160,
        shards,
        current_span: None,
        clock: || Duration::from_secs(1),
        dropped: Arc::new(Counter::new(1)),
    })
}

fn histogram(bounds: &[f64], shards: usize) -> Histogram {
    Histogram::new(layout(bounds, shards))
}

#[test]
fn a_value_on_a_bound_belongs_to_its_bucket() {
    let histogram = histogram(&[0.5, 1.0, 2.0], 1);
    for value in [0.0, 0.5, 0.5_f64.next_up(), 1.0, 2.0, 3.0, f64::INFINITY] {
        histogram.observe(value);
    }
    let snapshot = histogram.snapshot();
    let cumulative: Vec<_> = snapshot.classic.iter().map(|(_, count)| *count).collect();
    assert_eq!(cumulative, [2, 4, 5, 7]);
    assert_eq!(snapshot.count, 7);
    assert!(snapshot.sum.is_infinite());
}

#[test]
fn what_is_negative_or_no_number_is_dropped_and_counted() {
    let layout = layout(&[1.0], 1);
    let histogram = Histogram::new(Arc::clone(&layout));
    for value in [-1.0, f64::NAN, f64::NEG_INFINITY, -f64::MIN_POSITIVE] {
        histogram.observe(value);
    }
    assert_eq!(layout.dropped.value(), 4);
    assert_eq!(histogram.snapshot().count, 0);
}

#[test]
fn zeros_and_subnormals_are_in_the_zero_bucket() {
    let histogram = histogram(&[1.0], 1);
    for value in [0.0, -0.0, 5e-324, f64::MIN_POSITIVE, native::ZERO_THRESHOLD] {
        histogram.observe(value);
    }
    let snapshot = histogram.snapshot();
    assert_eq!(snapshot.zero_count, 5);
    assert!(snapshot.native.is_empty());
    assert!(snapshot.quantile(0.99).unwrap() <= native::ZERO_THRESHOLD);
}

/// The exponent and fraction of a positive number, by halving and doubling.
fn split(mut value: f64) -> (i32, f64) {
    let mut exponent = 0;
    while value >= 2.0 {
        value /= 2.0;
        exponent += 1;
    }
    while value < 1.0 {
        value *= 2.0;
        exponent -= 1;
    }
    (exponent, value)
}

/// The native bucket by its definition, `2^((i-1)/32) < v <= 2^(i/32)`, by a logarithm.
///
/// `None` too close to a bound within the octave for that arithmetic to tell: the tests of the index decide those exactly.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a number from 0 to 32, of which the whole part is wanted"
)]
fn native_bucket(value: f64) -> Option<i32> {
    let (exponent, fraction) = split(value);
    let steps = 32.0 * fraction.log2();
    let nearest = steps.round() as i32;
    let near = (1..32).contains(&nearest) && (steps - f64::from(nearest)).abs() < 1e-9;
    (!near).then(|| exponent * 32 + steps.ceil() as i32)
}

#[test]
fn a_million_numbers_of_every_kind_are_recorded_where_they_belong() {
    let mut random = StdRng::seed_from_u64(5);
    let powers = (1..2047).map(|exponent| exponent << 52);
    let subnormal_powers = (0..52).map(|bit| 1 << bit);
    let powers = powers.chain(subnormal_powers).map(f64::from_bits);
    let mut values: Vec<f64> = powers
        .flat_map(|power| [power.next_down(), power, power.next_up()])
        .chain([
            0.0,
            -0.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            -f64::NAN,
        ])
        .chain([f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, -5e-324])
        .collect();
    // Every bit pattern is as likely as any other: half are negative, some are no numbers, some subnormal.
    values.extend((0..500_000).map(|_| f64::from_bits(random.random())));
    let subnormal = |random: &mut StdRng| f64::from_bits(random.random::<u64>() >> 12);
    values.extend((0..50_000).map(|_| subnormal(&mut random)));
    values.extend((values.len()..1_000_000).map(|_| 10_f64.powf(random.random_range(-9.0..5.0))));

    let bounds = [1e-300, 1e-9, 0.1, 1.0, 1e300];
    let layout = layout(&bounds, 2);
    let histogram = Histogram::new(Arc::clone(&layout));
    let (mut dropped, mut zeros, mut recorded) = (0_u64, 0_u64, 0_u64);
    let mut expected = BTreeMap::new();
    let mut cumulative = [0_u64; 6];
    for value in &values {
        if value.is_nan() || *value < 0.0 {
            dropped += 1;
            histogram.observe(*value);
            continue;
        }
        let bucket = match *value {
            small if small <= 2_f64.powi(-128) => None,
            f64::INFINITY => Some(1024 * 32 + 1),
            value => match native_bucket(value) {
                None => continue,
                known => known,
            },
        };
        histogram.observe(*value);
        recorded += 1;
        match bucket {
            None => zeros += 1,
            Some(bucket) => *expected.entry(bucket).or_insert(0_u64) += 1,
        }
        for (bound, count) in bounds.iter().chain([&f64::INFINITY]).zip(&mut cumulative) {
            *count += u64::from(value <= bound);
        }
    }
    assert_eq!(values.len(), 1_000_000);
    assert!(dropped + recorded > 990_000, "few are too close to a bound");

    assert_eq!(layout.dropped.value(), dropped);
    let snapshot = histogram.snapshot();
    assert_eq!((snapshot.count, snapshot.zero_count), (recorded, zeros));
    assert_eq!(snapshot.native, expected.into_iter().collect::<Vec<_>>());
    let classic: Vec<_> = snapshot.classic.iter().map(|(_, count)| *count).collect();
    assert_eq!(classic, cumulative);
}

#[test]
fn quantiles_are_within_a_bucket_of_the_truth() {
    let histogram = histogram(&[], 2);
    let mut values: Vec<f64> = (1..=10_000).map(|i| 0.001 * 1.0007_f64.powi(i)).collect();
    for value in &values {
        histogram.observe(*value);
    }
    values.sort_by(f64::total_cmp);
    let snapshot = histogram.snapshot();
    for (q, at) in [
        (0.5, 4999),
        (0.9, 8999),
        (0.99, 9899),
        (0.999, 9989),
        (1.0, 9999),
    ] {
        let error = snapshot.quantile(q).unwrap() / values[at] - 1.0;
        assert!(error.abs() < 0.022, "p{q} is off by {error}");
    }
}

#[test]
fn there_are_no_quantiles_of_nothing_nor_outside_of_zero_to_one() {
    let histogram = histogram(&[1.0], 1);
    assert_eq!(histogram.snapshot().quantile(0.5), None);
    assert_eq!(histogram.snapshot().mean(), None);
    histogram.observe(1.0);
    assert_eq!(histogram.snapshot().quantile(1.5), None);
    assert_eq!(histogram.snapshot().quantile(f64::NAN), None);
}

#[test]
fn an_exemplar_goes_with_the_bucket_of_its_value() {
    let histogram = histogram(&[1.0, 2.0], 1);
    let span = SpanContext {
        trace_id: 7,
        span_id: 8,
    };
    let mut exemplars = Vec::new();
    histogram.read_exemplars(&mut exemplars);
    assert!(exemplars.is_empty());
    histogram.observe_with(1.5, None);
    histogram.observe_with(1.5, Some(&span));
    histogram.observe_with(f64::NAN, Some(&span));
    histogram.read_exemplars(&mut exemplars);
    assert_eq!(
        exemplars.iter().map(Option::is_some).collect::<Vec<_>>(),
        [false, true, false]
    );
    assert_eq!(histogram.snapshot().count, 2);
}

fn values() -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::vec(
        prop_oneof![Just(0.0), 1e-4..50.0, 1e-40..1e-9, 1e10..1e20],
        0..200,
    )
}

/// Sums are added in different orders.
fn assert_same(left: &HistogramSnapshot, right: &HistogramSnapshot) {
    assert!((left.sum - right.sum).abs() <= 1e-9 * left.sum.abs().max(1e-9));
    let bare = |snapshot: &HistogramSnapshot| HistogramSnapshot {
        sum: 0.0,
        ..snapshot.clone()
    };
    assert_eq!(bare(left), bare(right));
}

proptest! {
    #[test]
    fn shards_merge_to_what_one_would_have_recorded(values in values(), threads in 1_usize..5) {
        let bounds = [0.001, 0.01, 0.1, 1.0, 10.0];
        let (many, one) = (histogram(&bounds, 4), histogram(&bounds, 1));
        for value in &values {
            one.observe(*value);
        }
        std::thread::scope(|scope| {
            let many = &many;
            for part in values.chunks(values.len().div_ceil(threads).max(1)) {
                scope.spawn(move || part.iter().for_each(|value| many.observe(*value)));
            }
        });
        assert_same(&many.snapshot(), &one.snapshot());
    }

    #[test]
    fn merging_and_taking_away_are_inverse(first in values(), second in values()) {
        let bounds = [0.01, 1.0];
        let (a, b, both) = (histogram(&bounds, 1), histogram(&bounds, 1), histogram(&bounds, 1));
        for value in &first {
            a.observe(*value);
            both.observe(*value);
        }
        let before = both.snapshot();
        for value in &second {
            b.observe(*value);
            both.observe(*value);
        }
        let mut merged = a.snapshot();
        merged.merge(&b.snapshot());
        let both = both.snapshot();
        assert_same(&merged, &both);
        let delta = both.delta(&before);
        prop_assert_eq!(delta.native, b.snapshot().native);
        prop_assert_eq!(delta.classic, b.snapshot().classic);
        prop_assert_eq!(delta.count, second.len() as u64);
    }

    #[test]
    fn count_and_buckets_agree(values in values()) {
        let histogram = histogram(&[0.5, 5.0], 2);
        for value in &values {
            histogram.observe(*value);
        }
        let snapshot = histogram.snapshot();
        prop_assert_eq!(snapshot.count, values.len() as u64);
        prop_assert_eq!(snapshot.classic.last().unwrap().1, snapshot.count);
        for (bound, cumulative) in snapshot.classic {
            let below = values.iter().filter(|value| **value <= bound).count() as u64;
            prop_assert_eq!(cumulative, below);
        }
    }
}
