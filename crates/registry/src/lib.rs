//! The registry: metric families, collectors, and their expositions as text, OpenMetrics and protobuf.
//!
//! The registry does no input or output, and has no clock of its own. An exposition has the declared families in the order
//! of their declaration, then the registry's own, then those of collectors in the order of their registration, then those
//! of the embedded `prometheus::Registry`.
//!
//! ```
//! use std::time::{Duration, SystemTime, UNIX_EPOCH};
//! use vitals_registry::{Descriptor, Format, Registry, Unit};
//!
//! let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
//! let mut builder = Registry::builder(clock).constant_label("region", "eu");
//! let jobs = builder.counter(Descriptor::new("jobs_total", "Jobs that ended.", ["outcome"]));
//! let wait = Descriptor::new("job_wait_seconds", "Time that jobs waited.", []).unit(Unit::Seconds);
//! let wait = builder.histogram(wait, &[0.1, 1.0, 10.0]).get();
//! let registry = builder.build()?;
//!
//! jobs.series(["ok"]).inc();
//! wait.observe(0.25);
//! let text = String::from_utf8(registry.encode(Format::Text))?;
//! assert!(text.contains("jobs_total{region=\"eu\",outcome=\"ok\"} 1\n"));
//! assert!(text.contains("job_wait_seconds_bucket{region=\"eu\",le=\"1\"} 1\n"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cell;
mod classic;
mod collector;
mod counter;
mod descriptor;
mod distribution;
mod encoder;
mod escaping;
mod exemplar;
mod exposition;
mod family;
mod gauge;
mod histogram;
mod label;
mod label_set;
mod native;
mod negotiate;
mod number;
mod octaves;
mod protobuf;
mod row;
mod scrape;
mod shard;
pub mod sparse;
#[cfg(test)]
mod tests;
mod text;
mod time;
mod visit;

use std::any::Any;
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

pub use collector::{Collector, Fault, FaultKind};
pub use counter::{Counter, CounterWriter, FloatCounter};
pub use descriptor::{
    Descriptor, FamilyDescription, FamilyDescriptor, LabelledDescriptor, MetricKind, RegistryError,
    Unit,
};
pub use distribution::{Distribution, DistributionWriter};
pub use escaping::Escaping;
pub use exemplar::SpanContext;
pub use exposition::Number;
pub use family::{Family, LabelledFamily, Resolved};
pub use gauge::{FloatGauge, Gauge, GaugeWriter};
pub use histogram::{Histogram, HistogramSnapshot, HistogramWriter};
pub use label_set::LabelSet;
pub use native::ZERO_THRESHOLD;
pub use negotiate::{Encoding, Format, MediaType, negotiate_encoding, negotiate_format};
pub use row::{FamilyRows, ReadFamily, RowValue};
pub use scrape::{NameFilter, Scrape};
pub use time::Clock;
pub use visit::{
    VisitedBuckets, VisitedExemplar, VisitedHistogram, VisitedLabels, VisitedSeries, VisitedValue,
    Visitor,
};

use classic::BucketSearch;
use collector::{Embedded, Foreign, Reported, TakenNames};
use descriptor::sealed::Declare as _;
use exposition::{Bounds, Header};
use family::{Core, Exposed, FamilySettings, Instrument, Meters, Sample};
use histogram::HistogramLayout;

const DEFAULT_MAX_SERIES: usize = 2000;
const DEFAULT_NATIVE_BUCKETS: usize = 160;

/// Declares the families of a registry. Settings come before the first family.
///
/// The [crate's page](crate) has an example.
pub struct RegistryBuilder {
    settings: FamilySettings,
    native_buckets: usize,
    shards: usize,
    own: Option<RegistryFamilies>,
    families: Vec<Arc<dyn Exposed>>,
    /// The sample names that the families write.
    claimed: HashSet<String>,
    created: bool,
    current_span: Option<fn() -> Option<SpanContext>>,
    on_fault: Option<OnFault>,
    /// The first error.
    error: Option<RegistryError>,
}

/// A callback that receives the name of a collector and its fault.
type OnFault = fn(collector: &str, fault: &Fault);

/// The registry's own families.
#[derive(Clone)]
struct RegistryFamilies {
    series: Family<Gauge, 1>,
    overflow: Family<Counter, 1>,
    dropped: Family<Counter, 1>,
    collector_errors: Family<Counter, 1>,
}

impl RegistryFamilies {
    fn new(settings: &FamilySettings, shards: usize) -> Self {
        let settings = FamilySettings {
            max_series: usize::MAX,
            on_overflow: None,
            ..settings.clone()
        };
        let counter = |descriptor| {
            unmetered(descriptor, MetricKind::Counter, &settings, move || {
                Counter::new(shards)
            })
        };
        Self {
            series: unmetered(
                Descriptor::new(
                    "vitals_series",
                    "Series of a family, within its budget.",
                    ["family"],
                ),
                MetricKind::Gauge,
                &settings,
                Gauge::new,
            ),
            overflow: counter(Descriptor::new(
                "vitals_series_overflow_total",
                "Resolutions of label values past a family's budget, which landed in its overflow series.",
                ["family"],
            )),
            dropped: counter(Descriptor::new(
                "vitals_observations_dropped_total",
                "Observations that were negative or not a number, and that no histogram took.",
                ["family"],
            )),
            collector_errors: counter(Descriptor::new(
                "vitals_collector_errors_total",
                "Times that a collector failed, or returned rows that no format can hold.",
                ["collector"],
            )),
        }
    }

    fn exposed(&self) -> [Arc<dyn Exposed>; 4] {
        [
            self.series.exposed(),
            self.overflow.exposed(),
            self.dropped.exposed(),
            self.collector_errors.exposed(),
        ]
    }
}

/// Declares a family that is not metered itself.
fn unmetered<M>(
    descriptor: Descriptor<1>,
    kind: MetricKind,
    settings: &FamilySettings,
    make: impl Fn() -> M + Send + Sync + 'static,
) -> Family<M, 1> {
    let (head, labels) = descriptor.into_parts();
    let header = Header::new(head.describe(kind, &labels));
    let core = Core::new(header, settings.clone(), Meters::unexposed(), false, make);
    Descriptor::family(&labels, core)
}

impl RegistryBuilder {
    /// Sets the most series that a family may have, 2,000 by default. Beyond it, new label sets share one series.
    #[must_use]
    pub fn max_series(mut self, max_series: usize) -> Self {
        self.setting("max_series");
        self.settings.max_series = max_series;
        self
    }

    /// Sets the most native buckets that are exposed of a histogram, 160 by default. The resolution is lowered to fit.
    #[must_use]
    pub fn native_buckets(mut self, native_buckets: usize) -> Self {
        self.setting("native_buckets");
        self.native_buckets = native_buckets.max(1);
        self
    }

    /// Sets the number of shared shards of a series, rounded up to a power of two of at most 16. By default the number of
    /// cores.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.setting("shards");
        self.shards = shard::clamp_count(shards);
        self
    }

    /// Adds a label to every series. A series of a collector that has a label of this name keeps its own.
    #[must_use]
    pub fn constant_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.setting("constant_label");
        self.settings
            .constant_labels
            .push((name.into(), value.into()));
        self
    }

    /// Sets a callback for the first time that a family exceeds its budget. It receives the name of the family.
    #[must_use]
    pub fn on_overflow(mut self, on_overflow: fn(family: &str)) -> Self {
        self.setting("on_overflow");
        self.settings.on_overflow = Some(on_overflow);
        self
    }

    /// Sets whether OpenMetrics has a `_created` sample for each counter and histogram: when the series was created. Off by
    /// default: a Prometheus without the feature flag `created-timestamp-zero-ingestion` stores each as a series of its own.
    /// Protobuf always has these times, in a field.
    #[must_use]
    pub fn created(mut self, created: bool) -> Self {
        self.created = created;
        self
    }

    /// Sets a callback for faults of collectors. It receives the name of the collector and the fault, once for each family and
    /// kind of fault.
    #[must_use]
    pub fn on_fault(mut self, on_fault: fn(collector: &str, fault: &Fault)) -> Self {
        self.on_fault = Some(on_fault);
        self
    }

    /// Sets the source of the current span, for histograms that are declared after this call. An observation without a span
    /// takes its exemplar from there.
    pub fn current_span(&mut self, current_span: fn() -> Option<SpanContext>) {
        self.current_span = Some(current_span);
    }

    /// Declares a counter of whole numbers.
    pub fn counter<D: FamilyDescriptor>(&mut self, descriptor: D) -> D::Declared<Counter> {
        let shards = self.shards;
        self.declare(descriptor, MetricKind::Counter, move |_| {
            move || Counter::new(shards)
        })
    }

    /// Declares a counter of floats.
    pub fn float_counter<D: FamilyDescriptor>(
        &mut self,
        descriptor: D,
    ) -> D::Declared<FloatCounter> {
        let shards = self.shards;
        self.declare(descriptor, MetricKind::Counter, move |_| {
            move || FloatCounter::new(shards)
        })
    }

    /// Declares a gauge of whole numbers.
    pub fn gauge<D: FamilyDescriptor>(&mut self, descriptor: D) -> D::Declared<Gauge> {
        self.declare(descriptor, MetricKind::Gauge, |_| Gauge::new)
    }

    /// Declares a gauge of floats.
    pub fn float_gauge<D: FamilyDescriptor>(&mut self, descriptor: D) -> D::Declared<FloatGauge> {
        self.declare(descriptor, MetricKind::Gauge, |_| FloatGauge::new)
    }

    /// Declares a histogram with these classic upper bounds, positive and ascending, and with native buckets.
    pub fn histogram<D: FamilyDescriptor>(
        &mut self,
        descriptor: D,
        buckets: &[f64],
    ) -> D::Declared<Histogram> {
        let usable = buckets
            .iter()
            .all(|bound| bound.is_finite() && *bound >= 0.0);
        let valid = usable && buckets.is_sorted_by(|a, b| a < b);
        let own = self.own();
        let (native_buckets, shards) = (self.native_buckets, self.shards);
        let (clock, current_span) = (self.settings.clock, self.current_span);
        let mut invalid = None;
        let family = self.declare(descriptor, MetricKind::Histogram, |name| {
            if !valid {
                invalid = Some(RegistryError::InvalidBuckets(name.to_owned()));
            }
            let layout = Arc::new(HistogramLayout {
                bounds: Bounds::new(buckets),
                search: BucketSearch::new(buckets),
                native_buckets,
                shards,
                clock,
                current_span,
                dropped: own.dropped.series([&Escaping::default().metric_name(name)]),
            });
            move || Histogram::new(Arc::clone(&layout))
        });
        if let Some(error) = invalid {
            self.fail(error);
        }
        family
    }

    /// Builds the registry, or returns the first error of a setting or a family.
    pub fn build(mut self) -> Result<Registry, RegistryError> {
        let own = self.own();
        for exposed in own.exposed() {
            let description = &exposed.header().description;
            self.check_constant_labels(description);
            self.claim(description);
            self.families.push(exposed);
        }
        if let Some(error) = self.error {
            return Err(error);
        }
        let embedded = prometheus::Registry::new();
        let mut claimed = TakenNames::default();
        for family in &self.families {
            claimed.take(&family.header().description);
        }
        let last = Arc::new(Embedded::new(embedded.clone()));
        let inner = RegistryInner {
            families: self.families,
            claimed,
            created: self.created,
            collectors: RwLock::default(),
            last: Registered::new(last, &own.collector_errors, self.on_fault),
            on_fault: self.on_fault,
            embedded,
            errors: own.collector_errors,
            constant_labels: self.settings.constant_labels,
        };
        Ok(Registry {
            inner: Arc::new(inner),
        })
    }

    /// Declares a family. `make` gets its name, and returns what makes its instruments.
    fn declare<D: FamilyDescriptor, M: Instrument, F: Fn() -> M + Send + Sync + 'static>(
        &mut self,
        descriptor: D,
        kind: MetricKind,
        make: impl FnOnce(&str) -> F,
    ) -> D::Declared<M> {
        let own = self.own();
        let (head, labels) = descriptor.into_parts();
        let description = head.describe(kind, &labels);
        if let Err(error) = description.validate() {
            self.fail(error);
        }
        self.check_constant_labels(&description);
        self.claim(&description);
        // A value cannot be escaped for each scraper: it is the name that every scraper knows.
        let value = Escaping::default().metric_name(&head.name);
        let meters = Meters {
            series: own.series.series([&value]),
            overflow: own.overflow.series([&value]),
        };
        let mut settings = self.settings.clone();
        if let Some(max_series) = head.max_series {
            settings.max_series = max_series;
        }
        settings.omits_empty = head.omits_empty;
        let make = make(&head.name);
        let core = Core::new(
            Header::new(description),
            settings,
            meters,
            labels.is_empty(),
            make,
        );
        let exposed: Arc<Core<M>> = Arc::clone(&core);
        self.families.push(exposed);
        D::family(&labels, core)
    }

    /// The registry's own families. They are declared with the first family, when all settings are known.
    fn own(&mut self) -> RegistryFamilies {
        self.own
            .get_or_insert_with(|| RegistryFamilies::new(&self.settings, self.shards))
            .clone()
    }

    fn setting(&mut self, name: &'static str) {
        if self.own.is_some() {
            self.fail(RegistryError::LateSetting(name));
        }
    }

    fn fail(&mut self, error: RegistryError) {
        self.error.get_or_insert(error);
    }

    /// Checks the constant labels with those of a family: names are valid, and none comes twice.
    fn check_constant_labels(&mut self, family: &FamilyDescription) {
        let constant = self
            .settings
            .constant_labels
            .iter()
            .map(|(name, _)| name.clone());
        let mut labels: Vec<_> = constant.collect();
        // Only names that every scraper knows: otherwise each series would have to be rendered for each scrape.
        if let Some(name) = labels.iter().find(|name| !label::is_label_name(name)) {
            let (family, label) = (family.name.clone(), name.clone());
            return self.fail(RegistryError::InvalidLabel { family, label });
        }
        labels.extend_from_slice(&family.labels);
        let whole = FamilyDescription {
            labels,
            ..family.clone()
        };
        if let Err(error) = whole.validate() {
            self.fail(error);
        }
    }

    fn claim(&mut self, family: &FamilyDescription) {
        for sample in family.sample_names() {
            if self.claimed.contains(&sample) {
                let family = family.name.clone();
                return self.fail(RegistryError::DuplicateFamily { family, sample });
            }
            self.claimed.insert(sample);
        }
    }
}

impl fmt::Debug for RegistryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryBuilder")
            .field("settings", &self.settings)
            .field("families", &self.families.len())
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

/// All families and collectors, and their expositions. Cheap to clone.
///
/// The [crate's page](crate) has an example.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<RegistryInner>,
}

struct RegistryInner {
    families: Vec<Arc<dyn Exposed>>,
    claimed: TakenNames,
    created: bool,
    on_fault: Option<OnFault>,
    collectors: RwLock<Vec<Registered>>,
    embedded: prometheus::Registry,
    /// The embedded registry as a collector, the last of all.
    last: Registered,
    errors: Family<Counter, 1>,
    /// The labels that the rows of collectors get.
    constant_labels: Vec<(String, String)>,
}

/// A collector as it was registered. Cheap to clone.
#[derive(Clone)]
struct Registered {
    collector: Arc<dyn Collector>,
    name: &'static str,
    /// The families that [`Registry::read_levels`] may ask for, as the collector described them when it was registered.
    levels: Arc<[String]>,
    errors: Arc<Counter>,
    reported: Arc<Reported>,
    on_fault: Option<OnFault>,
}

impl Registered {
    /// Calls the collector for its name and its families. A panic of the latter is caught and reported.
    fn new(
        collector: Arc<dyn Collector>,
        errors: &Family<Counter, 1>,
        on_fault: Option<OnFault>,
    ) -> Self {
        let name = collector.name();
        let mut registered = Self {
            errors: errors.series([name]),
            collector,
            name,
            levels: Arc::default(),
            reported: Arc::default(),
            on_fault,
        };
        match collector::describe(&*registered.collector) {
            Ok(families) if registered.collector.is_cheap() => {
                registered.levels = families.into_iter().map(|family| family.name).collect();
            }
            Ok(_) => {}
            Err(fault) => registered.report(vec![fault]),
        }
        registered
    }

    /// Counts a faulty reading, and reports the faults that are new. Call it after each reading.
    fn report(&self, faults: Vec<Fault>) {
        if faults.iter().any(|fault| fault.kind().is_error()) {
            self.errors.inc();
        }
        let new = self.reported.only_new(faults);
        if let Some(on_fault) = self.on_fault {
            for fault in &new {
                on_fault(self.name, fault);
            }
        }
    }

    /// The families as the collector describes them now; none if it panics.
    fn describe(&self) -> Vec<FamilyDescription> {
        collector::describe(&*self.collector).unwrap_or_default()
    }
}

/// A registered collector, which may be read on any thread.
///
/// ```
/// use std::time::Duration;
/// use vitals_registry::{Collected, Format, NameFilter, Registry, Source};
///
/// let registry = Registry::builder(|| Duration::ZERO).build()?;
/// let rows: Vec<Collected> = registry.sources().iter().map(Source::read).collect();
/// let scrape = registry.scrape_collected(Format::Text, &NameFilter::all(), &rows);
/// assert_eq!(scrape.format(), Format::Text);
/// # Ok::<(), vitals_registry::RegistryError>(())
/// ```
#[derive(Clone)]
pub struct Source(Registered);

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.name()).finish()
    }
}

impl Source {
    /// The name of the collector; unique in its registry.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Reads the collector. A panic of the collector is caught.
    pub fn read(&self) -> Collected {
        let mut rows = Vec::new();
        let fault = collector::read(&*self.0.collector, &mut rows).err();
        Collected {
            source: self.clone(),
            rows,
            fault,
        }
    }

    /// Returns no rows, for a collector that does not return in time. Counts as an error of the collector.
    pub fn skip(&self) -> Collected {
        Collected {
            source: self.clone(),
            rows: Vec::new(),
            fault: Some(Fault::of_collector(FaultKind::Hanging)),
        }
    }
}

/// The rows that one collector returned. [`Source`] has an example.
#[derive(Debug)]
pub struct Collected {
    source: Source,
    rows: Vec<FamilyRows>,
    /// The reason why rows are missing: the collector failed, panicked, or was skipped.
    fault: Option<Fault>,
}

impl Collected {
    /// The name of the collector.
    pub fn name(&self) -> &'static str {
        self.source.name()
    }
}

/// Whether `name` is this name of a family, as it is or with underscores.
fn is_same_name(family: &str, name: &str) -> bool {
    family == name
        || !label::is_metric_name(family) && Escaping::default().metric_name(family) == name
}

impl Registry {
    /// Starts a registry that takes the time from `clock`.
    pub fn builder(clock: Clock) -> RegistryBuilder {
        RegistryBuilder {
            settings: FamilySettings {
                clock,
                max_series: DEFAULT_MAX_SERIES,
                constant_labels: Vec::new(),
                on_overflow: None,
                omits_empty: false,
            },
            native_buckets: DEFAULT_NATIVE_BUCKETS,
            shards: shard::default_count(),
            own: None,
            families: Vec::new(),
            claimed: HashSet::new(),
            created: false,
            current_span: None,
            on_fault: None,
            error: None,
        }
    }

    /// The embedded registry of the `prometheus` crate. Its collectors count as one, named `prometheus`, in
    /// `vitals_collector_errors_total`: if one panics, the rows of all are missing.
    /// [`register_prometheus`](Self::register_prometheus) isolates a collector.
    pub fn prometheus(&self) -> &prometheus::Registry {
        &self.inner.embedded
    }

    /// Adds a collector, which every scrape reads.
    pub fn register(&self, collector: impl Collector) -> Result<(), RegistryError> {
        self.add(Arc::new(collector))
    }

    /// Adds a collector of the `prometheus` crate, isolated from all others.
    pub fn register_prometheus(
        &self,
        name: &'static str,
        collector: Box<dyn prometheus::core::Collector>,
    ) -> Result<(), RegistryError> {
        self.add(Arc::new(Foreign::new(name, collector)))
    }

    fn add(&self, collector: Arc<dyn Collector>) -> Result<(), RegistryError> {
        let name = collector.name();
        let is_known = |known: &[Registered]| {
            let mut known = known.iter().chain([&self.inner.last]);
            known.any(|known| known.name == name)
        };
        let duplicate = || Err(RegistryError::DuplicateCollector(name.to_owned()));
        if is_known(&self.collectors()) {
            return duplicate();
        }
        // Before the lock is taken: this runs the collector's code.
        let registered = Registered::new(collector, &self.inner.errors, self.inner.on_fault);
        let mut collectors =
            (self.inner.collectors.write()).unwrap_or_else(PoisonError::into_inner);
        if is_known(&collectors) {
            return duplicate();
        }
        collectors.push(registered);
        Ok(())
    }

    fn collectors(&self) -> Vec<Registered> {
        let collectors = (self.inner.collectors.read()).unwrap_or_else(PoisonError::into_inner);
        collectors
            .iter()
            .chain([&self.inner.last])
            .cloned()
            .collect()
    }

    /// The descriptions of all families, in the order of an exposition. No collector is read: the type of a family of the
    /// `prometheus` crate is known after the first scrape, and so are all families of the embedded registry.
    pub fn describe(&self) -> Vec<FamilyDescription> {
        let own = self.inner.families.iter();
        own.map(|family| family.header().description.clone())
            .chain(self.collectors().iter().flat_map(Registered::describe))
            .collect()
    }

    /// Returns the declared family of this name, if its instrument is `M` and it shows `N` labels. A counter goes by its full
    /// name. A name in UTF-8 may be given with underscores, as scrapers get it that do not allow UTF-8.
    ///
    /// ```
    /// use std::time::Duration;
    /// use vitals_registry::{Counter, Descriptor, Registry};
    ///
    /// let mut registry = Registry::builder(|| Duration::ZERO);
    /// registry.counter(Descriptor::new("jobs_total", "Jobs that ended.", ["outcome"]));
    /// let registry = registry.build()?;
    /// let jobs = registry.family::<Counter, 1>("jobs_total");
    /// assert_eq!(jobs.map(|jobs| jobs.series(["ok"]).value()), Some(0));
    /// # Ok::<(), vitals_registry::RegistryError>(())
    /// ```
    pub fn family<M: Send + Sync + 'static, const N: usize>(
        &self,
        name: &str,
    ) -> Option<Family<M, N>> {
        let named = (self.inner.families.iter())
            .find(|family| is_same_name(family.header().name(), name))?;
        let named: Arc<dyn Any + Send + Sync> = Arc::clone(named) as _;
        let core = named.downcast::<Core<M>>().ok()?;
        (core.labels().len() == N).then(|| Family::of(core, [true; N]))
    }

    /// Returns the sum of a declared family's series that have all of these labels, as pairs of a name and a value.
    ///
    /// `sample` is the name of a counter or gauge, or that of a histogram followed by `_count` or `_sum`. Names in UTF-8 may
    /// be given with underscores, as scrapers get them that do not allow UTF-8. Returns `None` if no declared family has such
    /// a sample, or if the family has no label of a name.
    ///
    /// ```
    /// use std::time::Duration;
    /// use vitals_registry::{Descriptor, Registry};
    ///
    /// let mut registry = Registry::builder(|| Duration::ZERO);
    /// let jobs = registry.counter(Descriptor::new("jobs_total", "Jobs.", ["name", "outcome"]));
    /// jobs.series(["export", "ok"]).add(3);
    /// jobs.series(["import", "ok"]).add(1);
    /// let registry = registry.build()?;
    /// assert_eq!(registry.value("jobs_total", &[("outcome", "ok")]), Some(4.0));
    /// assert_eq!(registry.value("jobs_total", &[("name", "import")]), Some(1.0));
    /// assert_eq!(registry.value("jobs_total", &[("color", "red")]), None);
    /// # Ok::<(), vitals_registry::RegistryError>(())
    /// ```
    pub fn value(&self, sample: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let families = &self.inner.families;
        let (family, part) = families.iter().find_map(|family| {
            let description = &family.header().description;
            let parts = if description.kind == MetricKind::Histogram {
                &[("_count", Sample::Count), ("_sum", Sample::Sum)][..]
            } else {
                &[("", Sample::Value)]
            };
            let (_, part) = parts.iter().find(|(suffix, _)| {
                let name = sample.strip_suffix(suffix);
                name.is_some_and(|name| is_same_name(&description.name, name))
            })?;
            Some((family, *part))
        })?;
        let names = &family.header().description.labels;
        let is_label = |own: &str, name: &str| {
            own == name || !label::is_label_name(own) && Escaping::default().label_name(own) == name
        };
        let position = |name: &str| names.iter().position(|own| is_label(own, name));
        let values: Option<Vec<_>> = (labels.iter())
            .map(|(name, value)| Some((position(name)?, *value)))
            .collect();
        Some(family.sum(part, &values?))
    }

    /// Returns the current value of each named counter or gauge that a collector reports, as the sum of its series. The
    /// value is `None` if no collector reports the name. Only [cheap](Collector::is_cheap) collectors that described
    /// one of the names when they were registered are read. A collector that fails or panics is counted, as in a
    /// scrape.
    pub fn read_levels<const N: usize>(&self, names: [&str; N]) -> [Option<f64>; N] {
        let collectors = (self.inner.collectors.read())
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut rows = Vec::new();
        for registered in collectors {
            let wanted = |family: &String| names.contains(&family.as_str());
            if registered.levels.iter().any(wanted) {
                let read = collector::read_levels(&*registered.collector, &names, &mut rows);
                if let Err(fault) = read {
                    registered.report(vec![fault]);
                }
            }
        }
        names.map(|name| {
            let family = rows.iter().find(|family| family.name() == name)?;
            family.sum()
        })
    }

    /// Reads the collectors, and starts an exposition of the families that `names` shows.
    pub fn scrape(&self, media: impl Into<MediaType>, names: &NameFilter) -> Scrape {
        let collected: Vec<Collected> = self.sources().iter().map(Source::read).collect();
        self.scrape_collected(media, names, &collected)
    }

    /// The collectors to read for an exposition, in their order.
    pub fn sources(&self) -> Vec<Source> {
        self.collectors().into_iter().map(Source).collect()
    }

    /// Starts an exposition of the families that `names` shows, with rows that were read before. Several expositions may
    /// share them.
    pub fn scrape_collected(
        &self,
        media: impl Into<MediaType>,
        names: &NameFilter,
        collected: &[Collected],
    ) -> Scrape {
        let media = media.into();
        Scrape::new(
            media,
            self.inner.created,
            self.exposed(media.format(), names, collected),
        )
    }

    /// The families that `names` shows, with the rows of `collected` as far as `format` can hold them.
    fn exposed(
        &self,
        format: Format,
        names: &NameFilter,
        collected: &[Collected],
    ) -> Vec<Arc<dyn Exposed>> {
        let mut claimed = self.inner.claimed.clone();
        let mut bridged: Vec<Arc<dyn Exposed>> = Vec::new();
        let constant = &self.inner.constant_labels;
        for Collected {
            source,
            rows,
            fault,
        } in collected
        {
            let gathered = collector::bridge(rows, constant, format, &mut claimed);
            source
                .0
                .report(fault.iter().cloned().chain(gathered.faults).collect());
            for family in gathered.families {
                bridged.push(Arc::new(family));
            }
        }
        let families = self.inner.families.iter().cloned().chain(bridged);
        families
            .filter(|family| names.shows(family.header()))
            .collect()
    }

    /// Returns a whole exposition of all families.
    pub fn encode(&self, media: impl Into<MediaType>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut scrape = self.scrape(media, &NameFilter::all());
        while scrape.next_chunk(&mut out) {}
        out
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("families", &self.inner.families.len())
            .field("collectors", &self.collectors().len())
            .finish_non_exhaustive()
    }
}
