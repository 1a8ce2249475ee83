//! The registry as a whole: declared families, collectors and bridged ones, in all three formats.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use prometheus::proto;
use proptest::prelude::*;

use super::*;

mod collectors;
mod declared;
mod foreign;
mod prometheus_rows;
pub(crate) mod rows;
pub(crate) mod schema;
mod scrape;
mod visit;

use prometheus_rows::*;

fn clock() -> Duration {
    Duration::from_millis(1_700_000_000_250)
}

fn text(registry: &Registry, format: Format) -> String {
    String::from_utf8(registry.encode(format)).unwrap()
}

/// Every sample of a text exposition by its name and labels.
fn samples(exposition: &str) -> BTreeMap<String, String> {
    let mut samples = BTreeMap::new();
    for line in exposition.lines().filter(|line| !line.starts_with('#')) {
        let sample = line.split(" # ").next().unwrap();
        let (series, value) = sample.rsplit_once(' ').unwrap();
        let before = samples.insert(series.to_owned(), value.to_owned());
        assert_eq!(before, None, "{series} is written twice");
    }
    samples
}

/// Every sample of a protobuf exposition as text 0.0.4 would have it.
fn protobuf_samples(registry: &Registry) -> BTreeMap<String, String> {
    let mut samples = BTreeMap::new();
    for family in schema::decode(&registry.encode(Format::Protobuf)) {
        for metric in &family.metric {
            let mut labels = String::new();
            for pair in &metric.label {
                label::push_pair(&mut labels, pair.name(), pair.value());
            }
            let mut add = |suffix: &str, more: &str, value: f64| {
                let labels: Vec<_> = [labels.as_str(), more]
                    .into_iter()
                    .filter(|labels| !labels.is_empty())
                    .collect();
                let series = match labels.join(",") {
                    labels if labels.is_empty() => format!("{}{suffix}", family.name()),
                    labels => format!("{}{suffix}{{{labels}}}", family.name()),
                };
                let mut number = Vec::new();
                number::push_f64(&mut number, value);
                samples.insert(series, String::from_utf8(number).unwrap());
            };
            let scalar = [&metric.gauge, &metric.untyped]
                .into_iter()
                .flatten()
                .map(schema::Gauge::value);
            let scalar = scalar.chain(metric.counter.as_ref().map(schema::Counter::value));
            scalar.for_each(|value| add("", "", value));
            if let Some(histogram) = &metric.histogram {
                let count = histogram.sample_count() as f64;
                let finite = histogram
                    .bucket
                    .iter()
                    .filter(|bucket| bucket.upper_bound().is_finite());
                let all =
                    finite.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count() as f64));
                for (bound, cumulative) in all.chain([(f64::INFINITY, count)]) {
                    let bound = number::label_float(bound, number::LabelStyle::Go);
                    add("_bucket", &format!("le=\"{bound}\""), cumulative);
                }
                add("_sum", "", histogram.sample_sum());
                add("_count", "", count);
            }
            if let Some(summary) = &metric.summary {
                for quantile in &summary.quantile {
                    let share = number::label_float(quantile.quantile(), number::LabelStyle::Go);
                    add("", &format!("quantile=\"{share}\""), quantile.value());
                }
                add("_sum", "", summary.sample_sum());
                add("_count", "", summary.sample_count() as f64);
            }
        }
    }
    samples
}

/// The samples of an OpenMetrics exposition under the names that text 0.0.4 has for them.
fn openmetrics_samples(registry: &Registry) -> BTreeMap<String, String> {
    let exposition = text(registry, Format::OpenMetrics);
    assert!(exposition.ends_with("\n# EOF\n"));
    let mut samples = samples(&exposition);
    samples.retain(|series, _| !series.split('{').next().unwrap().ends_with("_created"));
    samples
        .into_iter()
        .map(|(series, value)| (series.replace(".0\"}", "\"}"), value))
        .collect()
}

/// Compares the formats sample by sample, but for the error counters that every scrape moves.
fn assert_formats_agree(registry: &Registry) {
    let [text, openmetrics, protobuf] = [
        samples(&text(registry, Format::Text)),
        openmetrics_samples(registry),
        protobuf_samples(registry),
    ]
    .map(|mut samples| {
        samples.retain(|series, _| !series.starts_with("vitals_collector_errors_total"));
        samples
    });
    assert_eq!(openmetrics, text);
    assert_eq!(protobuf, text);
}
