//! Collectors: rows that are read at scrape time from somewhere else.
//!
//! Whatever a collector returns, the exposition stays valid: `bridge` leaves out what a format cannot hold, and a `fault`
//! says what that was. One collector never costs another's rows.

mod bridge;
mod fault;

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::ops::Add;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use prometheus::proto::{self, MetricType};

use super::descriptor::{FamilyDescription, Kind, Unit};
use super::label::is_metric_name;
use super::negotiate::Format;
#[allow(
    unused_imports,
    reason = "used with one of the two models of the `prometheus` crate"
)]
use bridge::Scalar as _;
use bridge::{Bridged, Row};

pub(crate) use fault::Reported;
pub use fault::{Fault, FaultKind};

/// A source of rows that are read at scrape time.
pub trait Collector: Send + Sync + 'static {
    /// The value of the `collector` label in `vitals_collector_errors_total`; unique in a registry.
    fn name(&self) -> &'static str;

    /// The families that rows may come in, for documentation. Must not read them.
    fn describe(&self) -> Vec<FamilyDescription>;

    /// Whether reading is so cheap that [`Registry::read_levels`](super::Registry::read_levels) may do so every second.
    /// By default it is not, and a scrape alone reads the rows.
    fn is_cheap(&self) -> bool {
        false
    }

    /// Reads the rows of this moment, on a thread that may block.
    ///
    /// A scrape that gets tired of waiting goes on without these rows, and later ones skip this collector until it has
    /// returned; each time counts as one error.
    ///
    /// Where this errs, the rows pushed before are exposed nevertheless; where it panics, they are not. Either counts
    /// as one error, and is reported once until the collector has been read without one.
    fn collect(
        &self,
        rows: &mut Vec<proto::MetricFamily>,
    ) -> Result<(), Box<dyn Error + Send + Sync>>;
}

/// The families that a collector returned last: what is known of those that do not describe themselves.
#[derive(Debug, Default)]
struct Seen(Mutex<Vec<FamilyDescription>>);

impl Seen {
    /// Remembers the families of `rows`.
    fn remember(&self, rows: &[proto::MetricFamily]) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.len() == rows.len()
            && (seen.iter().zip(rows))
                .all(|(seen, row)| seen.name == row.name() && seen.kind == kind_of(row));
        if !known {
            *seen = describe_rows(rows);
        }
    }

    fn describe(&self) -> Vec<FamilyDescription> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A collector of the `prometheus` crate under a name of its own.
pub(crate) struct Foreign {
    name: &'static str,
    collector: Box<dyn prometheus::core::Collector>,
    seen: Seen,
}

impl Foreign {
    pub(crate) fn new(name: &'static str, collector: Box<dyn prometheus::core::Collector>) -> Self {
        Self {
            name,
            collector,
            seen: Seen::default(),
        }
    }
}

impl Collector for Foreign {
    fn name(&self) -> &'static str {
        self.name
    }

    /// By the collector's own descriptions, which do not say of what type a family is: that is known once it was read.
    fn describe(&self) -> Vec<FamilyDescription> {
        let seen = self.seen.describe();
        let describe = |desc: &prometheus::core::Desc| {
            let seen = seen.iter().find(|seen| seen.name == desc.fq_name);
            let mut family = seen.cloned().unwrap_or_else(|| FamilyDescription {
                name: desc.fq_name.clone(),
                kind: Kind::Unknown,
                unit: Unit::of_name(&desc.fq_name),
                help: desc.help.clone(),
                labels: Vec::new(),
            });
            family.labels.clone_from(&desc.variable_labels);
            family
        };
        self.collector.desc().into_iter().map(describe).collect()
    }

    fn collect(
        &self,
        rows: &mut Vec<proto::MetricFamily>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let collected = self.collector.collect();
        self.seen.remember(&collected);
        rows.extend(collected);
        Ok(())
    }
}

/// An embedded registry of the `prometheus` crate.
pub(crate) struct Embedded {
    registry: prometheus::Registry,
    seen: Seen,
}

impl Embedded {
    pub(crate) fn new(registry: prometheus::Registry) -> Self {
        Self {
            registry,
            seen: Seen::default(),
        }
    }
}

impl Collector for Embedded {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    /// The descriptions from the last scrape: the registry has no newer ones without collecting.
    fn describe(&self) -> Vec<FamilyDescription> {
        self.seen.describe()
    }

    fn collect(
        &self,
        rows: &mut Vec<proto::MetricFamily>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let gathered = self.registry.gather();
        self.seen.remember(&gathered);
        rows.extend(gathered);
        Ok(())
    }
}

/// Descriptions by the rows themselves, with the labels of the first.
fn describe_rows(rows: &[proto::MetricFamily]) -> Vec<FamilyDescription> {
    rows.iter()
        .map(|row| {
            let labels = row
                .get_metric()
                .first()
                .map_or(&[][..], |metric| metric.get_label());
            FamilyDescription {
                labels: labels.iter().map(|label| label.name().to_owned()).collect(),
                ..describe_row(row)
            }
        })
        .collect()
}

fn kind_of(row: &proto::MetricFamily) -> Kind {
    match row.get_field_type() {
        MetricType::COUNTER => Kind::Counter,
        MetricType::GAUGE => Kind::Gauge,
        MetricType::HISTOGRAM => Kind::Histogram,
        MetricType::SUMMARY => Kind::Summary,
        MetricType::UNTYPED => Kind::Unknown,
    }
}

fn describe_row(row: &proto::MetricFamily) -> FamilyDescription {
    let mut family = FamilyDescription {
        name: row.name().to_owned(),
        kind: kind_of(row),
        unit: Unit::None,
        help: row.help().to_owned(),
        labels: Vec::new(),
    };
    family.unit = Unit::of_name(family.base());
    family
}

/// The rows of one collector, as an exposition shows them.
pub(crate) struct Gathered {
    pub(crate) families: Vec<Bridged>,
    pub(crate) faults: Vec<Fault>,
}

/// Appends the rows that a collector returns, or returns its fault. After a panic, nothing is appended.
pub(crate) fn read(
    collector: &dyn Collector,
    rows: &mut Vec<proto::MetricFamily>,
) -> Result<(), Fault> {
    let before = rows.len();
    let outcome = catch_unwind(AssertUnwindSafe(|| collector.collect(rows)));
    let outcome = outcome.map_err(|_| {
        rows.truncate(before);
        Fault::of_collector(FaultKind::Panicked)
    });
    outcome?.map_err(|error| Fault::failed(&error))
}

/// The descriptions that a collector gives of itself; none where it panics.
pub(crate) fn describe(collector: &dyn Collector) -> Result<Vec<FamilyDescription>, Fault> {
    catch_unwind(AssertUnwindSafe(|| collector.describe()))
        .map_err(|_| Fault::of_collector(FaultKind::PanickedDescribing))
}

/// The sum of a family's series, if it is one of counters or gauges and has any.
pub(crate) fn sum(row: &proto::MetricFamily) -> Option<f64> {
    let series = row.get_metric().iter();
    match row.get_field_type() {
        MetricType::COUNTER => series
            .map(|metric| metric.get_counter().value())
            .reduce(Add::add),
        MetricType::GAUGE => series
            .map(|metric| metric.get_gauge().value())
            .reduce(Add::add),
        _ => None,
    }
}

/// The sample names that are taken. The first family to claim a name has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claimed {
    /// In text and protobuf.
    plain: HashSet<String>,
    /// In OpenMetrics, where a counter's family goes without `_total`.
    openmetrics: HashSet<String>,
}

impl Claimed {
    /// Claims the names of a family; or says why it cannot have them.
    fn claim(&mut self, family: &FamilyDescription, format: Format) -> Result<(), FaultKind> {
        let plain = family.plain_sample_names();
        if plain.iter().any(|name| self.plain.contains(name)) {
            return Err(FaultKind::NameTaken);
        }
        self.plain.extend(plain);
        if format == Format::OpenMetrics {
            let names = family.sample_names();
            if names.iter().any(|name| self.openmetrics.contains(name)) {
                return Err(FaultKind::NameTakenInOpenMetrics);
            }
            self.openmetrics.extend(names);
        }
        Ok(())
    }

    /// Claims the names of a family in all formats.
    pub(crate) fn take(&mut self, family: &FamilyDescription) {
        self.plain.extend(family.plain_sample_names());
        self.openmetrics.extend(family.sample_names());
    }
}

/// Takes what `format` can hold of the rows of one collector, in families whose names are not `claimed`. Each series gets
/// the labels in `constant` that it does not have.
pub(crate) fn bridge(
    rows: &[proto::MetricFamily],
    constant: &[(String, String)],
    format: Format,
    claimed: &mut Claimed,
) -> Gathered {
    let mut faults = Vec::new();
    let mut families = Vec::new();
    for row in merge(rows, &mut faults) {
        let name = row.description.name.clone();
        // A counter `_total` would have no name in OpenMetrics.
        let is_valid = is_metric_name(&name) && is_metric_name(row.description.base());
        let claim = if is_valid {
            claimed.claim(&row.description, format)
        } else {
            Err(FaultKind::InvalidName)
        };
        match claim {
            Ok(()) => families.extend(row.bridge(constant, format, &mut faults)),
            Err(kind) => faults.push(Fault::of_family(&name, kind)),
        }
    }
    Gathered { families, faults }
}

/// One row for each name: a collector may return a family in several parts.
fn merge<'a>(rows: &'a [proto::MetricFamily], faults: &mut Vec<Fault>) -> Vec<Row<'a>> {
    let mut merged: Vec<Row<'a>> = Vec::with_capacity(rows.len());
    let mut places = HashMap::new();
    for row in rows.iter().filter(|row| !row.get_metric().is_empty()) {
        let place = *places.entry(row.name()).or_insert(merged.len());
        let Some(whole) = merged.get_mut(place) else {
            merged.push(Row {
                description: describe_row(row),
                metrics: row.get_metric().iter().collect(),
            });
            continue;
        };
        if whole.description.kind == kind_of(row) {
            whole.metrics.extend(row.get_metric());
        } else {
            faults.push(Fault::of_family(row.name(), FaultKind::NameTaken));
        }
    }
    merged
}
