//! The families of the registry about itself: its series, its overflows, dropped observations and failed collectors.
//!
//! They come last among the declared families. They have no budget of their own and do not count themselves.

use std::sync::Arc;

use super::counter::Counter;
use super::descriptor::sealed::Declare as _;
use super::descriptor::{Descriptor, MetricKind};
use super::exposition::Header;
use super::family::{Core, Exposed, Family, FamilySettings, Meters};
use super::gauge::Gauge;

/// The registry's own families.
#[derive(Clone)]
pub(super) struct OwnFamilies {
    pub(super) series: Family<Gauge, 1>,
    pub(super) overflow: Family<Counter, 1>,
    pub(super) dropped: Family<Counter, 1>,
    pub(super) collector_errors: Family<Counter, 1>,
}

impl OwnFamilies {
    /// Declares them with the settings of all families, but without a budget.
    pub(super) fn new(settings: &FamilySettings, shards: usize) -> Self {
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

    pub(super) fn exposed(&self) -> [Arc<dyn Exposed>; 4] {
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
