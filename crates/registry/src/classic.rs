//! Finds the classic bucket of a value, for each observation of a histogram.
//!
//! Usual bounds are far apart: within a factor of two there are at most two. So the exponent of a value leaves two bounds to
//! compare. A value of another size, and bounds that are closer, take a search.

/// The exponents with an entry in the table: those of durations from a nanosecond, and of sizes to 16 GiB.
const EXPONENTS: usize = 64;
const FIRST_EXPONENT: u64 = 1023 - 30;

/// The bits of a float behind its exponent.
const MANTISSA_BITS: u32 = f64::MANTISSA_DIGITS - 1;

/// The bounds with one exponent that the table allows for.
const MOST_BOUNDS: usize = 2;

/// Up to this many bounds, comparing all is faster than a search by halves: no branch depends on the value.
const FEW: usize = 32;

/// Finds the classic bucket of a value.
#[derive(Debug)]
pub(crate) struct BucketSearch {
    /// The upper bounds, ascending. Infinite ones follow, so that a comparison finds as many as the table allows for.
    bounds: Box<[f64]>,
    /// The number of bounds without those that follow.
    count: usize,
    /// The number of bounds below each power of two. `None` if too many bounds have one exponent.
    below: Option<Box<[u8; EXPONENTS]>>,
}

impl BucketSearch {
    /// A search among bounds that are ascending.
    pub(crate) fn new(bounds: &[f64]) -> Self {
        let padding = [f64::INFINITY; MOST_BOUNDS];
        Self {
            bounds: bounds.iter().copied().chain(padding).collect(),
            count: bounds.len(),
            below: below_powers(bounds),
        }
    }

    /// The index of the bucket of a value that is at least zero: the number of bounds below it.
    #[inline]
    pub(crate) fn bucket(&self, value: f64) -> usize {
        // Small values are common: empty bodies, requests without a query, fast requests.
        if value <= self.bounds[0] {
            return 0;
        }
        let exponent = (value.to_bits() >> MANTISSA_BITS).wrapping_sub(FIRST_EXPONENT) as usize;
        if let Some(below) = &self.below
            && let Some(below) = below.get(exponent)
        {
            let below = usize::from(*below);
            let bounds = &self.bounds[below..below + MOST_BOUNDS];
            return below + count_below(bounds, value);
        }
        self.search(value)
    }

    #[cold]
    fn search(&self, value: f64) -> usize {
        let bounds = &self.bounds[..self.count];
        if bounds.len() <= FEW {
            count_below(bounds, value)
        } else {
            bounds.partition_point(|bound| *bound < value)
        }
    }
}

#[inline]
fn count_below(bounds: &[f64], value: f64) -> usize {
    bounds.iter().map(|bound| usize::from(*bound < value)).sum()
}

/// The number of bounds below each power of two, if at most as many as are compared have one exponent.
fn below_powers(bounds: &[f64]) -> Option<Box<[u8; EXPONENTS]>> {
    let power = |at: usize| f64::from_bits((FIRST_EXPONENT + at as u64) << MANTISSA_BITS);
    let mut table = Box::new([0; EXPONENTS]);
    for (at, below) in table.iter_mut().enumerate() {
        let count = |end: f64| bounds.partition_point(|bound| *bound < end);
        let first = count(power(at));
        if count(power(at + 1)).saturating_sub(first) > MOST_BOUNDS {
            return None;
        }
        *below = u8::try_from(first).ok()?;
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(bounds: &[f64], value: f64) {
        let search = BucketSearch::new(bounds);
        let expected = bounds.iter().filter(|bound| **bound < value).count();
        assert_eq!(search.bucket(value), expected, "{value} in {bounds:?}");
    }

    #[test]
    fn values_at_and_around_each_bound_are_in_the_right_bucket() {
        let latencies = [
            0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
        ];
        let dense: Vec<f64> = (0..100).map(|at| 1.0 + f64::from(at) / 64.0).collect();
        let sizes = [0.0, 1.0, 1024.0, 1e9, 1e300];
        for bounds in [
            &latencies[..],
            &dense,
            &sizes,
            &[1.0, 1.5, 1.75, 8.0],
            &[],
            &[-1.0, 1.0],
        ] {
            let around = |bound: &f64| [bound.next_down(), *bound, bound.next_up()];
            let values = bounds.iter().flat_map(around);
            let others = [
                0.0,
                f64::MIN_POSITIVE,
                2f64.powi(-30),
                2f64.powi(34),
                f64::MAX,
                f64::INFINITY,
            ];
            for value in values.chain(others).filter(|value| *value >= 0.0) {
                check(bounds, value);
            }
        }
    }

    #[test]
    fn usual_bounds_have_a_table() {
        assert!(BucketSearch::new(&[0.5, 1.0, 2.5]).below.is_some());
        assert!(BucketSearch::new(&[1.0, 1.25, 1.5]).below.is_none());
    }

    proptest! {
        #[test]
        fn any_value_is_in_the_right_bucket(
            mut bounds in proptest::collection::vec(0.0..1e6_f64, 0..50),
            values in proptest::collection::vec(prop_oneof![0.0..1e6_f64, 0.0..1.0_f64], 20),
        ) {
            bounds.sort_by(f64::total_cmp);
            bounds.dedup();
            for value in values {
                check(&bounds, value);
            }
        }
    }
}
