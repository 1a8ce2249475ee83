//! Families: from label values to a series, the budget of series, and walking them for an exposition.
//!
//! A series that exists is found under a shared lock, without allocation; callers on a hot path keep the handle they
//! got and do not come back. What a series measures is the instruments' concern.

use std::any::Any;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::counter::{Counter, FloatCounter};
use super::encoder::Encoder;
use super::exposition::{Header, HistogramValue, Labels, Number, Reading, Value};
use super::gauge::Gauge;
use super::histogram::Histogram;
use super::label::{OVERFLOW, push_pair};
use super::negotiate::Format;
use super::protobuf;
use super::time::Clock;
use super::visit::VisitSeries;

/// Series that a walk copies out in one hold of the lock.
const BATCH: usize = 32;

/// What all families of a registry have in common.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) clock: Clock,
    pub(crate) max_series: usize,
    pub(crate) constant_labels: Vec<(String, String)>,
    pub(crate) on_overflow: Option<fn(&str)>,
}

/// The registry's own meters of one family.
#[derive(Clone, Debug)]
pub(crate) struct Meters {
    pub(crate) series: Arc<Gauge>,
    pub(crate) overflow: Arc<Counter>,
}

impl Meters {
    /// Meters that nobody reads, for the families that others are metered with.
    pub(crate) fn unexposed() -> Self {
        Self {
            series: Arc::new(Gauge::new(1)),
            overflow: Arc::new(Counter::new(1)),
        }
    }
}

/// The series that label values resolve to.
#[derive(Debug)]
pub enum Resolved<M> {
    /// The series of exactly these values: it may be kept for as long as one likes.
    Series(Arc<M>),
    /// The one series of all that exceeds the budget; the resolution has been counted. Not to be remembered for these
    /// values, or the overflow would be undercounted and the memory of it unbounded.
    Overflow(Arc<M>),
}

impl<M> Resolved<M> {
    /// Whether the series is that of exactly these values.
    pub fn is_own(&self) -> bool {
        matches!(self, Resolved::Series(_))
    }

    /// The series, whichever it is.
    pub fn into_series(self) -> Arc<M> {
        match self {
            Resolved::Series(series) | Resolved::Overflow(series) => series,
        }
    }
}

/// All series of one name, told apart by the values of `N` labels. Cheap to clone.
pub struct Family<M, const N: usize> {
    core: Arc<Core<M, N>>,
}

struct Core<M, const N: usize> {
    header: Header,
    labels: [String; N],
    settings: Settings,
    meters: Meters,
    make: Box<dyn Fn() -> M + Send + Sync>,
    hasher: DefaultHashBuilder,
    index: RwLock<Index<M, N>>,
    overflowed: AtomicBool,
}

struct Index<M, const N: usize> {
    /// Positions in `list`.
    table: HashTable<u32>,
    /// In the order of their birth.
    list: Vec<Arc<Series<M, N>>>,
    overflow: Option<Arc<M>>,
}

struct Series<M, const N: usize> {
    hash: u64,
    values: [Box<str>; N],
    text: Box<str>,
    protobuf: Box<[u8]>,
    created: Duration,
    metric: Arc<M>,
}

impl<M, const N: usize> Series<M, N> {
    fn labels(&self) -> Labels<'_> {
        Labels {
            text: &self.text,
            protobuf: &self.protobuf,
        }
    }
}

impl<M, const N: usize> Index<M, N> {
    fn find(&self, hash: u64, values: [&str; N]) -> Option<&Arc<M>> {
        let position = self.table.find(hash, |position| {
            let series = &self.list[*position as usize];
            series.hash == hash && series.values.iter().zip(values).all(|(a, b)| **a == *b)
        })?;
        Some(&self.list[*position as usize].metric)
    }

    /// The series within the budget.
    fn len(&self) -> usize {
        self.list.len() - usize::from(self.overflow.is_some())
    }
}

impl<M, const N: usize> Family<M, N> {
    /// A family without series whose instruments are made by `make`.
    pub(crate) fn new(
        header: Header,
        labels: [String; N],
        settings: Settings,
        meters: Meters,
        make: impl Fn() -> M + Send + Sync + 'static,
    ) -> Self {
        let core = Core {
            header,
            labels,
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
        if N == 0 {
            core.insert(core.hasher.hash_one([""; N]), [""; N]);
        }
        Self {
            core: Arc::new(core),
        }
    }

    /// The series of these label values, made where it does not exist; past the budget, the one series whose values
    /// are all `overflow`.
    ///
    /// Takes a shared lock, or an exclusive one for a new series. Allocates for a new series only.
    pub fn series(&self, values: [&str; N]) -> Arc<M> {
        self.try_series(values).into_series()
    }

    /// The same as [`series`](Self::series), telling apart a series of its own from the overflow.
    pub fn try_series(&self, values: [&str; N]) -> Resolved<M> {
        let core = &self.core;
        let hash = core.hasher.hash_one(values);
        {
            let index = core.read();
            if let Some(found) = index.find(hash, values) {
                return Resolved::Series(Arc::clone(found));
            }
            if let Some(overflow) = &index.overflow {
                core.meters.overflow.inc();
                return Resolved::Overflow(Arc::clone(overflow));
            }
        }
        let resolved = core.insert(hash, values);
        if matches!(resolved, Resolved::Overflow(_)) {
            core.meters.overflow.inc();
            if !core.overflowed.swap(true, Relaxed)
                && let Some(on_overflow) = core.settings.on_overflow
            {
                on_overflow(core.header.name());
            }
        }
        resolved
    }

    /// The family's full name.
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

    /// Calls `f` with the label values and the instrument of every series, the overflow series among them, in the
    /// order of their births. No lock is held while `f` runs; a series born meanwhile may be missed.
    pub fn for_each(&self, mut f: impl FnMut([&str; N], &M)) {
        let mut from = 0;
        loop {
            let batch = self.core.batch(from);
            for series in &batch {
                f(
                    series.values.each_ref().map(|value| &**value),
                    &series.metric,
                );
            }
            if batch.len() < BATCH {
                return;
            }
            from += BATCH;
        }
    }
}

impl<M> Family<M, 0> {
    /// The only series of a family without labels; it exists from the start.
    pub fn get(&self) -> Arc<M> {
        self.series([])
    }
}

impl<M, const N: usize> Core<M, N> {
    fn read(&self) -> RwLockReadGuard<'_, Index<M, N>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds or makes a series under the exclusive lock.
    fn insert(&self, hash: u64, values: [&str; N]) -> Resolved<M> {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = index.find(hash, values) {
            return Resolved::Series(Arc::clone(found));
        }
        if let Some(overflow) = &index.overflow {
            return Resolved::Overflow(Arc::clone(overflow));
        }
        if N == 0 || index.len() < self.settings.max_series {
            self.meters.series.inc();
            return Resolved::Series(self.push(&mut index, hash, values));
        }
        let values = [OVERFLOW; N];
        let hash = self.hasher.hash_one(values);
        let overflow = match index.find(hash, values) {
            // Somebody's values were these already: the series takes in the rest.
            Some(found) => Arc::clone(found),
            None => self.push(&mut index, hash, values),
        };
        index.overflow = Some(Arc::clone(&overflow));
        Resolved::Overflow(overflow)
    }

    fn push(&self, index: &mut Index<M, N>, hash: u64, values: [&str; N]) -> Arc<M> {
        let metric = Arc::new((self.make)());
        let position = u32::try_from(index.list.len()).unwrap_or(u32::MAX);
        index
            .list
            .push(Arc::new(self.render(hash, values, Arc::clone(&metric))));
        let list = &index.list;
        (index.table).insert_unique(hash, position, |position| list[*position as usize].hash);
        metric
    }

    /// A new series with its labels rendered.
    fn render(&self, hash: u64, values: [&str; N], metric: Arc<M>) -> Series<M, N> {
        let constant = self.settings.constant_labels.iter();
        let constant = constant.map(|(name, value)| (name.as_str(), value.as_str()));
        let own = self.labels.iter().map(String::as_str).zip(values);
        let own = own.filter(|(name, _)| !name.is_empty());
        let (mut text, mut protobuf) = (String::new(), Vec::new());
        for (name, value) in constant.chain(own) {
            push_pair(&mut text, name, value);
            protobuf::push_label(&mut protobuf, name, value);
        }
        Series {
            hash,
            values: values.map(Into::into),
            text: text.into(),
            protobuf: protobuf.into(),
            created: (self.settings.clock)(),
            metric,
        }
    }

    /// Some series from the position `from` on; fewer than a batch at the end.
    fn batch(&self, from: usize) -> Vec<Arc<Series<M, N>>> {
        let index = self.read();
        let rest = index.list.get(from..).unwrap_or_default();
        rest[..rest.len().min(BATCH)].to_vec()
    }
}

impl<M, const N: usize> Clone for Family<M, N> {
    fn clone(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
        }
    }
}

impl<M, const N: usize> fmt::Debug for Family<M, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Family")
            .field("name", &self.name())
            .field("labels", &self.core.labels)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// A family as an exposition walks it.
pub(crate) trait Exposed: Any + Send + Sync {
    fn header(&self) -> &Header;

    /// Appends some series from the position `from` on, with the head before the first; the position to go on from,
    /// or none at the end. A family without series writes nothing.
    fn encode(
        &self,
        from: usize,
        encoder: &mut Encoder,
        reading: &mut Reading,
        out: &mut Vec<u8>,
    ) -> Option<usize>;

    /// Passes on each series, as protobuf shows it.
    fn visit(&self, reading: &mut Reading, visit: &mut VisitSeries<'_>);
}

impl<M: Instrument, const N: usize> Exposed for Family<M, N> {
    fn header(&self) -> &Header {
        &self.core.header
    }

    fn encode(
        &self,
        from: usize,
        encoder: &mut Encoder,
        reading: &mut Reading,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        let header = &self.core.header;
        let batch = self.core.batch(from);
        if from == 0 && !batch.is_empty() {
            encoder.head(out, header);
        }
        // What many series lie scattered over is fetched together, and read then.
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

    fn visit(&self, reading: &mut Reading, visit: &mut VisitSeries<'_>) {
        let mut from = 0;
        loop {
            let batch = self.core.batch(from);
            for series in &batch {
                let value = series.metric.read(Format::Protobuf, reading);
                visit(series.labels(), value, Some(series.created), None);
            }
            if batch.len() < BATCH {
                return;
            }
            from += BATCH;
        }
    }
}

/// An instrument whose value can be exposed.
trait Instrument: Send + Sync + 'static {
    /// Brings near what [`read`](Self::read) reads, where that is much.
    fn touch(&self, _: Format) {}

    /// Brings near what could not be found before [`touch`](Self::touch).
    fn touch_rest(&self, _: Format) {}

    /// The value at this moment, as far as `format` shows it.
    fn read<'a>(&'a self, format: Format, reading: &'a mut Reading) -> Value<'a>;
}

impl Instrument for Counter {
    fn read<'a>(&'a self, _: Format, _: &'a mut Reading) -> Value<'a> {
        Value::Counter(Number::Unsigned(self.value()))
    }
}

impl Instrument for FloatCounter {
    fn read<'a>(&'a self, _: Format, _: &'a mut Reading) -> Value<'a> {
        Value::Counter(Number::Float(self.value()))
    }
}

impl Instrument for Gauge {
    fn read<'a>(&'a self, _: Format, _: &'a mut Reading) -> Value<'a> {
        Value::Gauge(Number::Signed(self.value()))
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

    fn read<'a>(&'a self, format: Format, reading: &'a mut Reading) -> Value<'a> {
        let native = format == Format::Protobuf;
        if native {
            self.read_native(&mut reading.native, self.shape().native_buckets);
        }
        self.read_classic(reading);
        if format != Format::Text {
            self.read_exemplars(&mut reading.exemplars);
        }
        Value::Histogram(HistogramValue {
            bounds: &self.shape().bounds,
            reading,
            native,
        })
    }
}

#[cfg(test)]
mod tests;
