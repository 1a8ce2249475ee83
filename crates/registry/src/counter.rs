//! Counters: totals that only rise, in whole numbers or in floats.

use std::sync::Arc;

use super::cell::{Cells, SharedAccess, SoleAccess};
use super::shard::{Claim, Shards, clamp_count};

/// A total that only rises, in whole numbers.
///
/// ```
/// use std::time::Duration;
/// use vitals_registry::{Descriptor, Registry};
///
/// let mut registry = Registry::builder(|| Duration::ZERO);
/// let jobs = registry.counter(Descriptor::new("jobs_total", "Jobs that ended.", [])).get();
/// jobs.inc();
/// jobs.add(2);
/// assert_eq!(jobs.value(), 3);
/// ```
#[derive(Debug)]
pub struct Counter {
    shards: Shards<Cells>,
}

fn cells() -> Cells {
    Cells::new(1)
}

impl Counter {
    /// Creates a counter at 0 with so many shared shards, rounded up to a power of two of at most 16.
    pub fn new(shards: usize) -> Self {
        Self {
            shards: Shards::new(clamp_count(shards)),
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
        self.shards.mine(cells).add::<SharedAccess>(0, amount);
    }

    /// The total so far.
    pub fn value(&self) -> u64 {
        let cells = self.shards.iter().map(|cells| cells.load(0));
        cells.fold(0, u64::wrapping_add)
    }

    /// Returns a writer for one thread at a time, which counts at a lower cost than [`inc`](Self::inc). It claims a shard of
    /// the counter while it lives, so it is for a thread that keeps it.
    pub fn writer(self: &Arc<Self>) -> CounterWriter {
        CounterWriter {
            counter: Arc::clone(self),
            claim: Some(self.shards.claim(cells)),
        }
    }

    /// Returns a writer that counts as [`inc`](Self::inc) does, and claims nothing: there can be any number of these.
    pub fn shared_writer(self: &Arc<Self>) -> CounterWriter {
        CounterWriter {
            counter: Arc::clone(self),
            claim: None,
        }
    }

    /// The number of shards that are allocated: 1 until several threads record at once.
    pub fn shard_count(&self) -> usize {
        self.shards.iter().count()
    }
}

/// Counts into a [`Counter`], by plain stores if it has a claim. Its counts stay when it is dropped.
///
/// ```
/// use std::time::Duration;
/// use vitals_registry::{Descriptor, Registry};
///
/// let mut registry = Registry::builder(|| Duration::ZERO);
/// let jobs = registry.counter(Descriptor::new("jobs_total", "Jobs that ended.", [])).get();
/// let writer = jobs.writer();
/// writer.inc();
/// drop(writer);
/// assert_eq!(jobs.value(), 1);
/// ```
#[derive(Debug)]
pub struct CounterWriter {
    counter: Arc<Counter>,
    claim: Option<Claim<Cells>>,
}

impl CounterWriter {
    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        match &self.claim {
            Some(cells) => cells.add::<SoleAccess>(0, 1),
            None => self.counter.inc(),
        }
    }

    /// The counter.
    pub fn counter(&self) -> &Arc<Counter> {
        &self.counter
    }
}

/// A total that only rises, in floats, such as seconds.
///
/// ```
/// use std::time::Duration;
/// use vitals_registry::{Descriptor, Registry};
///
/// let mut registry = Registry::builder(|| Duration::ZERO);
/// let busy = registry.float_counter(Descriptor::new("busy_seconds_total", "Busy time.", [])).get();
/// busy.add(0.25);
/// busy.add(-1.0);
/// assert!((busy.value() - 0.25).abs() < 1e-9, "a counter does not fall");
/// ```
#[derive(Debug)]
pub struct FloatCounter {
    shards: Shards<Cells>,
}

impl FloatCounter {
    /// Creates a counter at 0 with `shards` shared shards, a power of two.
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            shards: Shards::new(shards),
        }
    }

    /// Adds `amount`. An amount that is negative, infinite or not a number is ignored.
    #[inline]
    pub fn add(&self, amount: f64) {
        if amount >= 0.0 && amount.is_finite() {
            self.shards.mine(cells).add_f64::<SharedAccess>(0, amount);
        }
    }

    /// The total so far.
    pub fn value(&self) -> f64 {
        let cells = self.shards.iter().map(|cells| cells.load_f64(0));
        // The empty sum of floats is -0.
        cells.fold(0.0, |sum, cell| sum + cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_counts_exactly_over_threads() {
        let counter = Arc::new(Counter::new(2));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| counter.inc()));
                scope.spawn(|| {
                    let writer = counter.writer();
                    (0..10_000).for_each(|_| writer.inc());
                });
            }
        });
        counter.add(5);
        assert_eq!(counter.value(), 80_005);
    }

    #[test]
    fn any_number_of_shards_counts() {
        for shards in [0, 1, 3, 1_000] {
            let counter = Counter::new(shards);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| counter.inc());
                }
            });
            assert_eq!(counter.value(), 4, "{shards}");
        }
    }

    #[test]
    fn a_shared_writer_counts_exactly_and_claims_nothing() {
        let counter = Arc::new(Counter::new(2));
        let writers: Vec<_> = (0..10_000).map(|_| counter.shared_writer()).collect();
        writers.iter().for_each(CounterWriter::inc);
        assert_eq!((counter.value(), counter.shard_count()), (10_000, 1));
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
