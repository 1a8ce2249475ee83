//! Gauges: numbers that rise and fall, whole ones or floats. Levels that are read at scrape time come from collectors
//! instead.

use std::sync::Arc;

use super::cell::{CellAccess, Cells, SharedAccess, SoleAccess};
use super::shard::{Claim, Shards};

/// A whole number that rises and falls.
///
/// ```
/// use std::time::Duration;
/// use vitals_registry::{Descriptor, Registry};
///
/// let mut registry = Registry::builder(|| Duration::ZERO);
/// let open = registry.gauge(Descriptor::new("carts_open", "Carts that are open.", [])).get();
/// open.inc();
/// open.add(3);
/// open.dec();
/// assert_eq!(open.value(), 3);
/// open.set(10);
/// assert_eq!(open.value(), 10);
/// ```
#[derive(Debug)]
pub struct Gauge {
    shards: Shards<Cells>,
}

fn cells() -> Cells {
    Cells::new(1)
}

fn add<A: CellAccess>(cells: &Cells, amount: i64) {
    cells.add::<A>(0, amount.cast_unsigned());
}

impl Gauge {
    /// A gauge at 0. All threads without a claim share one cell, so that [`set`](Self::set) can replace its value.
    pub(crate) fn new() -> Self {
        Self {
            shards: Shards::new(1),
        }
    }

    /// Adds one.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Subtracts one.
    #[inline]
    pub fn dec(&self) {
        self.add(-1);
    }

    /// Adds `amount`, which may be negative.
    #[inline]
    pub fn add(&self, amount: i64) {
        add::<SharedAccess>(self.shards.mine(cells), amount);
    }

    /// Replaces the value.
    ///
    /// Use a gauge either with this or with a [`writer`](Self::writer): a writer that counts meanwhile is lost or counted
    /// twice.
    pub fn set(&self, value: i64) {
        let shared = self.shards.mine(cells);
        let claimed = self.shards.claimed().map(|cells| cells.load(0));
        let claimed = claimed.fold(0, u64::wrapping_add);
        shared.store(0, value.cast_unsigned().wrapping_sub(claimed));
    }

    /// The value now.
    pub fn value(&self) -> i64 {
        let cells = self.shards.iter().map(|cells| cells.load(0));
        cells.fold(0, u64::wrapping_add).cast_signed()
    }

    /// Returns a writer for one thread at a time, which counts at a lower cost than [`inc`](Self::inc) and
    /// [`dec`](Self::dec). It claims a shard of the gauge while it lives, so it is for a thread that keeps it.
    pub fn writer(self: &Arc<Self>) -> GaugeWriter {
        GaugeWriter {
            gauge: Arc::clone(self),
            claim: Some(self.shards.claim(cells)),
        }
    }

    /// Returns a writer that counts as [`inc`](Self::inc) and [`dec`](Self::dec) do, and claims nothing: there can be any
    /// number of these.
    pub fn shared_writer(self: &Arc<Self>) -> GaugeWriter {
        GaugeWriter {
            gauge: Arc::clone(self),
            claim: None,
        }
    }
}

/// A float that rises and falls: a temperature, a ratio.
///
/// ```
/// use std::time::Duration;
/// use vitals_registry::{Descriptor, Registry};
///
/// let mut registry = Registry::builder(|| Duration::ZERO);
/// let load = registry.float_gauge(Descriptor::new("load_ratio", "Load.", [])).get();
/// load.set(0.5);
/// load.add(0.25);
/// assert!((load.value() - 0.75).abs() < 1e-9);
/// ```
#[derive(Debug)]
pub struct FloatGauge {
    cells: Cells,
}

impl FloatGauge {
    /// A gauge at 0.
    pub(crate) fn new() -> Self {
        Self { cells: cells() }
    }

    /// Replaces the value.
    #[inline]
    pub fn set(&self, value: f64) {
        self.cells.store(0, value.to_bits());
    }

    /// Adds `amount`, which may be negative.
    #[inline]
    pub fn add(&self, amount: f64) {
        self.cells.add_f64::<SharedAccess>(0, amount);
    }

    /// The value now.
    pub fn value(&self) -> f64 {
        self.cells.load_f64(0)
    }
}

/// Counts into and out of a [`Gauge`], by plain stores if it has a claim. Its counts stay when it is dropped.
///
/// ```
/// use std::time::Duration;
/// use vitals_registry::{Descriptor, Registry};
///
/// let mut registry = Registry::builder(|| Duration::ZERO);
/// let active = registry.gauge(Descriptor::new("active", "Active now.", [])).get();
/// let writer = active.writer();
/// writer.inc();
/// drop(writer);
/// assert_eq!(active.value(), 1);
/// ```
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

    /// Subtracts one.
    #[inline]
    pub fn dec(&self) {
        self.add(-1);
    }

    #[inline]
    fn add(&self, amount: i64) {
        match &self.claim {
            Some(cells) => add::<SoleAccess>(cells, amount),
            None => self.gauge.add(amount),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_taken_down_by_another_thread_is_exact() {
        let gauge = Gauge::new();
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
        let gauge = Arc::new(Gauge::new());
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

    #[test]
    fn a_gauge_is_set_beside_the_counts_of_its_writers() {
        let gauge = Arc::new(Gauge::new());
        let writer = gauge.writer();
        writer.inc();
        gauge.add(5);
        for value in [7, -3, 0] {
            gauge.set(value);
            assert_eq!(gauge.value(), value);
        }
        writer.dec();
        assert_eq!(gauge.value(), -1);
    }

    #[test]
    fn threads_that_set_a_gauge_leave_the_value_of_one() {
        let gauge = Gauge::new();
        std::thread::scope(|scope| {
            for value in [3, 5] {
                let gauge = &gauge;
                scope.spawn(move || (0..10_000).for_each(|_| gauge.set(value)));
            }
        });
        assert!([3, 5].contains(&gauge.value()), "{}", gauge.value());
    }

    #[test]
    fn a_float_gauge_sums_exactly_over_threads() {
        let gauge = FloatGauge::new();
        gauge.set(-100.0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| gauge.add(0.5)));
            }
        });
        assert!((gauge.value() - 1900.0).abs() < 1e-9);
    }
}
