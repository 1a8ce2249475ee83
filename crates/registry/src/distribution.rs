//! A distribution outside of any family: a sum and native buckets. It is not exposed by itself.

use super::cell::{CellAccess, Cells, SharedAccess, SoleAccess};
use super::histogram::HistogramSnapshot;
use super::native::{self, Buckets};
use super::shard::{self, Claim, Shards};

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

    /// Records one value. A value that is negative or not a number is ignored.
    #[inline]
    fn record<A: CellAccess>(&self, value: f64) {
        if value >= 0.0 {
            self.sum.add_f64::<A>(0, value);
            self.native.record::<A>(value);
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
        let shard = self.shards.mine(DistributionShard::new);
        shard.record::<SharedAccess>(value);
    }

    /// Returns a writer for one thread at a time, which records at a lower cost. It claims a shard of the distribution while
    /// it lives, so it is for a holder that keeps it.
    pub fn writer(&self) -> DistributionWriter {
        DistributionWriter {
            claim: self.shards.claim(DistributionShard::new),
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

/// Records into a [`Distribution`] by plain stores. Its values stay when it is dropped.
///
/// ```
/// use vitals_registry::Distribution;
///
/// let times = Distribution::default();
/// let writer = times.writer();
/// writer.observe(0.1);
/// times.observe(0.2);
/// drop(writer);
/// assert_eq!(times.snapshot().count, 2);
/// ```
#[derive(Debug)]
pub struct DistributionWriter {
    claim: Claim<DistributionShard>,
}

impl DistributionWriter {
    /// The same as [`Distribution::observe`].
    #[inline]
    pub fn observe(&self, value: f64) {
        self.claim.record::<SoleAccess>(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_and_other_threads_lose_no_value() {
        let distribution = Distribution::default();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let writer = distribution.writer();
                scope.spawn(move || (0..1_000).for_each(|_| writer.observe(0.5)));
                scope.spawn(|| (0..1_000).for_each(|_| distribution.observe(0.5)));
            }
        });
        let snapshot = distribution.snapshot();
        assert_eq!((snapshot.count, snapshot.sum), (4_000, 2_000.0));
    }

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
