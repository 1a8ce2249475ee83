//! The collectors of a registry, as they were registered, and the rows that they have returned.
//!
//! A [`Source`] can be read on any thread, and the [`Collected`] rows of all sources can be written by several expositions.
//! What a collector did wrong is counted and reported here, when its rows are written.

use std::fmt;
use std::sync::Arc;

use super::collector::{self, Collector, Fault, FaultKind, Reported};
use super::counter::Counter;
use super::descriptor::FamilyDescription;
use super::family::Family;
use super::row::FamilyRows;

/// A callback that receives the name of a collector and its fault.
pub(super) type OnFault = fn(collector: &str, fault: &Fault);

/// A collector as it was registered. Cheap to clone.
#[derive(Clone)]
pub(super) struct Registered {
    pub(super) collector: Arc<dyn Collector>,
    pub(super) name: &'static str,
    /// The families that [`read_levels`](super::Registry::read_levels) may ask for, as the collector described them when it was
    /// registered.
    pub(super) levels: Arc<[String]>,
    errors: Arc<Counter>,
    reported: Arc<Reported>,
    on_fault: Option<OnFault>,
}

impl Registered {
    /// Calls the collector for its name and its families. A panic of the latter is caught and reported.
    pub(super) fn new(
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
    pub(super) fn report(&self, faults: Vec<Fault>) {
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
    pub(super) fn describe(&self) -> Vec<FamilyDescription> {
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
pub struct Source(pub(super) Registered);

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
    pub(super) source: Source,
    pub(super) rows: Vec<FamilyRows>,
    /// The reason why rows are missing: the collector failed, panicked, or was skipped.
    pub(super) fault: Option<Fault>,
}

impl Collected {
    /// The name of the collector.
    pub fn name(&self) -> &'static str {
        self.source.name()
    }
}
