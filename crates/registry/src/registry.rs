//! The registry: all families and collectors, what can be asked of them, and their expositions.
//!
//! Declared families never change; collectors are added at any time. A scrape reads the collectors first, without a lock of
//! the registry, and then writes all families in one fixed order.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use super::collector::{self, Collector, Foreign, TakenNames};
use super::counter::Counter;
use super::descriptor::{FamilyDescription, MetricKind, RegistryError};
use super::escaping::Escaping;
use super::family::{Core, Exposed, Family, Sample};
use super::label;
use super::negotiate::{Format, MediaType};
use super::scrape::{NameFilter, Scrape};
use super::source::{Collected, OnFault, Registered, Source};

/// All families and collectors, and their expositions. Cheap to clone.
///
/// The [crate's page](crate) has an example.
#[derive(Clone)]
pub struct Registry {
    pub(super) inner: Arc<RegistryInner>,
}

pub(super) struct RegistryInner {
    /// The declared families, the registry's own last.
    pub(super) families: Vec<Arc<dyn Exposed>>,
    /// The names of their samples, which no row of a collector may have.
    pub(super) claimed: TakenNames,
    pub(super) created: bool,
    pub(super) on_fault: Option<OnFault>,
    pub(super) collectors: RwLock<Vec<Registered>>,
    pub(super) embedded: prometheus::Registry,
    /// The embedded registry as a collector, the last of all.
    pub(super) last: Registered,
    pub(super) errors: Family<Counter, 1>,
    /// The labels that the rows of collectors get.
    pub(super) constant_labels: Vec<(String, String)>,
}

impl Registry {
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
    pub(super) fn exposed(
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

/// Whether `name` is this name of a family, as it is or with underscores.
fn is_same_name(family: &str, name: &str) -> bool {
    family == name
        || !label::is_metric_name(family) && Escaping::default().metric_name(family) == name
}
