//! Gauges that go up and down by events. Levels that are read at scrape time come from collectors instead.

use super::shard::Cells;

/// A number of things at this moment, kept by counting them in and out.
#[derive(Debug)]
pub struct Gauge {
    cells: Cells,
}

impl Gauge {
    /// A gauge at 0, spread over `shards` shards.
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

    /// Takes one away.
    #[inline]
    pub fn dec(&self) {
        self.add(-1);
    }

    /// Adds `amount`, which may be negative.
    #[inline]
    pub fn add(&self, amount: i64) {
        self.cells.mine().add(0, amount.cast_unsigned());
    }

    /// The level now. A thread may take away what another added: only the sum of the shards means anything.
    pub fn value(&self) -> i64 {
        self.cells.sum(0).cast_signed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_taken_down_by_another_thread_is_exact() {
        let gauge = Gauge::new(4);
        gauge.add(100);
        std::thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| (0..11).for_each(|_| gauge.dec()));
            }
        });
        assert_eq!(gauge.value(), -10);
        gauge.inc();
        assert_eq!(gauge.value(), -9);
    }
}
