//! A collector of families of the `prometheus` crate, and functions that make such families.

use super::*;

pub(super) struct Rows<F>(pub(super) &'static str, pub(super) F);

impl<F> Collector for Rows<F>
where
    F: Fn(&mut Vec<proto::MetricFamily>) -> Result<(), Box<dyn Error + Send + Sync>>
        + Send
        + Sync
        + 'static,
{
    fn name(&self) -> &'static str {
        self.0
    }

    fn describe(&self) -> Vec<FamilyDescription> {
        Vec::new()
    }

    fn collect(&self, rows: &mut Vec<FamilyRows>) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut families = Vec::new();
        let outcome = self.1(&mut families);
        let families = families
            .iter()
            .map(|family| collector::convert(family).unwrap());
        rows.extend(families);
        outcome
    }
}

pub(super) fn gauges(name: &str, series: &[(&[(&str, &str)], f64)]) -> proto::MetricFamily {
    let metrics = series.iter().map(|(labels, value)| {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(*value);
        let mut metric = proto::Metric::from_gauge(gauge);
        metric.set_label(
            labels
                .iter()
                .map(|(name, value)| pair(name, value))
                .collect(),
        );
        metric
    });
    family(name, proto::MetricType::GAUGE, metrics.collect())
}

pub(super) fn pair(name: &str, value: &str) -> proto::LabelPair {
    let mut pair = proto::LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

pub(super) fn family(
    name: &str,
    kind: proto::MetricType,
    metrics: Vec<proto::Metric>,
) -> proto::MetricFamily {
    let mut family = proto::MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help("Help.".to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

pub(super) fn counter(value: f64) -> proto::Metric {
    let mut counter = proto::Counter::default();
    counter.set_value(value);
    let mut metric = proto::Metric::default();
    metric.set_counter(counter);
    metric
}

pub(super) fn histogram(buckets: &[(f64, u64)], count: u64, sum: f64) -> proto::Metric {
    let buckets = buckets.iter().map(|(bound, cumulative)| {
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(*cumulative);
        bucket
    });
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(count);
    histogram.set_sample_sum(sum);
    let mut metric = proto::Metric::default();
    metric.set_histogram(histogram);
    metric
}

pub(super) fn summary(quantiles: &[(f64, f64)], count: u64, sum: f64) -> proto::Metric {
    let quantiles = quantiles.iter().map(|(share, value)| {
        let mut quantile = proto::Quantile::default();
        quantile.set_quantile(*share);
        quantile.set_value(*value);
        quantile
    });
    let mut summary = proto::Summary::default();
    summary.set_quantile(quantiles.collect());
    summary.set_sample_count(count);
    summary.set_sample_sum(sum);
    let mut metric = proto::Metric::default();
    metric.set_summary(summary);
    metric
}
