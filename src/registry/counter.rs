//! Counters: totals that only rise, in whole numbers or in floats. How they are exposed is the encoders' concern.

use super::shard::Cells;

/// A total that only rises, in whole numbers.
#[derive(Debug)]
pub struct Counter {
    cells: Cells,
}

impl Counter {
    /// A counter at 0, spread over `shards` shards.
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            cells: Cells::new(1, shards),
        }
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.cells.mine().add(0, amount);
    }

    /// The total so far.
    pub fn value(&self) -> u64 {
        self.cells.sum(0)
    }
}

/// A total that only rises, in floats: seconds, most often.
#[derive(Debug)]
pub struct FloatCounter {
    cells: Cells,
}

impl FloatCounter {
    /// A counter at 0, spread over `shards` shards.
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            cells: Cells::new(1, shards),
        }
    }

    /// Adds `amount`; what is negative, infinite or not a number is left out, for a total only rises.
    #[inline]
    pub fn add(&self, amount: f64) {
        if amount >= 0.0 && amount.is_finite() {
            self.cells.mine().add_f64(0, amount);
        }
    }

    /// The total so far.
    pub fn value(&self) -> f64 {
        self.cells.sum_f64(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_counts_exactly_over_threads() {
        let counter = Counter::new(2);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| counter.inc()));
            }
        });
        counter.add(5);
        assert_eq!(counter.value(), 40_005);
    }

    #[test]
    fn a_float_counter_never_falls() {
        let counter = FloatCounter::new(2);
        for amount in [0.25, -1.0, f64::NAN, f64::INFINITY, 0.5] {
            counter.add(amount);
        }
        assert!((counter.value() - 0.75).abs() < 1e-12);
    }
}
