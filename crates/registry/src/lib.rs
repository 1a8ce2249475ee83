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

mod builder;
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
mod own_families;
mod protobuf;
mod registry;
mod row;
mod scrape;
mod shard;
mod source;
pub mod sparse;
#[cfg(test)]
mod tests;
mod text;
mod time;
mod visit;

pub use builder::RegistryBuilder;
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
pub use registry::Registry;
pub use row::{FamilyRows, ReadFamily, RowValue};
pub use scrape::{NameFilter, Scrape};
pub use source::{Collected, Source};
pub use time::Clock;
pub use visit::{
    VisitedBuckets, VisitedExemplar, VisitedHistogram, VisitedLabels, VisitedSeries, VisitedValue,
    Visitor,
};
