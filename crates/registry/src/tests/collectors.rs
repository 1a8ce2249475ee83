//! Tests collectors: those that fail, rows that cannot be written, and the bridge to the `prometheus` crate.

use super::*;

#[test]
fn a_failing_collector_costs_its_own_rows_and_is_counted() {
    let registry = Registry::builder(clock).build().unwrap();
    registry
        .register(Rows("errs", |rows: &mut Vec<_>| {
            rows.push(gauges("from_errs", &[(&[], 1.0)]));
            Err("unreadable".into())
        }))
        .unwrap();
    registry
        .register(Rows("panics", |rows: &mut Vec<_>| {
            rows.push(gauges("from_panics", &[(&[], 1.0)]));
            panic!("as it must")
        }))
        .unwrap();
    registry
        .register(Rows("works", |rows: &mut Vec<_>| {
            rows.push(gauges("from_works", &[(&[("b", "2"), ("a", "1")], 1.0)]));
            Ok(())
        }))
        .unwrap();
    let written = samples(&text(&registry, Format::Text));
    assert!(written.contains_key("from_errs"));
    assert!(!written.contains_key("from_panics"));
    assert!(written.contains_key("from_works{a=\"1\",b=\"2\"}"));
    let value = |name: &str| {
        written[&format!("vitals_collector_errors_total{{collector=\"{name}\"}}")].clone()
    };
    assert_eq!(
        ["errs", "panics", "works", "prometheus"].map(value),
        ["1", "1", "0", "0"]
    );
    let again = registry.register(Rows("works", |_: &mut Vec<_>| Ok(())));
    assert_eq!(
        again.unwrap_err(),
        RegistryError::DuplicateCollector("works".to_owned())
    );
    assert!(
        registry
            .register(Rows("prometheus", |_: &mut Vec<_>| Ok(())))
            .is_err()
    );
}

#[test]
fn rows_that_would_break_the_exposition_are_left_out() {
    let wrong = [
        gauges("own", &[(&[], 1.0)]),
        gauges("seconds_bucket", &[(&[], 1.0)]),
        gauges("ok", &[(&[("a.b", ""), ("a_b", "")], 1.0)]),
        gauges("ok", &[(&[("a", ""), ("a", "")], 1.0)]),
        gauges("seconds.bucket", &[(&[], 1.0)]),
        gauges("", &[(&[], 1.0)]),
        family("_total", proto::MetricType::COUNTER, vec![counter(1.0)]),
        gauges("ok", &[(&[("", "x")], 1.0)]),
        gauges("ok", &[(&[("__x", "")], 1.0)]),
        family(
            "ok",
            proto::MetricType::HISTOGRAM,
            vec![histogram(&[(1.0, 2), (0.5, 3)], 3, 1.0)],
        ),
        family(
            "ok",
            proto::MetricType::HISTOGRAM,
            vec![histogram(&[(1.0, 4)], 3, 1.0)],
        ),
        family(
            "ok",
            proto::MetricType::HISTOGRAM,
            vec![histogram(&[(f64::INFINITY, 4)], 3, 1.0)],
        ),
        family(
            "ok",
            proto::MetricType::HISTOGRAM,
            vec![histogram(&[(f64::NAN, 1)], 3, 1.0)],
        ),
        family(
            "ok",
            proto::MetricType::HISTOGRAM,
            vec![histogram(&[(f64::NEG_INFINITY, 0)], 3, 1.0)],
        ),
        family(
            "ok",
            proto::MetricType::HISTOGRAM,
            vec![histogram(&[(1.0, 1), (1.0, 2)], 3, 1.0)],
        ),
    ];
    for row in wrong {
        let mut builder = Registry::builder(clock);
        builder.gauge(Descriptor::new("own", "Help.", []));
        builder.histogram(Descriptor::new("seconds", "Help.", []), &[1.0]);
        let registry = builder.build().unwrap();
        let before = samples(&text(&registry, Format::Text));
        let name = format!("{row:?}");
        registry
            .register(Rows("wrong", move |rows: &mut Vec<_>| {
                rows.push(row.clone());
                rows.push(gauges("fine", &[(&[], 2.0)]));
                Ok(())
            }))
            .unwrap();
        let mut after = samples(&text(&registry, Format::Text));
        assert_eq!(after.remove("fine").as_deref(), Some("2"), "{name}");
        let errors = after.remove("vitals_collector_errors_total{collector=\"wrong\"}");
        assert_eq!(errors.as_deref(), Some("1"), "{name}");
        assert_eq!(after, before, "{name}");
        assert_formats_agree(&registry);
    }
}

#[test]
fn a_row_that_comes_twice_is_written_once() {
    let registry = Registry::builder(clock).build().unwrap();
    registry
        .register(Rows("one", |rows: &mut Vec<_>| {
            rows.push(gauges(
                "twice",
                &[
                    (&[("a", "1"), ("b", "2")], 1.0),
                    (&[("b", "2"), ("a", "1")], 2.0),
                ],
            ));
            Ok(())
        }))
        .unwrap();
    registry
        .register(Rows("two", |rows: &mut Vec<_>| {
            rows.push(gauges("twice", &[(&[], 3.0)]));
            Ok(())
        }))
        .unwrap();
    let written = samples(&text(&registry, Format::Text));
    let errors = written
        .iter()
        .filter(|(series, _)| series.starts_with("vitals_collector_errors_total"));
    let errors: Vec<_> = errors.map(|(_, count)| count).collect();
    assert_eq!(written["twice{a=\"1\",b=\"2\"}"], "1");
    assert!(!written.contains_key("twice"));
    assert_eq!(errors, ["1", "0", "1"], "one, prometheus, two");
}

#[test]
fn anyones_metrics_are_bridged_with_their_types() {
    let registry = Registry::builder(clock).build().unwrap();
    let counter = prometheus::IntCounter::new("jobs", "Jobs.").unwrap();
    let gauge = prometheus::Gauge::new("level_bytes", "Level.").unwrap();
    let options = prometheus::HistogramOpts::new("spent_seconds", "Spent.").buckets(vec![0.5, 1.0]);
    let histogram = prometheus::HistogramVec::new(options, &["a"]).unwrap();
    counter.inc();
    gauge.set(f64::INFINITY);
    histogram.with_label_values(&["\"x\"\n"]).observe(0.75);
    registry.prometheus().register(Box::new(counter)).unwrap();
    registry.prometheus().register(Box::new(gauge)).unwrap();
    registry
        .register_prometheus("mine", Box::new(histogram))
        .unwrap();
    registry
        .register(Rows("others", |rows: &mut Vec<_>| {
            let mut quantile = proto::Quantile::default();
            quantile.set_quantile(0.5);
            quantile.set_value(2.5);
            let mut summary = proto::Summary::default();
            summary.set_quantile(vec![quantile]);
            summary.set_sample_count(3);
            summary.set_sample_sum(7.5);
            let mut metric = proto::Metric::default();
            metric.set_summary(summary);
            metric.set_timestamp_ms(1_500);
            rows.push(family("sizes", proto::MetricType::SUMMARY, vec![metric]));
            Ok(())
        }))
        .unwrap();
    insta::assert_snapshot!("bridged_text", text(&registry, Format::Text));
    insta::assert_snapshot!("bridged_openmetrics", text(&registry, Format::OpenMetrics));
    let kinds: Vec<_> = (registry.describe().into_iter())
        .filter(|family| !family.name.starts_with("vitals_"))
        .map(|family| (family.name, family.kind, family.unit, family.labels))
        .collect();
    assert_eq!(
        kinds,
        [
            (
                "spent_seconds".to_owned(),
                MetricKind::Histogram,
                Unit::Seconds,
                vec!["a".to_owned()]
            ),
            (
                "jobs".to_owned(),
                MetricKind::Counter,
                Unit::None,
                Vec::new()
            ),
            (
                "level_bytes".to_owned(),
                MetricKind::Gauge,
                Unit::Bytes,
                Vec::new()
            ),
        ]
    );
}

/// Only without the protobuf model of the `prometheus` crate can an untyped value be set from outside of it.
#[cfg(not(feature = "prometheus-protobuf"))]
#[test]
fn an_untyped_value_is_bridged_as_it_is() {
    let registry = Registry::builder(clock).build().unwrap();
    let collect = |rows: &mut Vec<_>| {
        let mut untyped = proto::Untyped::default();
        let mut metric = proto::Metric::default();
        #[expect(deprecated, reason = "its only setters")]
        {
            untyped.set_value(-1.5e-7);
            metric.set_untyped(untyped);
        }
        metric.set_label(vec![pair("a", "untyped: value: 7")]);
        rows.push(family("other", proto::MetricType::UNTYPED, vec![metric]));
        Ok(())
    };
    registry.register(Rows("others", collect)).unwrap();
    let written = samples(&text(&registry, Format::Text));
    assert_eq!(written["other{a=\"untyped: value: 7\"}"], "-1.5e-7");
    assert!(text(&registry, Format::OpenMetrics).contains("# TYPE other unknown\n"));
    assert_formats_agree(&registry);
}

#[test]
fn levels_are_read_from_the_collectors_that_have_them_and_no_other() {
    struct Levels(&'static str, Vec<FamilyRows>, bool);

    impl Collector for Levels {
        fn name(&self) -> &'static str {
            self.0
        }

        fn describe(&self) -> Vec<FamilyDescription> {
            self.1.iter().map(FamilyRows::describe).collect()
        }

        fn is_cheap(&self) -> bool {
            true
        }

        fn collect(&self, rows: &mut Vec<FamilyRows>) -> Result<(), Box<dyn Error + Send + Sync>> {
            rows.extend(self.1.clone());
            assert!(!self.2, "read without need");
            Ok(())
        }
    }

    let registry = Registry::builder(clock).build().unwrap();
    let gauge = |name: &'static str| FamilyRows::new(name, MetricKind::Gauge, "Help.");
    let mut pools = gauge("pools");
    pools.push([("of", "a")], 2.0);
    pools.push([("of", "b")], 3.0);
    let [mut one, mut other] = ["one", "other"].map(gauge);
    one.push_single(1.0);
    other.push_single(1.0);
    let several = Levels("several", vec![pools, one], false);
    let unwanted = Levels("unwanted", vec![other], true);
    registry.register(several).unwrap();
    registry.register(unwanted).unwrap();
    let levels = registry.read_levels(["pools", "one", "none"]);
    assert_eq!(levels, [Some(5.0), Some(1.0), None]);
    assert_eq!(
        registry.read_levels(["other"]),
        [None],
        "what panics has no rows"
    );
    let errors = samples(&text(&registry, Format::Text));
    let errors_of =
        |name: &str| &errors[&format!("vitals_collector_errors_total{{collector=\"{name}\"}}")];
    // Once when its level was asked for, once in the scrape.
    assert_eq!(
        (
            errors_of("several").as_str(),
            errors_of("unwanted").as_str()
        ),
        ("0", "2")
    );
}
