//! Collectors: sources of rows that are read at scrape time.
//!
//! - `foreign`: converts collectors of the `prometheus` crate
//! - `bridge`: leaves out what a format cannot hold, so that every exposition is valid
//! - `fault`: what was left out, and why
//!
//! A collector that fails or panics does not affect the rows of another.

mod bridge;
mod fault;
mod foreign;

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::descriptor::FamilyDescription;
use super::negotiate::Format;
use super::row::FamilyRows;
use bridge::{Bridged, MergedFamily};

pub(crate) use fault::Reported;
pub use fault::{Fault, FaultKind};
#[cfg(test)]
pub(crate) use foreign::convert;
pub(crate) use foreign::{Embedded, Foreign};

/// A source of rows that are read at scrape time.
///
/// ```
/// use std::{error::Error, time::Duration};
/// use vitals_registry::{Collector, FamilyDescription, FamilyRows, Format, ReadFamily, Registry, Unit};
///
/// const FREE: ReadFamily = ReadFamily::gauge("disk_free_bytes", Unit::Bytes, "Free space.");
///
/// struct Disk;
///
/// impl Collector for Disk {
///     fn name(&self) -> &'static str {
///         "disk"
///     }
///
///     fn describe(&self) -> Vec<FamilyDescription> {
///         vec![FREE.describe()]
///     }
///
///     fn collect(&self, rows: &mut Vec<FamilyRows>) -> Result<(), Box<dyn Error + Send + Sync>> {
///         rows.push(FREE.single(1024.0));
///         Ok(())
///     }
/// }
///
/// let registry = Registry::builder(|| Duration::ZERO).build()?;
/// registry.register(Disk)?;
/// let text = String::from_utf8_lossy(&registry.encode(Format::Text)).into_owned();
/// assert!(text.ends_with("disk_free_bytes 1024\n"));
/// # Ok::<(), vitals_registry::RegistryError>(())
/// ```
pub trait Collector: Send + Sync + 'static {
    /// The value of the `collector` label in `vitals_collector_errors_total`; unique in a registry.
    fn name(&self) -> &'static str;

    /// The families that the collector may return, for documentation. It must not read them.
    fn describe(&self) -> Vec<FamilyDescription>;

    /// Whether [`Registry::read_levels`](super::Registry::read_levels) may read the collector every second. By default only
    /// scrapes read it.
    fn is_cheap(&self) -> bool {
        false
    }

    /// Appends the current rows, on a thread that may block.
    ///
    /// A scrape whose time is over continues without these rows, and later scrapes skip the collector until it has
    /// returned. Each time counts as one error.
    ///
    /// # Errors
    ///
    /// After an error, the rows that were appended before are exposed. After a panic they are not. Either counts as one
    /// error, and is reported once until the collector has been read without one.
    fn collect(&self, rows: &mut Vec<FamilyRows>) -> Result<(), Box<dyn Error + Send + Sync>>;

    /// Appends at least the rows of the families with these names, for [`Registry::read_levels`](super::Registry::read_levels).
    /// By default, all rows: another implementation may leave out what takes time. Errors are those of [`Self::collect`].
    fn collect_levels(
        &self,
        names: &[&str],
        rows: &mut Vec<FamilyRows>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let _ = names;
        self.collect(rows)
    }
}

/// The rows of one collector, in the form that an exposition writes.
pub(crate) struct Gathered {
    pub(crate) families: Vec<Bridged>,
    pub(crate) faults: Vec<Fault>,
}

/// Appends the rows that a collector returns, or returns its fault. After a panic, nothing is appended.
pub(crate) fn read(collector: &dyn Collector, rows: &mut Vec<FamilyRows>) -> Result<(), Fault> {
    guard(rows, |rows| collector.collect(rows))
}

/// The same for the levels with these names.
pub(crate) fn read_levels(
    collector: &dyn Collector,
    names: &[&str],
    rows: &mut Vec<FamilyRows>,
) -> Result<(), Fault> {
    guard(rows, |rows| collector.collect_levels(names, rows))
}

fn guard(
    rows: &mut Vec<FamilyRows>,
    collect: impl FnOnce(&mut Vec<FamilyRows>) -> Result<(), Box<dyn Error + Send + Sync>>,
) -> Result<(), Fault> {
    let before = rows.len();
    let outcome = catch_unwind(AssertUnwindSafe(|| collect(rows)));
    let outcome = outcome.map_err(|_| {
        rows.truncate(before);
        Fault::of_collector(FaultKind::Panicked)
    });
    outcome?.map_err(|error| Fault::failed(&error))
}

/// Returns the descriptions of a collector's families, or the fault if it panics.
pub(crate) fn describe(collector: &dyn Collector) -> Result<Vec<FamilyDescription>, Fault> {
    catch_unwind(AssertUnwindSafe(|| collector.describe()))
        .map_err(|_| Fault::of_collector(FaultKind::PanickedDescribing))
}

/// The sample names that are taken. The first family to claim a name has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct TakenNames {
    /// In text and protobuf.
    plain: HashSet<String>,
    /// In OpenMetrics, where a counter's family goes without `_total`.
    openmetrics: HashSet<String>,
}

impl TakenNames {
    /// Takes the names of a family, or returns the fault if one of them is taken.
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

    /// Takes the names of a family in all formats.
    pub(crate) fn take(&mut self, family: &FamilyDescription) {
        self.plain.extend(family.plain_sample_names());
        self.openmetrics.extend(family.sample_names());
    }
}

/// Returns what `format` can hold of the rows of one collector, without families whose names are `taken`. Each series gets
/// the labels in `constant` that it does not have.
pub(crate) fn bridge(
    rows: &[FamilyRows],
    constant: &[(String, String)],
    format: Format,
    taken: &mut TakenNames,
) -> Gathered {
    let mut faults = Vec::new();
    let mut families = Vec::new();
    for row in merge(rows, &mut faults) {
        let name = row.description.name.clone();
        // A counter `_total` would have no name in OpenMetrics.
        let claim = if row.description.base().is_empty() {
            Err(FaultKind::InvalidName)
        } else {
            taken.claim(&row.description, format)
        };
        match claim {
            Ok(()) => families.extend(row.bridge(constant, format, &mut faults)),
            Err(kind) => faults.push(Fault::of_family(&name, kind)),
        }
    }
    Gathered { families, faults }
}

/// Merges the rows by name: a collector may return a family in several parts.
fn merge<'a>(rows: &'a [FamilyRows], faults: &mut Vec<Fault>) -> Vec<MergedFamily<'a>> {
    let mut merged: Vec<MergedFamily<'a>> = Vec::with_capacity(rows.len());
    let mut positions = HashMap::new();
    for row in rows.iter().filter(|row| !row.is_empty()) {
        let position = *positions.entry(row.name()).or_insert(merged.len());
        let Some(whole) = merged.get_mut(position) else {
            merged.push(MergedFamily {
                description: row.head(),
                series: row.series.iter().collect(),
            });
            continue;
        };
        if whole.description.kind == row.kind {
            whole.series.extend(&row.series);
        } else {
            faults.push(Fault::of_family(row.name(), FaultKind::NameTaken));
        }
    }
    merged
}
