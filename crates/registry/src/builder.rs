//! The builder of a registry: its settings, and the declaration of families.
//!
//! Families are declared before the registry is built, so that they have one fixed order. The first setting or family that is
//! not valid becomes the error of [`RegistryBuilder::build`], so that declarations need no checks of their own.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, RwLock};

use super::classic::BucketSearch;
use super::collector::{Embedded, Fault, TakenNames};
use super::counter::{Counter, FloatCounter};
use super::descriptor::{FamilyDescription, FamilyDescriptor, MetricKind, RegistryError};
use super::escaping::Escaping;
use super::exemplar::SpanContext;
use super::exposition::{Bounds, Header};
use super::family::{Core, Exposed, FamilySettings, Instrument, Meters};
use super::gauge::{FloatGauge, Gauge};
use super::histogram::{Histogram, HistogramLayout};
use super::own_families::OwnFamilies;
use super::registry::{Registry, RegistryInner};
use super::source::{OnFault, Registered};
use super::time::Clock;
use super::{label, shard};

/// The most series of a family by default.
const DEFAULT_MAX_SERIES: usize = 2000;
/// The most native buckets that are exposed of a histogram by default.
pub(super) const DEFAULT_NATIVE_BUCKETS: usize = 160;

/// Declares the families of a registry. Settings come before the first family.
///
/// The [crate's page](crate) has an example.
pub struct RegistryBuilder {
    settings: FamilySettings,
    native_buckets: usize,
    shards: usize,
    own: Option<OwnFamilies>,
    families: Vec<Arc<dyn Exposed>>,
    /// The sample names that the families write.
    claimed: HashSet<String>,
    created: bool,
    current_span: Option<fn() -> Option<SpanContext>>,
    on_fault: Option<OnFault>,
    /// The first error.
    error: Option<RegistryError>,
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
    fn own(&mut self) -> OwnFamilies {
        self.own
            .get_or_insert_with(|| OwnFamilies::new(&self.settings, self.shards))
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
