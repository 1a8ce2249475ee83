//! The registry as a whole: declared families, collectors and bridged ones, in all three formats.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use prometheus::proto;
use proptest::prelude::*;

use super::*;

mod foreign;
pub(crate) mod rows;
pub(crate) mod schema;
mod visit;

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

#[test]
fn a_small_registry_is_written_in_both_text_formats() {
    let mut builder = Registry::builder(clock).shards(1);
    let requests = builder.counter(Descriptor::new(
        "requests_total",
        "Requests \"so far\".",
        ["path"],
    ));
    let active = builder.gauge(Descriptor::new("active", "Active now.", []));
    let wait = builder.histogram(
        Descriptor::new("wait_seconds", "Waits.", []).unit(Unit::Seconds),
        &[0.5, 1.0],
    );
    let registry = builder.build().unwrap();
    requests.series(["/a\"\\\n"]).add(3);
    active.get().inc();
    let span = SpanContext {
        trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
        span_id: 0x00f0_67aa_0ba9_02b7,
    };
    wait.get().observe(0.25);
    wait.get().observe_with(0.75, Some(&span));
    wait.get().observe_with(7.0, Some(&span));
    insta::assert_snapshot!("text", text(&registry, Format::Text));
    insta::assert_snapshot!("openmetrics", text(&registry, Format::OpenMetrics));
    assert_formats_agree(&registry);
}

#[test]
fn a_native_histogram_decodes_to_what_was_recorded() {
    let mut builder = Registry::builder(clock).constant_label("service", "test");
    let wait = builder.histogram(
        Descriptor::new("wait_seconds", "Waits.", ["path"]).unit(Unit::Seconds),
        &[0.5, 1.0],
    );
    let registry = builder.build().unwrap();
    let series = wait.series(["/"]);
    let span = SpanContext {
        trace_id: 1,
        span_id: 2,
    };
    for value in [0.0, 0.26, 0.27, 0.27, 0.9, 0.9] {
        series.observe(value);
    }
    series.observe_with(5.0, Some(&span));

    let families = schema::decode(&registry.encode(Format::Protobuf));
    let family = &families[0];
    assert_eq!(
        (family.name(), family.help(), family.unit()),
        ("wait_seconds", "Waits.", "seconds")
    );
    assert_eq!(family.r#type(), 4);
    let labels: Vec<_> = (family.metric[0].label.iter())
        .map(|label| (label.name(), label.value()))
        .collect();
    assert_eq!(labels, [("service", "test"), ("path", "/")]);
    let histogram = family.metric[0].histogram.as_ref().unwrap();
    assert_eq!(histogram.schema(), 5);
    assert_eq!((histogram.sample_count(), histogram.zero_count()), (7, 1));
    assert!((histogram.zero_threshold() - ZERO_THRESHOLD).abs() < f64::MIN_POSITIVE);
    let populated: Vec<_> = (histogram.native_buckets().into_iter())
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(populated, series.snapshot().native);
    let created = histogram.created_timestamp.as_ref().unwrap();
    assert_eq!(
        (created.seconds, created.nanos),
        (1_700_000_000, 250_000_000)
    );
    let bounds: Vec<_> = (histogram.bucket.iter())
        .map(|bucket| {
            (
                bucket.upper_bound(),
                bucket.cumulative_count(),
                bucket.exemplar.is_some(),
            )
        })
        .collect();
    assert_eq!(
        bounds,
        [(0.5, 4, false), (1.0, 6, false), (f64::INFINITY, 7, true)]
    );
    let exemplar = &histogram.exemplars[0];
    assert_eq!(
        exemplar.label[0].value(),
        "00000000000000000000000000000001"
    );
    assert_eq!(exemplar.label[1].value(), "0000000000000002");
    assert_eq!(exemplar.timestamp, histogram.created_timestamp);
}

#[test]
fn an_empty_histogram_is_native_all_the_same() {
    let mut builder = Registry::builder(clock);
    builder.histogram(Descriptor::new("wait", "Waits.", []), &[1.0]);
    let families = schema::decode(&builder.build().unwrap().encode(Format::Protobuf));
    let histogram = families[0].metric[0].histogram.as_ref().unwrap();
    let span = &histogram.positive_span[..];
    assert_eq!(
        span.iter()
            .map(|span| (span.offset(), span.length()))
            .collect::<Vec<_>>(),
        [(0, 0)]
    );
    assert!(histogram.positive_delta.is_empty());
}

#[test]
fn native_buckets_are_lowered_to_the_limit() {
    let mut builder = Registry::builder(clock).native_buckets(10);
    let wait = builder.histogram(Descriptor::new("wait", "Waits.", []), &[1.0]);
    let registry = builder.build().unwrap();
    (1..1000).for_each(|i| wait.get().observe(f64::from(i) * 0.01));
    let families = schema::decode(&registry.encode(Format::Protobuf));
    let histogram = families[0].metric[0].histogram.as_ref().unwrap();
    assert!(histogram.native_buckets().len() <= 10);
    assert_eq!(histogram.schema(), -1, "eleven octaves are one too many");
    assert_eq!(
        histogram
            .native_buckets()
            .iter()
            .map(|(_, count)| count)
            .sum::<u64>(),
        999
    );
}

#[test]
fn what_cannot_be_declared_is_told_in_a_sentence() {
    type Declare = fn(&mut RegistryBuilder);
    let wrong: [(Declare, &str); 11] = [
        (
            |b| drop(b.counter(Descriptor::new("_total", "Help.", []))),
            "the metric name \"_total\" is empty, apart from the suffix",
        ),
        (
            |b| drop(b.gauge(Descriptor::new("", "Help.", []))),
            "the metric name \"\" is empty",
        ),
        (
            |b| drop(b.counter(Descriptor::new("a", "Help.", []))),
            "the counter \"a\" must have a name that ends in _total",
        ),
        (
            |b| drop(b.gauge(Descriptor::new("a", " ", []))),
            "the family \"a\" has no help text",
        ),
        (
            |b| drop(b.gauge(Descriptor::new("a", "Help.", []).unit(Unit::Bytes))),
            "the family \"a\" is in bytes, but",
        ),
        (
            |b| drop(b.gauge(Descriptor::new("a", "Help.", ["__x"]))),
            "the family \"a\" cannot have a label named \"__x\"",
        ),
        (
            |b| drop(b.histogram(Descriptor::new("a", "Help.", ["le"]), &[])),
            "the family \"a\" cannot have a label named \"le\"",
        ),
        (
            |b| drop(b.gauge(Descriptor::new("a", "Help.", ["x", "x"]))),
            "the family \"a\" has the label \"x\" twice",
        ),
        (
            |b| drop(b.histogram(Descriptor::new("a", "Help.", []), &[1.0, 0.5])),
            "the buckets of \"a\" must be finite numbers of at least 0",
        ),
        (
            |b| drop(b.histogram(Descriptor::new("a", "Help.", []), &[-1.0, 0.5])),
            "the buckets of \"a\" must be finite numbers of at least 0",
        ),
        (
            |b| {
                b.histogram(Descriptor::new("a", "Help.", []), &[]);
                b.gauge(Descriptor::new("a_count", "Help.", []));
            },
            "the family \"a_count\" would write the sample \"a_count\"",
        ),
    ];
    for (declare, sentence) in wrong {
        let mut builder = Registry::builder(clock);
        declare(&mut builder);
        let error = builder.build().unwrap_err().to_string();
        assert!(error.starts_with(sentence), "{error}");
    }
    let mut builder = Registry::builder(clock);
    builder.gauge(Descriptor::new("a", "Help.", []));
    let error = builder.max_series(1).build().unwrap_err();
    assert_eq!(error, RegistryError::LateSetting("max_series"));
    for own in ["family", "collector"] {
        let registry = Registry::builder(clock).constant_label(own, "1").build();
        assert!(
            matches!(registry, Err(RegistryError::DuplicateLabel { ref label, .. }) if label == own),
            "{own}"
        );
    }
    let mut builder = Registry::builder(clock).constant_label("x", "1");
    builder.gauge(Descriptor::new("a", "Help.", ["x"]));
    assert!(builder.build().is_err());
}

struct Rows<F>(&'static str, F);

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

fn gauges(name: &str, series: &[(&[(&str, &str)], f64)]) -> proto::MetricFamily {
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

fn pair(name: &str, value: &str) -> proto::LabelPair {
    let mut pair = proto::LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

fn family(name: &str, kind: proto::MetricType, metrics: Vec<proto::Metric>) -> proto::MetricFamily {
    let mut family = proto::MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help("Help.".to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn counter(value: f64) -> proto::Metric {
    let mut counter = proto::Counter::default();
    counter.set_value(value);
    let mut metric = proto::Metric::default();
    metric.set_counter(counter);
    metric
}

fn histogram(buckets: &[(f64, u64)], count: u64, sum: f64) -> proto::Metric {
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

fn summary(quantiles: &[(f64, f64)], count: u64, sum: f64) -> proto::Metric {
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

#[test]
fn openmetrics_shows_times_of_creation_where_they_are_wanted_and_protobuf_always() {
    for wanted in [None, Some(false), Some(true)] {
        let mut builder = Registry::builder(clock);
        if let Some(wanted) = wanted {
            builder = builder.created(wanted);
        }
        builder
            .counter(Descriptor::new("things_total", "Help.", []))
            .get();
        builder
            .histogram(Descriptor::new("sizes", "Help.", []), &[1.0])
            .get();
        let registry = builder.build().unwrap();
        let openmetrics = text(&registry, Format::OpenMetrics);
        let created: Vec<_> = openmetrics
            .lines()
            .filter(|line| line.contains("_created") && !line.contains("vitals_"))
            .collect();
        let expected: &[&str] = if wanted == Some(true) {
            &[
                "things_created 1700000000.25",
                "sizes_created 1700000000.25",
            ]
        } else {
            &[]
        };
        assert_eq!(created, expected, "{wanted:?}");
        assert_eq!(
            openmetrics.contains("vitals_collector_errors_created"),
            wanted == Some(true)
        );
        let families = schema::decode(&registry.encode(Format::Protobuf));
        let of_counter = &families[0].metric[0]
            .counter
            .as_ref()
            .unwrap()
            .created_timestamp;
        let of_histogram = &families[1].metric[0]
            .histogram
            .as_ref()
            .unwrap()
            .created_timestamp;
        for created in [of_counter, of_histogram] {
            assert_eq!(
                created.as_ref().unwrap().seconds,
                1_700_000_000,
                "{wanted:?}"
            );
        }
        assert_formats_agree(&registry);
    }
}

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
fn counts_of_every_length_decode_to_themselves() {
    let counts: Vec<u64> = (0..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit]).collect();
    let expected = counts.clone();
    let registry = Registry::builder(clock).build().unwrap();
    let collect = move |rows: &mut Vec<_>| {
        let buckets = (1_u32..).zip(&counts).map(|(bound, count)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(f64::from(bound));
            bucket.set_cumulative_count(*count);
            bucket
        });
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(1 << 63);
        let mut metric = proto::Metric::default();
        metric.set_histogram(histogram);
        rows.push(family("long", proto::MetricType::HISTOGRAM, vec![metric]));
        Ok(())
    };
    registry.register(Rows("long", collect)).unwrap();
    let families = schema::decode(&registry.encode(Format::Protobuf));
    let histogram = families.last().unwrap().metric[0]
        .histogram
        .as_ref()
        .unwrap();
    let found = histogram
        .bucket
        .iter()
        .map(schema::Bucket::cumulative_count);
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

#[test]
fn a_declared_family_is_found_by_its_name_and_type() {
    let mut builder = Registry::builder(clock);
    let declared = builder.counter(Descriptor::new("a_total", "Help.", ["b"]));
    let registry = builder.build().unwrap();
    declared.series(["x"]).inc();
    let found: Family<Counter, 1> = registry.family("a_total").unwrap();
    assert_eq!(found.series(["x"]).value(), 1);
    assert!(registry.family::<Counter, 1>("a").is_none());
    assert!(registry.family::<Counter, 2>("a_total").is_none());
    assert!(registry.family::<Gauge, 1>("a_total").is_none());
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

#[test]
fn a_filter_shows_only_what_it_names() {
    let mut builder = Registry::builder(clock);
    builder.counter(Descriptor::new("a_total", "Help.", []));
    builder.gauge(Descriptor::new("b", "Help.", []));
    builder.histogram(Descriptor::new("c", "Help.", []), &[]);
    let registry = builder.build().unwrap();
    let sizes = summary(&[(0.5, 1.0)], 1, 1.0);
    let rows = vec![
        family("d", proto::MetricType::SUMMARY, vec![sizes]),
        family("e", proto::MetricType::COUNTER, vec![counter(1.0)]),
        gauges("f_info", &[(&[("version", "1")], 1.0)]),
        gauges("f", &[(&[], 1.0)]),
    ];
    let collect = move |read: &mut Vec<_>| {
        read.extend(rows.clone());
        Ok(())
    };
    registry.register(Rows("rows", collect)).unwrap();
    let of_c = vec!["c_bucket{le=\"+Inf\"}", "c_count", "c_sum"];
    let of_d = vec!["d_count", "d_sum", "d{quantile=\"0.5\"}"];
    for (names, expected) in [
        (vec!["a_created"], vec!["a_total"]),
        (vec!["c_bucket"], of_c.clone()),
        (vec!["c_sum", "c"], of_c.clone()),
        (vec!["c_count"], of_c.clone()),
        (vec!["c_created"], of_c),
        (vec!["d_count"], of_d.clone()),
        (vec!["d_sum"], of_d.clone()),
        (vec!["d"], of_d),
        (vec!["e_total"], vec!["e"]),
        (vec!["f_info"], vec!["f_info{version=\"1\"}"]),
        (vec!["f"], vec!["f"]),
        (
            vec!["a_bucket", "b_total", "c_total", "d_bucket", "_bucket", ""],
            vec![],
        ),
        (vec!["a_total"], vec!["a_total"]),
        (vec!["a"], vec!["a_total"]),
        (vec!["b", "nothing"], vec!["b"]),
        (vec!["nothing"], vec![]),
    ] {
        let mut out = Vec::new();
        let mut scrape = registry.scrape(Format::Text, &NameFilter::new(names));
        while scrape.next_chunk(&mut out) {}
        let written = samples(&String::from_utf8(out).unwrap());
        assert_eq!(written.into_keys().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_large_exposition_comes_in_pieces_that_make_up_the_whole() {
    let mut builder = Registry::builder(clock).max_series(5000);
    let wait = builder.histogram(Descriptor::new("wait", "Waits.", ["n"]), &[0.5, 1.0, 2.0]);
    let registry = builder.build().unwrap();
    (0..3000).for_each(|n| wait.series([&n.to_string()]).observe(1.0));
    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        let mut scrape = registry.scrape(format, &NameFilter::all());
        let (mut whole, mut pieces, mut more) = (Vec::new(), 0, true);
        while more {
            let mut piece = Vec::new();
            more = scrape.next_chunk(&mut piece);
            let most = if format == Format::Protobuf { 384 } else { 128 };
            assert!(piece.len() < most * 1024, "{format:?}: {}", piece.len());
            pieces += usize::from(!piece.is_empty());
            whole.extend(piece);
        }
        assert!(pieces > 1, "{format:?}");
        assert!(whole == registry.encode(format), "{format:?}");
    }
    assert_formats_agree(&registry);
}

#[test]
fn a_family_in_protobuf_is_preceded_by_its_length_whatever_that_is() {
    for series in [0, 1, 2, 3, 31, 32, 33, 270, 300, 3000, 30_000] {
        let mut builder = Registry::builder(clock).max_series(usize::MAX);
        let before = builder.gauge(Descriptor::new("before", "Before.", []));
        let things = builder.counter(Descriptor::new("things_total", "Things.", ["n"]));
        let after = builder.gauge(Descriptor::new("later", "Later.", []));
        let registry = builder.build().unwrap();
        before.get().set(1);
        after.get().set(2);
        (0..series).for_each(|n| things.series([&n.to_string()]).inc());
        let whole = registry.encode(Format::Protobuf);
        let families = schema::decode(&whole);
        let found = families
            .iter()
            .find(|family| family.name() == "things_total");
        assert_eq!(found.map_or(0, |family| family.metric.len()), series);
        assert!(families.iter().any(|family| family.name() == "later"));
        // A buffer with room is written to directly, whatever it contains.
        let mut out = Vec::with_capacity(8 << 20);
        out.push(7);
        let mut scrape = registry.scrape(Format::Protobuf, &NameFilter::all());
        while scrape.next_chunk(&mut out) {}
        assert_eq!((out[0], out[1..] == whole), (7, true), "{series}");
    }
}

proptest! {
    #[test]
    fn random_families_read_back_in_every_format(
        counters in proptest::collection::btree_map(["(?s).{0,12}", "[a\"\\\\\n]{0,4}"], any::<u32>(), 0..12),
        gauge in any::<i32>(),
        observed in proptest::collection::vec(prop_oneof![Just(0.0), 1e-6..1e6_f64], 0..50),
        native_buckets in 1_usize..50,
    ) {
        let mut builder = Registry::builder(clock).native_buckets(native_buckets);
        let things = builder.counter(Descriptor::new("things_total", "Help.", ["a", "b"]));
        let level = builder.gauge(Descriptor::new("level", "Help.", []));
        let sizes = builder.histogram(Descriptor::new("sizes", "Help.", []), &[0.001, 1.0, 1000.0]);
        let registry = builder.build().unwrap();
        for ([a, b], value) in &counters {
            things.series([a, b]).add(u64::from(*value));
        }
        level.get().add(i64::from(gauge));
        for value in &observed {
            sizes.get().observe(*value);
        }

        assert_formats_agree(&registry);
        let families = schema::decode(&registry.encode(Format::Protobuf));
        let found: BTreeMap<_, _> = (families.iter())
            .filter(|family| family.name() == "things_total")
            .flat_map(|family| &family.metric)
            .map(|metric| {
                let values = [metric.label[0].value(), metric.label[1].value()].map(str::to_owned);
                (values, metric.counter.as_ref().unwrap().value())
            })
            .collect();
        let expected: BTreeMap<_, _> = counters.into_iter().map(|(labels, value)| (labels, f64::from(value))).collect();
        prop_assert_eq!(found, expected);
        let written = samples(&text(&registry, Format::Text));
        prop_assert_eq!(&written["level"], &gauge.to_string());
        prop_assert_eq!(&written["sizes_count"], &observed.len().to_string());
    }
}
