//! After hostile traffic and with hostile label values, independent readers accept each format, and all three formats of one
//! scrape contain the same values.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use actix_vitals::registry::{
    Collector, Descriptor, FamilyDescription, FamilyRows, Format, MetricKind, Registry, RowValue,
    SpanContext, Unit,
};
use prometheus::core::Collector as Foreign;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::conformance::{
    OUR_UNITS, assert_same, foreign_readers_find_the_same, promtool_finds_no_fault,
};
use crate::support::foreign::{Reading, Series};
use crate::support::server::Server;
use crate::support::{scrapers, tools};

/// Values that break a format if it does not escape them.
const HOSTILE: &[&str] = &[
    "",
    " ",
    "plain",
    "\"",
    "\\",
    "\n",
    "\\n",
    "\\\"",
    "\\\\",
    "ends with \\",
    "a\"b\\c\nd",
    "\r",
    "\r\n",
    "\t\u{1}\u{7f}",
    "\u{0}",
    "\u{85}\u{2028}\u{2029}\u{b}\u{c}\u{1c}",
    "\u{feff}",
    "\u{1f600}",
    "e\u{301} \u{202e}rtl \u{10ffff}",
    "\u{fffd}\u{fffd}",
    "} 1",
    "\"} 1\n# EOF\n",
    ",le=\"0.5\"",
    "{a=\"b\",c='d'}",
    " # {trace_id=\"0\"} 1",
    "overflow",
];

fn hostile_values() -> Vec<String> {
    let long = "long \"\\\n\u{1f600}".repeat(2_000);
    HOSTILE
        .iter()
        .map(|value| (*value).to_owned())
        .chain([long])
        .collect()
}

const HELP: &str = "Help with \"quotes\", a \\, a \\n and a\nsecond line.";

fn clock() -> Duration {
    Duration::from_nanos(1_700_000_000_123_456_789)
}

/// A summary with hostile labels. The `prometheus` crate has no summaries.
struct Sizes;

impl Collector for Sizes {
    fn name(&self) -> &'static str {
        "sizes"
    }

    fn describe(&self) -> Vec<FamilyDescription> {
        Vec::new()
    }

    fn collect(
        &self,
        rows: &mut Vec<FamilyRows>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut sizes = FamilyRows::new("hostile_sizes_bytes", MetricKind::Summary, HELP);
        for (at, value) in (0_u32..).zip(hostile_values()) {
            let summary = RowValue::Summary {
                count: u64::from(at) + 2,
                sum: f64::from(at) * 1e17,
                quantiles: vec![(0.5, f64::from(at) / 3.0)],
            };
            sizes.push([("value", value)], summary);
        }
        rows.push(sizes);
        Ok(())
    }
}

/// A registry with every type of metric, own and bridged, and a series for each hostile value; and the observed values of
/// each of its histograms. It no longer changes.
fn frozen(created: bool) -> (Registry, Vec<(String, Vec<f64>)>) {
    let mut random = StdRng::seed_from_u64(3);
    let mut builder = Registry::builder(clock)
        .constant_label("service", "a \"b\" \\ c")
        .created(created);
    let counter = builder.counter(Descriptor::new("hostile_total", HELP, ["value"]));
    let gauge = builder.gauge(Descriptor::new("hostile_level", HELP, ["value"]));
    let wait = Descriptor::new("hostile_wait_seconds", HELP, ["value"]).unit(Unit::Seconds);
    let wait = builder.histogram(wait, &[0.001, 0.5, 1.0, 10.0]);
    let registry = builder.build().expect("a valid registry");

    let register = |metric: Box<dyn Foreign>| {
        registry
            .prometheus()
            .register(metric)
            .expect("a metric to bridge");
    };
    let spent = prometheus::CounterVec::new(
        prometheus::Opts::new("bridged_spent_seconds_total", HELP),
        &["value"],
    )
    .unwrap();
    let level = prometheus::GaugeVec::new(prometheus::Opts::new("bridged_level", HELP), &["value"])
        .unwrap();
    let options = prometheus::HistogramOpts::new("bridged_wait_seconds", HELP);
    let bridged_wait =
        prometheus::HistogramVec::new(options.buckets(vec![0.1, 1.0, 1e9]), &["value"]).unwrap();
    register(Box::new(spent.clone()));
    register(Box::new(level.clone()));
    register(Box::new(bridged_wait.clone()));
    registry.register(Sizes).expect("a collector");

    let levels = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        5e-324,
        f64::MAX,
        -1.5e-7,
        0.1 + 0.2,
    ];
    let mut observed = Vec::new();
    for (at, value) in hostile_values().into_iter().enumerate() {
        counter.series([&value]).add(random.random::<u64>() >> at);
        gauge.series([&value]).add(random.random::<i64>() >> at);
        spent
            .with_label_values(&[&value])
            .inc_by(random.random::<f64>());
        level
            .with_label_values(&[&value])
            .set(levels[at % levels.len()]);
        let mut values = vec![0.0, 5e-324, 1e-12, 3e15];
        // From one observation with few buckets to so many that the resolution is reduced.
        values.extend((0..at * at).map(|_| 0.01 * (8.0 * (random.random::<f64>() - 0.5)).exp()));
        values.truncate(at * at);
        let (own, bridged) = (
            wait.series([&value]),
            bridged_wait.with_label_values(&[&value]),
        );
        for (nth, seconds) in values.iter().enumerate() {
            let span = SpanContext {
                trace_id: random.random(),
                span_id: random.random(),
            };
            own.observe_with(*seconds, nth.is_multiple_of(3).then_some(&span));
            bridged.observe(*seconds);
        }
        observed.push((value, values));
    }
    (registry, observed)
}

#[test]
fn three_formats_of_one_gathering_carry_the_same_values_series_by_series() {
    let Some(python) =
        tools::python("three_formats_of_one_gathering_carry_the_same_values_series_by_series")
    else {
        return;
    };
    for created in [false, true] {
        three_formats_carry_the_same(&python, created);
    }
}

fn three_formats_carry_the_same(python: &Path, created: bool) {
    let (registry, observed) = frozen(created);
    // A counter whose name lacks `_total` gets it in OpenMetrics.
    let jobs =
        prometheus::IntCounterVec::new(prometheus::Opts::new("jobs", HELP), &["value"]).unwrap();
    for value in hostile_values() {
        jobs.with_label_values(&[&value]).inc_by(value.len() as u64);
    }
    registry
        .register_prometheus("jobs", Box::new(jobs))
        .expect("a metric to bridge");

    let text = Reading::of_text(&registry.encode(Format::Text));
    let openmetrics =
        Reading::of_openmetrics(python, &registry.encode(Format::OpenMetrics)).unwrap();
    let protobuf = Reading::of_protobuf(python, &registry.encode(Format::Protobuf)).unwrap();
    assert_same(&text, &openmetrics, &protobuf);
    let of_creation = openmetrics.samples.len() - openmetrics.uncreated().len();
    assert_eq!(of_creation > 0, created);

    // The values are complete and equal to the input.
    let help = &openmetrics.families["hostile"].help;
    assert_eq!(help, HELP);
    for (value, values) in &observed {
        let counted = text.samples.keys().filter(|(name, labels)| {
            labels.get("value") == Some(value) && !name.ends_with("_bucket")
        });
        assert_eq!(counted.count(), 4 + 2 + 2 + 3 + 1, "{value:?}");
        let labels = [("service", "a \"b\" \\ c"), ("value", value)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let series: Series = ("hostile_wait_seconds".to_owned(), labels.into());
        let native = &protobuf.native[&series];
        let positive: Vec<f64> = values.iter().copied().filter(|v| *v > 1e-300).collect();
        let zeros = values.len() - positive.len();
        assert_eq!(native.zero_count, zeros as u64);
        let bound = |index: i32| 2_f64.powf(f64::from(index) * 2_f64.powi(-native.schema));
        let mut inside = 0_u64;
        for (index, count) in &native.buckets {
            let (lower, upper) = (bound(index - 1), bound(*index));
            let within = positive.iter().filter(|v| **v > lower && **v <= upper);
            assert_eq!(within.count() as u64, *count, "bucket {index} of {value:?}");
            inside += count;
        }
        assert_eq!(inside, positive.len() as u64);
        assert!(native.buckets.len() <= 160);
        assert_eq!(native.exemplars.is_empty(), values.is_empty());
        assert!(native.exemplars.len() <= 10);
    }
    assert!(
        protobuf.native.values().any(|native| native.schema < 5),
        "no histogram was lowered"
    );
    assert!(openmetrics.exemplars.len() > 50);
    println!(
        "{} samples, {} exemplars and {} native histograms are the same",
        openmetrics.samples.len(),
        openmetrics.exemplars.len(),
        protobuf.native.len()
    );
}

/// Has each promtool check a text exposition.
fn every_promtool_accepts(test: &str, exposition: &[u8]) {
    for promtool in scrapers::promtools(test) {
        tools::feed(&promtool, &["check", "metrics"], exposition).unwrap();
    }
}

/// A histogram of the `prometheus` crate with these buckets and observations.
fn observed(name: &str, buckets: &[f64], values: &[f64]) -> Box<dyn Foreign> {
    let options = prometheus::HistogramOpts::new(name, HELP).buckets(buckets.to_vec());
    let histogram = prometheus::Histogram::with_opts(options).expect("a histogram");
    for value in values {
        histogram.observe(*value);
    }
    Box::new(histogram)
}

#[test]
fn foreign_readers_accept_what_is_shown_of_values_that_openmetrics_forbids() {
    let name = "foreign_readers_accept_what_is_shown_of_values_that_openmetrics_forbids";
    let Some(python) = tools::python(name) else {
        return;
    };
    let registry = Registry::builder(clock).created(true).build().unwrap();
    for metric in [
        observed("below_zero", &[-1.0, 1.0], &[-3.0, -1.0, 0.5]),
        observed("falling", &[1.0], &[-3.0]),
        observed("no_number", &[1.0], &[f64::NAN]),
    ] {
        registry.prometheus().register(metric).unwrap();
    }
    let text = registry.encode(Format::Text);
    every_promtool_accepts(name, &text);
    let text = Reading::of_text(&text);
    let openmetrics = registry.encode(Format::OpenMetrics);
    let openmetrics = Reading::of_openmetrics(&python, &openmetrics).unwrap();
    let protobuf = Reading::of_protobuf(&python, &registry.encode(Format::Protobuf)).unwrap();
    assert_eq!(protobuf.uncreated(), text.samples);
    let foreign = |reading: &Reading| -> BTreeSet<String> {
        let names = reading.samples.keys().map(|(name, _)| name.clone());
        names.filter(|name| !name.starts_with("vitals_")).collect()
    };
    let missing: Vec<_> = (foreign(&text).difference(&foreign(&openmetrics)).cloned()).collect();
    assert_eq!(
        missing,
        [
            "below_zero_count",
            "below_zero_sum",
            "falling_count",
            "falling_sum",
            "no_number_count",
            "no_number_sum",
        ]
    );
}

#[test]
fn foreign_readers_accept_families_that_clash_in_openmetrics_alone() {
    let name = "foreign_readers_accept_families_that_clash_in_openmetrics_alone";
    let Some(python) = tools::python(name) else {
        return;
    };
    let registry = Registry::builder(clock).created(true).build().unwrap();
    let gauge = prometheus::IntGauge::new("jobs", HELP).unwrap();
    let counter = prometheus::IntCounter::new("jobs_total", HELP).unwrap();
    registry.prometheus().register(Box::new(gauge)).unwrap();
    registry.prometheus().register(Box::new(counter)).unwrap();
    let text = registry.encode(Format::Text);
    every_promtool_accepts(name, &text);
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("\njobs 0\n") && text.contains("\njobs_total 0\n"));
    let openmetrics = registry.encode(Format::OpenMetrics);
    let openmetrics = Reading::of_openmetrics(&python, &openmetrics).unwrap();
    assert_eq!(openmetrics.families["jobs"].kind, "gauge");
}

#[test]
fn promtool_finds_no_fault_with_hostile_label_values() {
    let (registry, _) = frozen(false);
    let test = "promtool_finds_no_fault_with_hostile_label_values";
    every_promtool_accepts(test, &registry.encode(Format::Text));
}

#[test]
fn the_foreign_readers_refuse_what_is_broken() {
    let test = "the_foreign_readers_refuse_what_is_broken";
    let Some(python) = tools::python(test) else {
        return;
    };
    let registry = frozen(false).0;
    for (exposition, why) in [
        (
            "# TYPE a counter\na 1\n# EOF\n",
            "a counter without its suffix",
        ),
        ("# TYPE a counter\na_total 1\n", "no end"),
        (
            "# TYPE a gauge\na{b=\"\"c\"} 1\n# EOF\n",
            "a quote that is not escaped",
        ),
        ("# TYPE a gauge\na 1\na 1\n# EOF\n", "a series twice"),
    ] {
        let read = Reading::of_openmetrics(&python, exposition.as_bytes());
        assert!(read.is_err(), "{why} was accepted");
    }
    let whole = registry.encode(Format::Protobuf);
    let cut = whole[..whole.len() - 1].to_vec();
    for (exposition, why) in [
        (cut, "half a message"),
        (b"\x03\x0a\x05a".to_vec(), "a field longer than its message"),
        (
            b"\x03\xa0\x06\x01".to_vec(),
            "a field that the schema does not have",
        ),
        // A histogram with one observation, which is in no native bucket.
        (
            b"\x0d\x0a\x01a\x18\x04\x22\x06\x3a\x04\x08\x01\x62\x00".to_vec(),
            "a count without its bucket",
        ),
    ] {
        let read = Reading::of_protobuf(&python, &exposition);
        assert!(read.is_err(), "{why} was accepted");
    }
    for promtool in scrapers::promtools(test) {
        let check = tools::feed(&promtool, &["check", "metrics"], b"a{b=\"\"c\"} 1\n");
        assert!(check.is_err(), "a quote that is not escaped was accepted");
    }
}

/// The path of the service's items.
const ITEMS: &str = "/data";

/// The complaints of promtool about names that the convention chose.
const LINT_OF_THE_CONVENTION: &str = r#"db_client_connection_count non-histogram and non-summary metrics should not have "_count" suffix"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_hostile_traffic_promtool_finds_no_fault() {
    for promtool in scrapers::promtools("after_hostile_traffic_promtool_finds_no_fault") {
        let check = async |flags: &[&str]| {
            let server = Server::start_with(flags);
            promtool_finds_no_fault(&promtool, &server, ITEMS).await
        };
        check(&[]).await.unwrap();
        let said = check(&["--naming", "otel"]).await.unwrap_err();
        let said: Vec<&str> = said.lines().skip(1).collect();
        assert_eq!(said, [LINT_OF_THE_CONVENTION]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_hostile_traffic_foreign_readers_find_the_same_in_all_formats() {
    let test = "after_hostile_traffic_foreign_readers_find_the_same_in_all_formats";
    let Some(python) = tools::python(test) else {
        return;
    };
    for flags in [&[][..], &["--created"]] {
        let server = Server::start_with(flags);
        foreign_readers_find_the_same(&python, &server, ITEMS, OUR_UNITS).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_readers_find_the_same_in_all_formats_by_the_names_of_opentelemetry() {
    let test = "foreign_readers_find_the_same_in_all_formats_by_the_names_of_opentelemetry";
    let Some(python) = tools::python(test) else {
        return;
    };
    let server = Server::start_with(&["--naming", "otel"]);
    let theirs = [
        ("http_server_request_body_size_bytes", "bytes"),
        ("db_client_operation_duration_seconds", "seconds"),
    ];
    foreign_readers_find_the_same(&python, &server, ITEMS, theirs).await;
}
