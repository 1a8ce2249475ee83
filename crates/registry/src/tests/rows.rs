//! Tests the rows of first-party collectors in all formats.

use super::*;

/// A collector that returns these rows.
pub(crate) struct Fixed(pub(crate) Vec<FamilyRows>);

impl Collector for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn describe(&self) -> Vec<FamilyDescription> {
        Vec::new()
    }

    fn collect(&self, rows: &mut Vec<FamilyRows>) -> Result<(), Box<dyn Error + Send + Sync>> {
        rows.extend(self.0.clone());
        Ok(())
    }
}

fn registry_of(rows: Vec<FamilyRows>) -> Registry {
    let registry = Registry::builder(clock).build().unwrap();
    registry.register(Fixed(rows)).unwrap();
    registry
}

fn fixed_samples(registry: &Registry) -> Vec<(String, String)> {
    let mut samples = samples(&text(registry, Format::Text));
    samples.retain(|series, _| !series.starts_with("vitals_"));
    samples.into_iter().collect()
}

fn faults(registry: &Registry) -> String {
    let series = "vitals_collector_errors_total{collector=\"fixed\"}";
    samples(&text(registry, Format::Text))[series].clone()
}

#[test]
fn a_family_described_as_a_constant_is_written_with_its_labels() {
    const STOCK: ReadFamily =
        ReadFamily::gauge("stock_bytes", Unit::Bytes, "Stock.").labels(&["article", "shop"]);
    const SOLD: ReadFamily = ReadFamily::counter("sold_total", Unit::None, "Sold.");

    let stock = STOCK.series([(["book", "north"], 2.0), (["pen", "north"], 0.5)]);
    let registry = registry_of(vec![stock, SOLD.single(7.0)]);
    let expected = [
        ("sold_total", "7"),
        ("stock_bytes{article=\"book\",shop=\"north\"}", "2"),
        ("stock_bytes{article=\"pen\",shop=\"north\"}", "0.5"),
    ];
    let expected = expected.map(|(series, value)| (series.to_owned(), value.to_owned()));
    assert_eq!(fixed_samples(&registry), expected);
    assert!(text(&registry, Format::OpenMetrics).contains("# UNIT stock_bytes bytes\n"));
    assert_formats_agree(&registry);
    assert_eq!(faults(&registry), "0");
}

#[test]
fn a_value_of_another_type_than_its_family_is_left_out_and_counted() {
    let summary = || RowValue::Summary {
        count: 1,
        sum: 1.0,
        quantiles: Vec::new(),
    };
    let histogram = || RowValue::Histogram(HistogramSnapshot::default());
    for (kind, wrong) in [
        (MetricKind::Counter, histogram()),
        (MetricKind::Gauge, summary()),
        (MetricKind::Unknown, summary()),
        (MetricKind::Histogram, RowValue::Number(1.0)),
        (MetricKind::Summary, histogram()),
    ] {
        let mut family = FamilyRows::new("mixed_total", kind, "Help.");
        family.push([("of", "wrong")], wrong);
        let mut fine = FamilyRows::new("fine", MetricKind::Gauge, "Help.");
        fine.push_single(1.0);
        let registry = registry_of(vec![family, fine]);
        let expected = [("fine".to_owned(), "1".to_owned())];
        assert_eq!(fixed_samples(&registry), expected, "{kind:?}");
        assert_eq!(faults(&registry), "2", "{kind:?}");
    }
}

#[test]
fn a_snapshot_with_native_buckets_is_a_native_histogram() {
    let distribution = Distribution::default();
    for value in [0.0, 0.5, 1.0, 1.0, 300.0] {
        distribution.observe(value);
    }
    let mut family = FamilyRows::new("waits_seconds", MetricKind::Histogram, "Waits.");
    family.push([("of", "all")], distribution.snapshot());
    let registry = registry_of(vec![family]);
    let expected = [
        ("waits_seconds_bucket{of=\"all\",le=\"+Inf\"}", "5"),
        ("waits_seconds_count{of=\"all\"}", "5"),
        ("waits_seconds_sum{of=\"all\"}", "302.5"),
    ];
    let expected = expected.map(|(series, value)| (series.to_owned(), value.to_owned()));
    assert_eq!(fixed_samples(&registry), expected);
    assert_formats_agree(&registry);
    let families = schema::decode(&registry.encode(Format::Protobuf));
    let histogram = families.last().unwrap().metric[0]
        .histogram
        .clone()
        .unwrap();
    assert_eq!((histogram.schema(), histogram.zero_count()), (5, 1));
    let populated = histogram.native_buckets().into_iter();
    let populated: Vec<_> = populated.filter(|(_, count)| *count > 0).collect();
    assert_eq!(populated, distribution.snapshot().native);
}

#[test]
fn native_buckets_that_contradict_the_count_are_left_out_and_counted() {
    let whole = HistogramSnapshot {
        count: 3,
        sum: 2.0,
        native: vec![(0, 1), (5, 1)],
        zero_count: 1,
        ..HistogramSnapshot::default()
    };
    let wrong = [
        HistogramSnapshot {
            count: 4,
            ..whole.clone()
        },
        HistogramSnapshot {
            native: vec![(5, 1), (0, 1)],
            ..whole.clone()
        },
        HistogramSnapshot {
            native: vec![(0, 1), (i32::MAX, 1)],
            ..whole.clone()
        },
        HistogramSnapshot {
            native: vec![(0, u64::MAX), (5, 4)],
            ..whole.clone()
        },
    ];
    for (snapshot, expected) in [whole]
        .into_iter()
        .map(|whole| (whole, "0"))
        .chain(wrong.map(|wrong| (wrong, "2")))
    {
        let name = format!("{snapshot:?}");
        let mut family = FamilyRows::new("waits", MetricKind::Histogram, "Waits.");
        family.push_single(snapshot);
        let registry = registry_of(vec![family]);
        assert_eq!(
            fixed_samples(&registry).is_empty(),
            expected != "0",
            "{name}"
        );
        assert_eq!(faults(&registry), expected, "{name}");
    }
}
