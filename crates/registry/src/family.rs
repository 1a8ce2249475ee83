//! Families: they resolve label values to a series, keep to their budget of series, and are walked by an exposition.
//!
//! An existing series is found under a shared lock, without allocation. Code on a hot path keeps the handle that it got.
//! The values themselves are in the instruments: `counter`, `gauge` and `histogram`.

use std::any::Any;
use std::fmt;
use std::hash::BuildHasher;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::counter::{Counter, FloatCounter};
use super::encoder::Encoder;
use super::exposition::{Header, HistogramReading, HistogramValue, Labels, Number, Value};
use super::gauge::{FloatGauge, Gauge};
use super::histogram::Histogram;
use super::label::{OVERFLOW, push_pair};
use super::label_set::LabelSet;
use super::negotiate::Format;
use super::protobuf;
use super::time::Clock;
use super::visit::VisitSeries;

/// The number of series that a walk copies out under one hold of the lock.
const BATCH: usize = 32;

/// The settings of a family.
#[derive(Clone, Debug)]
pub(crate) struct FamilySettings {
    pub(crate) clock: Clock,
    pub(crate) max_series: usize,
    pub(crate) constant_labels: Vec<(String, String)>,
    pub(crate) on_overflow: Option<fn(&str)>,
    /// Whether labels with an empty value are left out.
    pub(crate) omits_empty: bool,
}

/// The registry's own metrics about one family.
#[derive(Clone, Debug)]
pub(crate) struct Meters {
    pub(crate) series: Arc<Gauge>,
    pub(crate) overflow: Arc<Counter>,
}

impl Meters {
    /// Meters that are not exposed, for the families that meter others.
    pub(crate) fn unexposed() -> Self {
        Self {
            series: Arc::new(Gauge::new()),
            overflow: Arc::new(Counter::new(1)),
        }
    }
}

/// The series that label values resolve to.
///
/// ```
/// use std::time::Duration;
/// use vitals_registry::{Descriptor, Registry};
///
/// let mut registry = Registry::builder(|| Duration::ZERO).max_series(1);
/// let orders = registry.counter(Descriptor::new("shop_orders_total", "Orders.", ["article"]));
/// assert!(orders.try_series(["book"]).is_own());
/// assert!(!orders.try_series(["pen"]).is_own(), "the budget is used up");
/// ```
#[derive(Debug)]
pub enum Resolved<M> {
    /// The series of exactly these values. The handle may be kept.
    Series(Arc<M>),
    /// The series of everything beyond the budget. The resolution has been counted. Do not cache it by these values: the
    /// overflow would be undercounted, and the cache unbounded.
    Overflow(Arc<M>),
}

impl<M> Resolved<M> {
    /// Whether this is the series of exactly these values.
    pub fn is_own(&self) -> bool {
        matches!(self, Resolved::Series(_))
    }

    /// The series in either case.
    pub fn into_series(self) -> Arc<M> {
        match self {
            Resolved::Series(series) | Resolved::Overflow(series) => series,
        }
    }
}

/// All series of one name, which differ in the values of `N` labels. Cheap to clone.
///
/// Values are in the order of the labels' names. [`LabelledFamily`] takes them by name instead.
///
/// ```
/// use std::time::Duration;
/// use vitals_registry::{Counter, Descriptor, Family, Registry};
///
/// let mut registry = Registry::builder(|| Duration::ZERO);
/// let jobs: Family<Counter, 1> =
///     registry.counter(Descriptor::new("jobs_total", "Jobs that ended.", ["outcome"]));
/// jobs.series(["ok"]).inc();
/// assert_eq!(jobs.len(), 1);
/// ```
pub struct Family<M, const N: usize> {
    core: Arc<Core<M>>,
    /// Which of the `N` labels are shown. The family's core knows only those.
    shown: [bool; N],
}

/// A family whose label values are the fields of `L`. Cheap to clone.
///
/// ```
/// use std::time::Duration;
/// use vitals_registry::{Counter, LabelSet, LabelledFamily, Registry, label_set};
///
/// label_set! {
///     /// The labels of an order.
///     struct OrderLabels {
///         kind: &'static str,
///         country: &'static str,
///     }
/// }
///
/// let mut registry = Registry::builder(|| Duration::ZERO);
/// let orders: LabelledFamily<Counter, OrderLabels> =
///     registry.counter(OrderLabels::descriptor("orders_total", "Orders that were taken."));
/// orders.series(&OrderLabels { kind: "book", country: "eu" }).inc();
///
/// let registry = registry.build()?;
/// assert_eq!(registry.value("orders_total", &[("kind", "book")]), Some(1.0));
/// # Ok::<(), vitals_registry::RegistryError>(())
/// ```
pub struct LabelledFamily<M, L> {
    core: Arc<Core<M>>,
    labels: PhantomData<fn(&L)>,
}

/// All series of one name, without regard to how their labels are given.
pub struct Core<M> {
    header: Header,
    settings: FamilySettings,
    meters: Meters,
    make: Box<dyn Fn() -> M + Send + Sync>,
    hasher: DefaultHashBuilder,
    index: RwLock<Index<M>>,
    overflowed: AtomicBool,
}

struct Index<M> {
    /// Positions in `list`.
    table: HashTable<u32>,
    /// In the order of their creation.
    list: Vec<Arc<Series<M>>>,
    overflow: Option<Arc<M>>,
}

struct Series<M> {
    hash: u64,
    values: Box<[Box<str>]>,
    text: Box<str>,
    protobuf: Box<[u8]>,
    created: Duration,
    metric: Arc<M>,
}

impl<M> Series<M> {
    fn labels(&self) -> Labels<'_> {
        Labels {
            text: &self.text,
            protobuf: &self.protobuf,
        }
    }
}

impl<M> Index<M> {
    #[inline]
    fn find(&self, hash: u64, values: &[&str]) -> Option<&Arc<M>> {
        let position = self.table.find(hash, |position| {
            let series = &self.list[*position as usize];
            series.hash == hash && series.values.iter().zip(values).all(|(a, b)| **a == **b)
        })?;
        Some(&self.list[*position as usize].metric)
    }

    /// The number of series within the budget.
    fn len(&self) -> usize {
        self.list.len() - usize::from(self.overflow.is_some())
    }
}

impl<M, const N: usize> Family<M, N> {
    /// The family of `core` that takes values for `N` labels, of which those are `shown`.
    pub(crate) fn of(core: Arc<Core<M>>, shown: [bool; N]) -> Self {
        Self { core, shown }
    }

    /// Returns the series of these label values, and creates it if it does not exist. Beyond the budget, it returns the one
    /// series whose values are all `overflow`.
    ///
    /// Takes a shared lock, or an exclusive one for a new series. Allocates only for a new series.
    pub fn series(&self, values: [&str; N]) -> Arc<M> {
        self.try_series(values).into_series()
    }

    /// The same as [`series`](Self::series), but distinguishes a series of exactly these values from the overflow series.
    pub fn try_series(&self, values: [&str; N]) -> Resolved<M> {
        if self.shown == [true; N] {
            return self.core.resolve(&values);
        }
        let mut shown = [""; N];
        let mut length = 0;
        for (value, is_shown) in values.into_iter().zip(self.shown) {
            if is_shown {
                shown[length] = value;
                length += 1;
            }
        }
        self.core.resolve(&shown[..length])
    }

    /// The family as an exposition walks it.
    pub(crate) fn exposed(&self) -> Arc<dyn Exposed>
    where
        M: Instrument,
    {
        Arc::clone(&self.core) as _
    }

    /// The full name of the family.
    pub fn name(&self) -> &str {
        self.core.header.name()
    }

    /// The number of series, without the overflow series.
    pub fn len(&self) -> usize {
        self.core.read().len()
    }

    /// Whether there is no series.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `f` with the label values and the instrument of every series, including the overflow series, in the order
    /// of their creation. The value of a label that is not shown is empty. No lock is held while `f` runs; a series that is
    /// created meanwhile may be missed.
    pub fn for_each(&self, mut f: impl FnMut([&str; N], &M)) {
        self.core.for_each_series(|series| {
            let mut values = series.values.iter();
            let values = self.shown.map(|is_shown| {
                let value = is_shown.then(|| values.next()).flatten();
                value.map_or("", |value| &**value)
            });
            f(values, &series.metric);
        });
    }
}

impl<M> Family<M, 0> {
    /// The only series of a family without labels.
    pub fn get(&self) -> Arc<M> {
        self.series([])
    }
}

impl<M, L: LabelSet> LabelledFamily<M, L> {
    /// The family of `core`, whose labels are those of `L`.
    pub(crate) fn of(core: Arc<Core<M>>) -> Self {
        Self {
            core,
            labels: PhantomData,
        }
    }

    /// Returns the series of these label values, and creates it if it does not exist. Beyond the budget, it returns the one
    /// series whose values are all `overflow`.
    ///
    /// Takes a shared lock, or an exclusive one for a new series. Allocates only for a new series.
    pub fn series(&self, labels: &L) -> Arc<M> {
        self.core.resolve(labels.values().as_ref()).into_series()
    }

    /// The full name of the family.
    pub fn name(&self) -> &str {
        self.core.header.name()
    }
}

impl<M> Core<M> {
    /// A family without series, whose instruments are made by `make`. A family that has no labels has its series from the
    /// start if `is_single` is set.
    pub(crate) fn new(
        header: Header,
        settings: FamilySettings,
        meters: Meters,
        is_single: bool,
        make: impl Fn() -> M + Send + Sync + 'static,
    ) -> Arc<Self> {
        let core = Self {
            header,
            settings,
            meters,
            make: Box::new(make),
            hasher: DefaultHashBuilder::default(),
            index: RwLock::new(Index {
                table: HashTable::new(),
                list: Vec::new(),
                overflow: None,
            }),
            overflowed: AtomicBool::new(false),
        };
        if is_single {
            core.resolve(&[]);
        }
        Arc::new(core)
    }

    /// The names of the labels.
    pub(crate) fn labels(&self) -> &[String] {
        &self.header.description.labels
    }

    /// Finds or creates the series of these values, one for each label.
    #[inline]
    fn resolve(&self, values: &[&str]) -> Resolved<M> {
        let hash = self.hasher.hash_one(values);
        if let Some(found) = self.read().find(hash, values) {
            return Resolved::Series(Arc::clone(found));
        }
        self.create(hash, values)
    }

    /// Creates a series that was not found, and counts an overflow.
    #[cold]
    fn create(&self, hash: u64, values: &[&str]) -> Resolved<M> {
        let overflow = self.read().overflow.clone();
        let resolved = match overflow {
            Some(overflow) => Resolved::Overflow(overflow),
            None => self.insert(hash, values),
        };
        if matches!(resolved, Resolved::Overflow(_)) {
            self.meters.overflow.inc();
            if !self.overflowed.swap(true, Relaxed)
                && let Some(on_overflow) = self.settings.on_overflow
            {
                on_overflow(self.header.name());
            }
        }
        resolved
    }

    fn read(&self) -> RwLockReadGuard<'_, Index<M>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds or creates a series under the exclusive lock.
    fn insert(&self, hash: u64, values: &[&str]) -> Resolved<M> {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = index.find(hash, values) {
            return Resolved::Series(Arc::clone(found));
        }
        if let Some(overflow) = &index.overflow {
            return Resolved::Overflow(Arc::clone(overflow));
        }
        let labels = self.labels().len();
        let fits = labels == 0 || index.len() < self.settings.max_series;
        // A set with too few or too many values belongs to no series.
        if fits && values.len() == labels {
            self.meters.series.inc();
            return Resolved::Series(self.push(&mut index, hash, values));
        }
        let values = vec![OVERFLOW; labels];
        let hash = self.hasher.hash_one(&values[..]);
        let overflow = match index.find(hash, &values) {
            // A series has these values already: it takes the rest.
            Some(found) => Arc::clone(found),
            None => self.push(&mut index, hash, &values),
        };
        index.overflow = Some(Arc::clone(&overflow));
        Resolved::Overflow(overflow)
    }

    fn push(&self, index: &mut Index<M>, hash: u64, values: &[&str]) -> Arc<M> {
        let metric = Arc::new((self.make)());
        let position = u32::try_from(index.list.len()).unwrap_or(u32::MAX);
        index
            .list
            .push(Arc::new(self.render(hash, values, Arc::clone(&metric))));
        let list = &index.list;
        (index.table).insert_unique(hash, position, |position| list[*position as usize].hash);
        metric
    }

    /// Returns a new series with its labels rendered.
    fn render(&self, hash: u64, values: &[&str], metric: Arc<M>) -> Series<M> {
        let constant = self.settings.constant_labels.iter();
        let constant = constant.map(|(name, value)| (name.as_str(), value.as_str()));
        let names = self.labels().iter().map(String::as_str);
        let own = names.zip(values.iter().copied());
        let (mut text, mut protobuf) = (String::new(), Vec::new());
        let is_written = |value: &str| !(self.settings.omits_empty && value.is_empty());
        let own = own.filter(|(_, value)| is_written(value));
        for (name, value) in constant.chain(own) {
            push_pair(&mut text, name, value);
            protobuf::push_label(&mut protobuf, name, value);
        }
        Series {
            hash,
            values: values.iter().map(|value| Box::from(*value)).collect(),
            text: text.into(),
            protobuf: protobuf.into(),
            created: (self.settings.clock)(),
            metric,
        }
    }

    /// Returns some series from the position `from` on; fewer than a batch at the end.
    fn batch(&self, from: usize) -> Vec<Arc<Series<M>>> {
        let index = self.read();
        let rest = index.list.get(from..).unwrap_or_default();
        rest[..rest.len().min(BATCH)].to_vec()
    }

    /// Calls `f` with every series. No lock is held meanwhile.
    fn for_each_series(&self, mut f: impl FnMut(&Series<M>)) {
        let mut from = 0;
        loop {
            let batch = self.batch(from);
            for series in &batch {
                f(series);
            }
            if batch.len() < BATCH {
                return;
            }
            from += BATCH;
        }
    }
}

impl<M, const N: usize> Clone for Family<M, N> {
    fn clone(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
            shown: self.shown,
        }
    }
}

impl<M, L> Clone for LabelledFamily<M, L> {
    fn clone(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
            labels: PhantomData,
        }
    }
}

impl<M, const N: usize> fmt::Debug for Family<M, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.core, f)
    }
}

impl<M, L> fmt::Debug for LabelledFamily<M, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.core, f)
    }
}

impl<M> fmt::Debug for Core<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Family")
            .field("name", &self.header.name())
            .field("labels", &self.labels())
            .field("len", &self.read().len())
            .finish_non_exhaustive()
    }
}

/// A family as an exposition walks it.
pub(crate) trait Exposed: Any + Send + Sync {
    fn header(&self) -> &Header;

    /// Appends some series from the position `from` on, with the head before the first. Returns the position to continue
    /// from, or `None` at the end. A family without series writes nothing.
    fn encode(
        &self,
        from: usize,
        encoder: &mut Encoder,
        reading: &mut HistogramReading,
        out: &mut Vec<u8>,
    ) -> Option<usize>;

    /// Passes on each series, as protobuf shows it.
    fn visit(&self, reading: &mut HistogramReading, visit: &mut VisitSeries<'_>);

    /// Returns the sum of one sample over the series that have each of these values, by the position of their label.
    fn sum(&self, sample: Sample, values: &[(usize, &str)]) -> f64;
}

/// One of the samples of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sample {
    /// The value of a counter or gauge.
    Value,
    /// The number of observations of a histogram.
    Count,
    /// The sum of the observations of a histogram.
    Sum,
}

impl<M: Instrument> Exposed for Core<M> {
    fn header(&self) -> &Header {
        &self.header
    }

    fn encode(
        &self,
        from: usize,
        encoder: &mut Encoder,
        reading: &mut HistogramReading,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        let header = &self.header;
        let batch = self.batch(from);
        if from == 0 && !batch.is_empty() {
            encoder.head(out, header);
        }
        // The memory of many series is scattered: it is prefetched for all of the batch, then read.
        for series in &batch {
            series.metric.touch(encoder.format());
        }
        for series in &batch {
            series.metric.touch_rest(encoder.format());
        }
        for series in &batch {
            let value = series.metric.read(encoder.format(), reading);
            let created = Some(series.created);
            encoder.series(out, header, series.labels(), value, created, None);
        }
        (batch.len() == BATCH).then_some(from + BATCH)
    }

    fn visit(&self, reading: &mut HistogramReading, visit: &mut VisitSeries<'_>) {
        self.for_each_series(|series| {
            let value = series.metric.read(Format::Protobuf, reading);
            visit(series.labels(), value, Some(series.created), None);
        });
    }

    fn sum(&self, sample: Sample, values: &[(usize, &str)]) -> f64 {
        let mut sum = 0.0;
        self.for_each_series(|series| {
            let own = &series.values;
            let has =
                |(at, value): &(usize, &str)| own.get(*at).is_some_and(|own| **own == **value);
            if values.iter().all(has) {
                sum += series.metric.sample(sample);
            }
        });
        sum
    }
}

/// An instrument whose value can be exposed.
pub(crate) trait Instrument: Send + Sync + 'static {
    /// First prefetch pass: loads what [`read`](Self::read) reads, if that is much.
    fn touch(&self, _: Format) {}

    /// Second prefetch pass: loads what [`touch`](Self::touch) made reachable.
    fn touch_rest(&self, _: Format) {}

    /// The value at this moment, as far as `format` shows it.
    fn read<'a>(&'a self, format: Format, reading: &'a mut HistogramReading) -> Value<'a>;

    /// The value of one sample; 0 if the instrument has no such sample.
    fn sample(&self, sample: Sample) -> f64;
}

impl Instrument for Counter {
    fn read<'a>(&'a self, _: Format, _: &'a mut HistogramReading) -> Value<'a> {
        Value::Counter(Number::Unsigned(self.value()))
    }

    fn sample(&self, _: Sample) -> f64 {
        self.value() as f64
    }
}

impl Instrument for FloatCounter {
    fn read<'a>(&'a self, _: Format, _: &'a mut HistogramReading) -> Value<'a> {
        Value::Counter(Number::Float(self.value()))
    }

    fn sample(&self, _: Sample) -> f64 {
        self.value()
    }
}

impl Instrument for Gauge {
    fn read<'a>(&'a self, _: Format, _: &'a mut HistogramReading) -> Value<'a> {
        Value::Gauge(Number::Signed(self.value()))
    }

    fn sample(&self, _: Sample) -> f64 {
        self.value() as f64
    }
}

impl Instrument for FloatGauge {
    fn read<'a>(&'a self, _: Format, _: &'a mut HistogramReading) -> Value<'a> {
        Value::Gauge(Number::Float(self.value()))
    }

    fn sample(&self, _: Sample) -> f64 {
        self.value()
    }
}

impl Instrument for Histogram {
    fn touch(&self, format: Format) {
        self.touch(format == Format::Protobuf);
    }

    fn touch_rest(&self, format: Format) {
        if format == Format::Protobuf {
            self.touch_native();
        }
    }

    fn read<'a>(&'a self, format: Format, reading: &'a mut HistogramReading) -> Value<'a> {
        let native = format == Format::Protobuf;
        if native {
            self.read_native(&mut reading.native, self.layout().native_buckets);
        }
        self.read_classic(reading);
        if format != Format::Text {
            self.read_exemplars(&mut reading.exemplars);
        }
        Value::Histogram(HistogramValue {
            bounds: &self.layout().bounds,
            reading,
            native,
        })
    }

    fn sample(&self, sample: Sample) -> f64 {
        let mut reading = HistogramReading::default();
        self.read_classic(&mut reading);
        match sample {
            Sample::Sum => reading.sum,
            Sample::Count | Sample::Value => reading.classic.last().copied().unwrap_or(0) as f64,
        }
    }
}

#[cfg(test)]
mod tests;
