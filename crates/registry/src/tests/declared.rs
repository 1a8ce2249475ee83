//! Tests declared families: what can be declared, and how each type of instrument is written.

use super::*;

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
