//! Histograms: classic and native buckets, sum and exemplars from one recording, and snapshots to compute with.
//!
//! Every count is the sum of its buckets, so that both agree whenever they are read.

use std::iter;
use std::sync::{Arc, OnceLock};

use super::cell::{CellAccess, Cells, SharedAccess, SoleAccess};
use super::classic::BucketSearch;
use super::counter::Counter;
use super::exemplar::{Exemplar, Exemplars, SpanContext};
use super::exposition::{Bounds, HistogramReading, NativeReading};
use super::native::{self, Buckets};
use super::shard::{Claim, Shards};
use super::sparse;
use super::time::Clock;

/// The properties that all histograms of a family share.
#[derive(Debug)]
pub(crate) struct HistogramLayout {
    /// The classic upper bounds.
    pub(crate) bounds: Bounds,
    pub(crate) search: BucketSearch,
    /// The most native buckets exposed.
    pub(crate) native_buckets: usize,
    pub(crate) shards: usize,
    pub(crate) clock: Clock,
    /// Returns the span that exemplars are from if a recording names none.
    pub(crate) current_span: Option<fn() -> Option<SpanContext>>,
    /// Counts the observations that are dropped.
    pub(crate) dropped: Arc<Counter>,
}

/// A distribution of non-negative values, in classic and native buckets.
///
/// ```
/// use std::time::Duration;
/// use vitals_registry::{Descriptor, Registry};
///
/// let mut registry = Registry::builder(|| Duration::ZERO);
/// let wait = registry.histogram(Descriptor::new("wait", "Waits.", []), &[0.5, 1.0]).get();
/// wait.observe(0.7);
/// let snapshot = wait.snapshot();
/// assert_eq!((snapshot.count, snapshot.classic[1]), (1, (1.0, 1)));
/// ```
#[derive(Debug)]
pub struct Histogram {
    layout: Arc<HistogramLayout>,
    shards: Shards<HistogramShard>,
    exemplars: OnceLock<Box<Exemplars>>,
}

/// The counts of one shard.
#[derive(Debug)]
struct HistogramShard {
    cells: Cells,
    native: Buckets,
}

/// The cells of a shard: the sum, then the classic buckets, `+Inf` last.
const SUM: usize = 0;
const CLASSIC: usize = 1;

impl HistogramShard {
    fn new(layout: &HistogramLayout) -> Self {
        Self {
            cells: Cells::new(CLASSIC + layout.bounds.values.len() + 1),
            native: Buckets::default(),
        }
    }

    /// Records a value and returns its classic bucket, or drops a value that is negative or not a number.
    #[inline]
    fn record<A: CellAccess>(&self, value: f64, layout: &HistogramLayout) -> Option<usize> {
        let recordable = value >= 0.0;
        if !recordable {
            layout.drop_value();
            return None;
        }
        let bucket = layout.search.bucket(value);
        self.cells.add::<A>(CLASSIC + bucket, 1);
        // Many values are zero, such as the queries of a request without any. They add nothing to the sum.
        if value > 0.0 {
            self.cells.add_f64::<A>(SUM, value);
            self.native.record::<A>(value);
        } else {
            self.native.record_zero::<A>();
        }
        Some(bucket)
    }
}

impl HistogramLayout {
    /// Counts an observation that is dropped.
    #[cold]
    fn drop_value(&self) {
        self.dropped.inc();
    }

    #[inline]
    fn current_span(&self) -> Option<SpanContext> {
        self.current_span.and_then(|current_span| current_span())
    }
}

impl Histogram {
    /// An empty histogram.
    pub(crate) fn new(layout: Arc<HistogramLayout>) -> Self {
        Self {
            shards: Shards::new(layout.shards),
            exemplars: OnceLock::new(),
            layout,
        }
    }

    /// Records one value. A value that is negative or not a number is dropped, and counted in
    /// `vitals_observations_dropped_total`.
    ///
    /// If the registry knows [the current span](crate::RegistryBuilder::current_span), that becomes the exemplar.
    #[inline]
    pub fn observe(&self, value: f64) {
        self.observe_with(value, self.layout.current_span().as_ref());
    }

    /// Records one value, and the span it came from as an exemplar.
    ///
    /// While another thread stores an exemplar of this histogram, this one is left out.
    #[inline]
    pub fn observe_with(&self, value: f64, span: Option<&SpanContext>) {
        let shard = self.shards.mine(|| HistogramShard::new(&self.layout));
        let bucket = shard.record::<SharedAccess>(value, &self.layout);
        self.keep(bucket, value, span);
    }

    /// Returns a writer for one thread at a time, which records at a lower cost. It claims a shard of the histogram while it
    /// lives, so it is for a thread that keeps it.
    pub fn writer(self: &Arc<Self>) -> HistogramWriter {
        HistogramWriter {
            histogram: Arc::clone(self),
            other: None,
            claim: Some(self.shards.claim(|| HistogramShard::new(&self.layout))),
        }
    }

    /// Returns a writer that records each value in this histogram and in another one, at the cost of one. `None` if the two
    /// have different buckets.
    ///
    /// ```
    /// use std::time::Duration;
    /// use vitals_registry::{Descriptor, Registry};
    ///
    /// let mut registry = Registry::builder(|| Duration::ZERO);
    /// let mut histogram = |name| registry.histogram(Descriptor::new(name, "", []), &[1.0]).get();
    /// let (wait, all) = (histogram("wait"), histogram("all"));
    /// let both = wait.writer_with(&all).expect("the same buckets");
    /// both.observe(0.5);
    /// all.observe(2.0);
    /// assert_eq!((wait.snapshot().count, all.snapshot().count), (1, 2));
    /// ```
    pub fn writer_with(self: &Arc<Self>, other: &Arc<Self>) -> Option<HistogramWriter> {
        let have_same_buckets = self.layout.bounds.values == other.layout.bounds.values;
        have_same_buckets.then(|| {
            let make = || HistogramShard::new(&self.layout);
            HistogramWriter {
                histogram: Arc::clone(self),
                other: Some(Arc::clone(other)),
                claim: Some(self.shards.claim_in_both(&other.shards, make)),
            }
        })
    }

    /// Returns a writer that records as the histogram itself does, and claims nothing: there can be any number of these.
    pub fn shared_writer(self: &Arc<Self>) -> HistogramWriter {
        HistogramWriter {
            histogram: Arc::clone(self),
            other: None,
            claim: None,
        }
    }

    /// The number of shards that are allocated: 1 until several threads record at once.
    pub fn shard_count(&self) -> usize {
        self.shards.iter().count()
    }

    /// Stores an exemplar if there is a span.
    #[inline]
    fn keep(&self, bucket: Option<usize>, value: f64, span: Option<&SpanContext>) {
        if let (Some(bucket), Some(span)) = (bucket, span) {
            self.keep_exemplar(bucket, value, *span);
        }
    }

    #[cold]
    fn keep_exemplar(&self, bucket: usize, value: f64, span: SpanContext) {
        let at = (self.layout.clock)();
        self.exemplars
            .get_or_init(|| Box::new(Exemplars::new(self.layout.bounds.values.len() + 1)))
            .offer(bucket, Exemplar { value, at, span });
    }

    /// The state at this moment, at full resolution.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let shards = self.shards.iter().map(|shard| &shard.native);
        let mut native = Vec::new();
        let zero_count = shards.clone().map(Buckets::zero_count).sum();
        native::read(&shards, &mut native);
        // The count is that of the native buckets. The classic ones are read later, and may be ahead.
        let mut classic = HistogramReading::default();
        self.read_classic(&mut classic);
        let count = (native.iter()).fold(zero_count, |sum, (_, count)| sum + count);
        let bounds = self
            .layout
            .bounds
            .values
            .iter()
            .copied()
            .chain([f64::INFINITY]);
        HistogramSnapshot {
            count,
            sum: classic.sum,
            classic: bounds
                .zip(
                    classic
                        .classic
                        .iter()
                        .map(|cumulative| (*cumulative).min(count)),
                )
                .collect(),
            zero_count,
            native,
        }
    }

    /// Reads the sum, the classic buckets and their exemplars.
    pub(crate) fn read_classic(&self, reading: &mut HistogramReading) {
        reading.sum = 0.0;
        reading.classic.clear();
        reading
            .classic
            .resize(self.layout.bounds.values.len() + 1, 0);
        for HistogramShard { cells, .. } in self.shards.iter() {
            reading.sum += cells.load_f64(SUM);
            cells.add_to(CLASSIC, &mut reading.classic);
        }
        let mut cumulative = 0;
        for count in &mut reading.classic {
            cumulative += *count;
            *count = cumulative;
        }
    }

    /// Reads the exemplars of the classic buckets: none, or one entry for each bucket.
    pub(crate) fn read_exemplars(&self, out: &mut Vec<Option<Exemplar>>) {
        out.clear();
        if let Some(exemplars) = self.exemplars.get() {
            exemplars.read_classic(out);
        }
    }

    /// Reads the native buckets, lowered to at most `limit` populated ones, and their exemplars.
    pub(crate) fn read_native(&self, native: &mut NativeReading, limit: usize) {
        let shards = self.shards.iter().map(|shard| &shard.native);
        native.zero_count = shards.clone().map(Buckets::zero_count).sum();
        native.buckets.clear();
        native.schema = native::SCHEMA;
        if !native::read_octaves(&shards, &mut native.octaves)
            || native.octaves.has_more_than(limit)
        {
            native.octaves.clear();
            native::read(&shards, &mut native.buckets);
            native.schema = native::lower(&mut native.buckets, limit);
        }
        native.exemplars.clear();
        if let Some(exemplars) = self.exemplars.get() {
            exemplars.read_native(&mut native.exemplars);
        }
    }

    /// First prefetch pass: loads the classic buckets, and if `native` is set the tables of the native ones.
    pub(crate) fn touch(&self, native: bool) {
        for shard in self.shards.iter() {
            shard.cells.touch();
            if native {
                shard.native.touch_table();
            }
        }
    }

    /// Second prefetch pass: loads the native buckets, which the tables made reachable.
    pub(crate) fn touch_native(&self) {
        for shard in self.shards.iter() {
            shard.native.touch();
        }
    }

    /// The properties that all histograms of the family share.
    pub(crate) fn layout(&self) -> &HistogramLayout {
        &self.layout
    }
}

/// Records into a [`Histogram`], by plain stores if it has a claim. Its observations stay when it is dropped.
///
/// ```
/// use std::time::Duration;
/// use vitals_registry::{Descriptor, Registry};
///
/// let mut registry = Registry::builder(|| Duration::ZERO);
/// let wait = registry.histogram(Descriptor::new("wait", "Waits.", []), &[1.0]).get();
/// let writer = wait.writer();
/// writer.observe(0.5);
/// assert_eq!(writer.histogram().snapshot().count, 1);
/// ```
#[derive(Debug)]
pub struct HistogramWriter {
    histogram: Arc<Histogram>,
    /// The other histogram that the claimed shard belongs to, if there is one.
    other: Option<Arc<Histogram>>,
    claim: Option<Claim<HistogramShard>>,
}

impl HistogramWriter {
    /// The same as [`Histogram::observe`].
    #[inline]
    pub fn observe(&self, value: f64) {
        self.observe_with(value, self.histogram.layout.current_span().as_ref());
    }

    /// The same as [`Histogram::observe_with`].
    #[inline]
    pub fn observe_with(&self, value: f64, span: Option<&SpanContext>) {
        match (&self.claim, span) {
            (Some(shard), None) => {
                shard.record::<SoleAccess>(value, &self.histogram.layout);
            }
            _ => self.observe_apart(value, span),
        }
    }

    /// Apart from the common path, which thus has no registers to save.
    #[cold]
    fn observe_apart(&self, value: f64, span: Option<&SpanContext>) {
        let Some(shard) = &self.claim else {
            return self.histogram.observe_with(value, span);
        };
        let bucket = shard.record::<SoleAccess>(value, &self.histogram.layout);
        for histogram in iter::once(&self.histogram).chain(&self.other) {
            histogram.keep(bucket, value, span);
        }
    }

    /// The histogram; the first one, if the writer records in two.
    pub fn histogram(&self) -> &Arc<Histogram> {
        &self.histogram
    }
}

/// The state of a histogram at one moment, or the difference of two moments.
///
/// ```
/// use vitals_registry::Distribution;
///
/// let times = Distribution::default();
/// times.observe(1.0);
/// let before = times.snapshot();
/// times.observe(3.0);
/// let since = times.snapshot().delta(&before);
/// assert_eq!((since.count, since.mean()), (1, Some(3.0)));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramSnapshot {
    /// The number of observations.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Upper bound and cumulative count of each classic bucket; the last is infinite.
    pub classic: Vec<(f64, u64)>,
    /// Index and count of the populated native buckets at schema 5, ascending: bucket `i` takes
    /// `2^((i-1)/32) < v <= 2^(i/32)`.
    pub native: Vec<(i32, u64)>,
    /// The number of observations that are at most 2^-128.
    pub zero_count: u64,
}

impl HistogramSnapshot {
    /// The value below which the share `q` (0 to 1) of the observations lies, computed from the native buckets. Returns `None`
    /// without observations, or if `q` is not between 0 and 1.
    ///
    /// Within a bucket, observations are assumed to be spread exponentially, as in Prometheus 3.
    /// <https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile>
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if self.count == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = q * self.count as f64;
        let mut below = self.zero_count as f64;
        if rank <= below && self.zero_count > 0 {
            return Some(native::ZERO_THRESHOLD * rank / below);
        }
        for (index, count) in &self.native {
            let count = *count as f64;
            if rank <= below + count {
                return Some(interpolate(*index, (rank - below) / count));
            }
            below += count;
        }
        let last = self
            .native
            .last()
            .map_or(0.0, |(index, _)| interpolate(*index, 1.0));
        Some(last)
    }

    /// The mean of the observations; `None` without observations.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// Adds the observations of `other`, a snapshot of a histogram with the same classic bounds. A classic bucket that only
    /// one of the two has is not changed.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.zero_count += other.zero_count;
        if self.classic.is_empty() {
            self.classic.clone_from(&other.classic);
        } else {
            for (mine, theirs) in self.classic.iter_mut().zip(&other.classic) {
                mine.1 += theirs.1;
            }
        }
        sparse::merge(&mut self.native, &other.native);
    }

    /// The observations since `earlier`, a snapshot of the same histogram.
    #[must_use]
    pub fn delta(&self, earlier: &Self) -> Self {
        let classic = |at: usize| earlier.classic.get(at).map_or(0, |(_, count)| *count);
        Self {
            count: self.count.saturating_sub(earlier.count),
            sum: self.sum - earlier.sum,
            zero_count: self.zero_count.saturating_sub(earlier.zero_count),
            classic: (self.classic.iter().enumerate())
                .map(|(at, (bound, count))| (*bound, count.saturating_sub(classic(at))))
                .collect(),
            native: sparse::since(&self.native, &earlier.native),
        }
    }
}

/// The value at `fraction` of a native bucket's width on the logarithmic scale.
fn interpolate(index: i32, fraction: f64) -> f64 {
    let lower = native::upper_bound(index - 1, native::SCHEMA);
    let upper = native::upper_bound(index, native::SCHEMA);
    if upper.is_infinite() {
        return upper;
    }
    lower * (upper / lower).powf(fraction)
}

#[cfg(test)]
mod tests;
