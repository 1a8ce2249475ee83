//! What a collector reads, for the tests of collectors.

use std::collections::BTreeMap;

use vitals_registry::{Collector, RowValue};

/// Returns each sample with its labels, as the text format writes them, and its value.
pub(crate) fn samples(collector: &impl Collector) -> BTreeMap<String, f64> {
    let mut rows = Vec::new();
    collector.collect(&mut rows).unwrap();
    let mut samples = BTreeMap::new();
    for family in &rows {
        for (labels, value) in family.iter() {
            let labels: Vec<_> = labels
                .map(|(name, value)| format!("{name}={value:?}"))
                .collect();
            let labels = match labels.join(",") {
                labels if labels.is_empty() => labels,
                labels => format!("{{{labels}}}"),
            };
            let RowValue::Number(number) = value else {
                panic!("{value:?} is not a number");
            };
            samples.insert(format!("{}{labels}", family.name()), *number);
        }
    }
    samples
}
