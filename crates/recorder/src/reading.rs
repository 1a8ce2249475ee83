//! Families that are read when somebody looks: how the collectors of this wing describe them and write their rows.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use vitals_registry::{FamilyDescription, Kind, Unit};

/// A family whose values are read at scrape time.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The full name; a counter's ends in `_total`.
    pub name: &'static str,
    /// A counter or a gauge.
    pub kind: Kind,
    /// The unit.
    pub unit: Unit,
    /// The names of the labels.
    pub labels: &'static [&'static str],
    /// What the number means.
    pub help: &'static str,
}

impl Reading {
    /// A gauge without labels.
    pub const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> Self {
        Self {
            name,
            kind: Kind::Gauge,
            unit,
            labels: &[],
            help,
        }
    }

    /// A counter without labels.
    pub const fn counter(name: &'static str, unit: Unit, help: &'static str) -> Self {
        Self {
            kind: Kind::Counter,
            ..Self::gauge(name, unit, help)
        }
    }

    /// The same with labels.
    #[must_use]
    pub const fn labels(self, labels: &'static [&'static str]) -> Self {
        Self { labels, ..self }
    }

    /// The family as it is documented.
    pub fn describe(&self) -> FamilyDescription {
        FamilyDescription {
            name: self.name.to_owned(),
            kind: self.kind,
            unit: self.unit,
            help: self.help.to_owned(),
            labels: self.labels.iter().map(|&label| label.to_owned()).collect(),
        }
    }

    /// The family with its only series.
    pub fn single(&self, value: f64) -> MetricFamily {
        self.series([(&[] as &[&str], value)])
    }

    /// The family with a series for each set of label values.
    pub fn series<'a>(
        &self,
        series: impl IntoIterator<Item = (&'a [&'a str], f64)>,
    ) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(match self.kind {
            Kind::Counter => MetricType::COUNTER,
            _ => MetricType::GAUGE,
        });
        let rows = series
            .into_iter()
            .map(|(values, value)| self.row(values, value));
        family.set_metric(rows.collect());
        family
    }

    fn row(&self, values: &[&str], value: f64) -> Metric {
        let labels = self.labels.iter().zip(values).map(|(&name, &value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        });
        let mut metric = Metric::from_label(labels.collect());
        if self.kind == Kind::Counter {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        metric
    }
}

/// What a collector reads now: each sample with its labels, as the text format writes it, and its value.
#[cfg(test)]
pub(crate) fn samples(
    collector: &impl vitals_registry::Collector,
) -> std::collections::BTreeMap<String, f64> {
    let mut rows = Vec::new();
    collector.collect(&mut rows).unwrap();
    let text = prometheus::TextEncoder::new()
        .encode_to_string(&rows)
        .unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            (sample.to_owned(), value.parse().unwrap())
        })
        .collect()
}
