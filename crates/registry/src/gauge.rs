//! Gauges that go up and down by events. Levels that are read at scrape time come from collectors instead.

use std::sync::Arc;

use super::cell::{Access, Cells, Shared, Sole};
use super::shard::{Claim, Shards};

/// A number of things at this moment, kept by counting them in and out.
#[derive(Debug)]
pub struct Gauge {
    shards: Shards<Cells>,
}

fn cells() -> Cells {
    Cells::new(1)
}

fn add<A: Access>(cells: &Cells, amount: i64) {
    cells.add::<A>(0, amount.cast_unsigned());
}

impl Gauge {
    /// A gauge at 0, spread over `shards` shards.
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            shards: Shards::new(shards),
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
        add::<Shared>(self.shards.mine(cells), amount);
    }

    /// The level now. A thread may take away what another added: only the sum of the shards means anything.
    pub fn value(&self) -> i64 {
        let cells = self.shards.iter().map(|cells| cells.load(0));
        cells.fold(0, u64::wrapping_add).cast_signed()
    }

    /// A writer for one thread at a time, which counts at a lower cost than [`inc`](Self::inc) and [`dec`](Self::dec). It
    /// claims a shard of the gauge for as long as it lives, so it is for a thread that keeps it.
    pub fn writer(self: &Arc<Self>) -> GaugeWriter {
        GaugeWriter {
            gauge: Arc::clone(self),
            claim: Some(self.shards.claim(cells)),
        }
    }

    /// A writer that counts as [`inc`](Self::inc) and [`dec`](Self::dec) do, and claims nothing: there can be any number
    /// of these.
    pub fn shared_writer(self: &Arc<Self>) -> GaugeWriter {
        GaugeWriter {
            gauge: Arc::clone(self),
            claim: None,
        }
    }
}

/// Counts into and out of a [`Gauge`], by plain stores where it has claimed a shard. Its counts stay when it is dropped.
#[derive(Debug)]
pub struct GaugeWriter {
    gauge: Arc<Gauge>,
    claim: Option<Claim<Cells>>,
}

impl GaugeWriter {
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

    #[inline]
    fn add(&self, amount: i64) {
        match &self.claim {
            Some(cells) => add::<Sole>(cells, amount),
            None => self.gauge.add(amount),
        }
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

    #[test]
    fn writers_count_in_and_out_beside_all_others() {
        let gauge = Arc::new(Gauge::new(2));
        let (one, other) = (gauge.writer(), gauge.writer());
        (0..5).for_each(|_| one.inc());
        (0..3).for_each(|_| other.dec());
        gauge.inc();
        assert_eq!(gauge.value(), 3);
        drop(other);
        gauge.writer().inc();
        gauge.shared_writer().inc();
        gauge.shared_writer().dec();
        assert_eq!(gauge.value(), 4);
    }
}
