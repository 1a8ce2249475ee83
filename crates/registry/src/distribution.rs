//! A distribution outside of any family: a sum and native buckets. It is not exposed by itself.

use super::cell::{Cells, SharedAccess};
use super::histogram::HistogramSnapshot;
use super::native::{self, Buckets};
use super::shard::{self, Shards};

/// A distribution of non-negative values that belongs to no family. It allocates only for buckets that have values.
///
/// ```
/// use vitals_registry::Distribution;
///
/// let times = Distribution::default();
/// for time in [0.1, 0.2, 0.4] {
///     times.observe(time);
/// }
/// let median = times.snapshot().quantile(0.5);
/// assert!(median.is_some_and(|median| (0.19..0.21).contains(&median)));
/// ```
#[derive(Debug)]
pub struct Distribution {
    shards: Shards<DistributionShard>,
}

/// The counts of one shard.
#[derive(Debug)]
struct DistributionShard {
    sum: Cells,
    native: Buckets,
}

impl DistributionShard {
    fn new() -> Self {
        Self {
            sum: Cells::new(1),
            native: Buckets::default(),
        }
    }
}

impl Default for Distribution {
    fn default() -> Self {
        Self {
            shards: Shards::new(shard::default_count()),
        }
    }
}

impl Distribution {
    /// Records one value. A value that is negative or not a number is ignored.
    #[inline]
    pub fn observe(&self, value: f64) {
        if value >= 0.0 {
            let shard = self.shards.mine(DistributionShard::new);
            shard.sum.add_f64::<SharedAccess>(0, value);
            shard.native.record::<SharedAccess>(value);
        }
    }

    /// The sum of all values.
    pub fn sum(&self) -> f64 {
        (self.shards.iter()).fold(0.0, |sum, shard| sum + shard.sum.load_f64(0))
    }

    /// The state now, without classic buckets.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let shards = self.shards.iter().map(|shard| &shard.native);
        let zero_count = shards.clone().map(Buckets::zero_count).sum();
        let mut native = Vec::new();
        native::read(&shards, &mut native);
        HistogramSnapshot {
            count: native
                .iter()
                .fold(zero_count, |sum, (_, count)| sum + count),
            sum: self.sum(),
            classic: Vec::new(),
            native,
            zero_count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_summed_and_ranked() {
        let distribution = Distribution::default();
        for value in 0..=100 {
            distribution.observe(f64::from(value));
        }
        distribution.observe(-1.0);
        distribution.observe(f64::NAN);
        let snapshot = distribution.snapshot();
        assert_eq!((snapshot.count, snapshot.zero_count), (101, 1));
        assert!((snapshot.sum - 5050.0).abs() < 1e-9);
        let p95 = snapshot.quantile(0.95).unwrap();
        assert!((p95 / 95.0 - 1.0).abs() < 0.03, "{p95}");
    }
}
