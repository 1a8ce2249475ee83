//! What is sent for each kind of family: the messages are decoded and compared with what was recorded.

#![allow(
    clippy::cast_possible_truncation,
    reason = "indices of buckets are small"
)]

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use prost::Message as _;
use vitals_registry::{
    Collector, Descriptor, FamilyRows, HistogramSnapshot, RowValue, Source, SpanContext,
};

use super::*;

const AT: Duration = Duration::new(1_700_000_000, 5);

fn clock() -> Duration {
    AT
}

/// When the process started.
const STARTED: Duration = Duration::from_secs(1_650_000_000);

fn origin() -> Origin {
    Origin {
        resource: vec![text_attribute("service.name", "shop")],
        clock,
        started: STARTED,
    }
}

/// The requests of one push, decoded.
fn requests(registry: &Registry) -> Vec<ExportMetricsServiceRequest> {
    let collected: Vec<_> = registry.sources().iter().map(Source::read).collect();
    let mut requests = Vec::new();
    encode(registry, &collected, &origin(), &mut |body| {
        requests.push(ExportMetricsServiceRequest::decode(&body[..]).unwrap());
        true
    });
    requests
}

/// The metrics of all requests, in order.
fn metrics(registry: &Registry) -> Vec<Metric> {
    let requests = requests(registry).into_iter();
    let resources = requests.flat_map(|request| request.resource_metrics);
    let scopes = resources.flat_map(|resource| resource.scope_metrics);
    scopes.flat_map(|scope| scope.metrics).collect()
}

fn data(registry: &Registry, name: &str) -> Data {
    let found = metrics(registry)
        .into_iter()
        .find(|metric| metric.name == name);
    found.unwrap().data.unwrap()
}

fn only_point(registry: &Registry, name: &str) -> ExponentialHistogramDataPoint {
    match data(registry, name) {
        Data::ExponentialHistogram(mut histogram) => {
            assert_eq!(histogram.aggregation_temporality, CUMULATIVE);
            assert_eq!(histogram.data_points.len(), 1);
            histogram.data_points.remove(0)
        }
        other => panic!("{other:?}"),
    }
}

/// The bounds of bucket `index` by the definition of OTLP.
fn otlp_bounds(scale: i32, index: i32) -> (f64, f64) {
    let base_exponent = 2_f64.powi(-scale);
    let bound = |index: i32| (f64::from(index) * base_exponent).exp2();
    (bound(index), bound(index + 1))
}

#[test]
fn counters_and_gauges_keep_their_values_labels_and_times() {
    let mut builder = Registry::builder(clock).constant_label("region", "eu");
    let orders = builder.counter(Descriptor::new("orders_total", "Orders.", ["article"]));
    let spent = builder
        .float_counter(Descriptor::new("spent_seconds_total", "Spent.", []).unit(Unit::Seconds));
    let active = builder.gauge(Descriptor::new("active_bytes", "Active.", []).unit(Unit::Bytes));
    let registry = builder.build().unwrap();
    orders.series(["größe \"1\"\n"]).add(7);
    spent.get().add(0.25);
    active.get().add(-3);

    let all = metrics(&registry);
    let head = |at: usize| (&*all[at].name, &*all[at].description, &*all[at].unit);
    assert_eq!(head(0), ("orders_total", "Orders.", ""));
    assert_eq!(head(1), ("spent_seconds_total", "Spent.", "s"));
    assert_eq!(head(2), ("active_bytes", "Active.", "By"));
    let nanoseconds = 1_700_000_000_000_000_005;
    let Data::Sum(sum) = data(&registry, "orders_total") else {
        panic!("a counter is a sum");
    };
    assert!(sum.is_monotonic);
    assert_eq!(sum.aggregation_temporality, CUMULATIVE);
    let point = &sum.data_points[0];
    assert_eq!(
        point.attributes,
        [
            text_attribute("region", "eu"),
            text_attribute("article", "größe \"1\"\n")
        ]
    );
    assert_eq!(point.value, Some(number_data_point::Value::AsInt(7)));
    assert_eq!(point.start_time_unix_nano, nanoseconds);
    assert_eq!(point.time_unix_nano, nanoseconds);
    let Data::Sum(sum) = data(&registry, "spent_seconds_total") else {
        panic!("a counter is a sum");
    };
    assert_eq!(
        sum.data_points[0].value,
        Some(number_data_point::Value::AsDouble(0.25))
    );
    let Data::Gauge(gauge) = data(&registry, "active_bytes") else {
        panic!("a gauge is a gauge");
    };
    let point = &gauge.data_points[0];
    assert_eq!(point.value, Some(number_data_point::Value::AsInt(-3)));
    assert_eq!(point.start_time_unix_nano, 0, "a level has no beginning");
    let resource = requests(&registry)[0].resource_metrics[0]
        .resource
        .clone()
        .unwrap();
    assert_eq!(
        resource.attributes,
        [text_attribute("service.name", "shop")]
    );
}

#[test]
fn a_dotted_name_goes_without_unit_and_type() {
    let mut builder = Registry::builder(clock);
    let duration = "http.server.request.duration_seconds";
    let duration = Descriptor::new(duration, "Durations.", ["http.route"]).unit(Unit::Seconds);
    builder
        .histogram(duration, &[1.0])
        .series(["/"])
        .observe(0.5);
    let timeouts = Descriptor::new("db.client.connection.timeouts_total", "Timeouts.", []);
    builder.counter(timeouts);
    let sent = Descriptor::new("sent.body.size_bytes_total", "Bytes.", []).unit(Unit::Bytes);
    builder.counter(sent);
    builder.gauge(Descriptor::new("active_requests_total", "No counter.", []));
    builder.gauge(Descriptor::new(
        "http.server.active_requests",
        "Active.",
        [],
    ));
    let registry = builder.build().unwrap();
    let all = metrics(&registry);
    let named: Vec<_> = (all.iter())
        .map(|metric| (&*metric.name, &*metric.unit))
        .collect();
    assert_eq!(
        named[..5],
        [
            ("http.server.request.duration", "s"),
            ("db.client.connection.timeouts", ""),
            ("sent.body.size", "By"),
            ("active_requests_total", ""),
            ("http.server.active_requests", ""),
        ]
    );
    let point = only_point(&registry, "http.server.request.duration");
    assert_eq!(point.attributes, [text_attribute("http.route", "/")]);
}

#[test]
fn native_buckets_keep_their_bounds_and_counts() {
    let mut builder = Registry::builder(clock);
    let wait = builder.histogram(Descriptor::new("wait", "Waits.", []), &[1.0]);
    let registry = builder.build().unwrap();
    let values = [
        0.0, 1e-9, 0.000_7, 0.25, 0.250_001, 0.5, 1.0, 1.0, 3.7, 4096.0,
    ];
    for value in values {
        wait.get().observe(value);
    }
    let span = SpanContext {
        trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
        span_id: 0x00f0_67aa_0ba9_02b7,
    };
    wait.get().observe_with(0.125, Some(&span));
    let point = only_point(&registry, "wait");
    assert_eq!((point.count, point.zero_count, point.scale), (11, 1, 5));
    assert!((point.zero_threshold - 2_f64.powi(-128)).abs() < f64::MIN_POSITIVE);
    let sum: f64 = values.iter().sum::<f64>() + 0.125;
    assert!((point.sum.unwrap() - sum).abs() < 1e-9);
    assert_eq!((point.min, point.max, &point.negative), (None, None, &None));
    let positive = point.positive.unwrap();
    assert_eq!(positive.bucket_counts.iter().sum::<u64>(), 10);
    assert!(positive.bucket_counts.first() > Some(&0) && positive.bucket_counts.last() > Some(&0));
    // Every value is in the bucket that OTLP's definition puts it in; a bound belongs to the bucket below it.
    for value in values
        .into_iter()
        .filter(|value| *value > 0.0)
        .chain([0.125])
    {
        let at = (positive.offset..)
            .zip(&positive.bucket_counts)
            .filter(|(_, count)| **count > 0)
            .filter(|(index, _)| {
                let (lower, upper) = otlp_bounds(5, *index);
                value > lower * (1.0 + 1e-12) && value <= upper * (1.0 + 1e-12)
            });
        assert_eq!(at.count(), 1, "{value}");
    }
    let [exemplar] = &point.exemplars[..] else {
        panic!("{:?}", point.exemplars);
    };
    assert_eq!(exemplar.trace_id, hex("4bf92f3577b34da6a3ce929d0e0e4736"));
    assert_eq!(exemplar.span_id, hex("00f067aa0ba902b7"));
    assert_eq!(exemplar.value, Some(exemplar::Value::AsDouble(0.125)));
    assert_eq!(exemplar.time_unix_nano, 1_700_000_000_000_000_005);
}

fn hex(text: &str) -> Vec<u8> {
    let pairs = (0..text.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn a_histogram_without_observations_has_no_buckets() {
    let mut builder = Registry::builder(clock);
    builder.histogram(Descriptor::new("wait", "Waits.", []), &[1.0]);
    let point = only_point(&builder.build().unwrap(), "wait");
    assert_eq!((point.count, point.zero_count), (0, 0));
    assert_eq!(point.positive, Some(Buckets::default()));
}

#[test]
fn the_registrys_limit_of_buckets_lowers_the_scale() {
    let mut builder = Registry::builder(clock).native_buckets(10);
    let wait = builder.histogram(Descriptor::new("wait", "Waits.", []), &[1.0]);
    let registry = builder.build().unwrap();
    for value in 1..1000_i32 {
        wait.get().observe(f64::from(value) * 0.01);
    }
    let point = only_point(&registry, "wait");
    assert_eq!((point.scale, point.count), (-1, 999));
    let positive = point.positive.unwrap();
    assert_eq!(positive.bucket_counts.iter().sum::<u64>(), 999);
    let (lower, _) = otlp_bounds(-1, positive.offset);
    assert!(lower < 0.01, "{lower}");
}

#[test]
fn buckets_far_apart_are_merged_until_they_fit() {
    let mut builder = Registry::builder(clock);
    let wait = builder.histogram(Descriptor::new("wait", "Waits.", []), &[1.0]);
    let registry = builder.build().unwrap();
    for value in [1e-30, 1.0, 2.0, f64::MAX, f64::INFINITY] {
        wait.get().observe(value);
    }
    let point = only_point(&registry, "wait");
    let positive = point.positive.unwrap();
    let length = positive.bucket_counts.len();
    assert!(
        length <= MOST_BUCKETS as usize && length > MOST_BUCKETS as usize / 4,
        "{length}"
    );
    assert_eq!(positive.bucket_counts.iter().sum::<u64>(), 5);
    let (lower, upper) = otlp_bounds(point.scale, positive.offset);
    assert!(lower < 1e-30 && upper >= 1e-30, "{lower} {upper}");
    let at = |value: f64| {
        let index = (value.log2() * 2_f64.powi(point.scale)).ceil() as i32 - 1;
        positive.bucket_counts[usize::try_from(index - positive.offset).unwrap()]
    };
    assert_eq!(
        (at(1.0), at(2.0)),
        (1, 1),
        "bounds stay in the bucket below them"
    );
}

/// Rows of each kind that a collector may return.
struct EachKind;

impl Collector for EachKind {
    fn name(&self) -> &'static str {
        "each-kind"
    }

    fn describe(&self) -> Vec<FamilyDescription> {
        Vec::new()
    }

    fn collect(
        &self,
        rows: &mut Vec<FamilyRows>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut stock = FamilyRows::new("stock", MetricKind::Gauge, "Stock.");
        stock.push([("article", "book"), ("shelf", "")], -2.5);
        stock.push_at([("article", "old")], 1.0, 1_600_000_000_123);
        let mut sold = FamilyRows::new("sold_total", MetricKind::Counter, "Sold.");
        sold.push_single(7.0);
        let mut past = FamilyRows::new("past_total", MetricKind::Counter, "Past.");
        past.push_at([("article", "old")], 1.0, 1_600_000_000_123);
        let mut odd = FamilyRows::new("odd", MetricKind::Unknown, "Odd.");
        odd.push_single(1e300);
        let mut classic = FamilyRows::new("classic_seconds", MetricKind::Histogram, "Classic.");
        classic.push(
            [("of", "positive")],
            HistogramSnapshot {
                count: 6,
                sum: 4.5,
                classic: vec![(1.0, 1), (2.0, 3)],
                ..HistogramSnapshot::default()
            },
        );
        classic.push(
            [("of", "negative")],
            HistogramSnapshot {
                count: 1,
                sum: -4.5,
                classic: vec![(-1.0, 1)],
                ..HistogramSnapshot::default()
            },
        );
        let mut ranks = FamilyRows::new("ranks", MetricKind::Summary, "Ranks.");
        ranks.push_single(RowValue::Summary {
            count: 2,
            sum: 3.0,
            quantiles: vec![(0.5, 1.0), (0.9, 2.0)],
        });
        rows.extend([stock, sold, past, odd, classic, ranks]);
        Ok(())
    }
}

#[test]
fn rows_of_collectors_are_pushed_by_their_types() {
    let registry = Registry::builder(clock).build().unwrap();
    registry.register(EachKind).unwrap();
    let embedded = prometheus::IntCounter::new("embedded_total", "Embedded.").unwrap();
    registry
        .prometheus()
        .register(Box::new(embedded.clone()))
        .unwrap();
    embedded.inc_by(3);

    let Data::Gauge(stock) = data(&registry, "stock") else {
        panic!("a gauge is a gauge");
    };
    let [book, old] = &stock.data_points[..] else {
        panic!("{stock:?}");
    };
    assert_eq!(
        book.attributes,
        [text_attribute("article", "book")],
        "an empty label is none"
    );
    assert_eq!(book.value, Some(number_data_point::Value::AsDouble(-2.5)));
    assert_eq!(old.time_unix_nano, 1_600_000_000_123_000_000);
    for (name, value) in [("sold_total", 7.0), ("embedded_total", 3.0)] {
        let Data::Sum(sum) = data(&registry, name) else {
            panic!("a counter is a sum");
        };
        let point = &sum.data_points[0];
        assert_eq!(point.value, Some(number_data_point::Value::AsDouble(value)));
        assert_eq!(
            point.start_time_unix_nano, 1_650_000_000_000_000_000,
            "it has counted since the process started"
        );
    }
    let Data::Sum(past) = data(&registry, "past_total") else {
        panic!("a counter is a sum");
    };
    let [point] = &past.data_points[..] else {
        panic!("{past:?}");
    };
    assert_eq!(
        point.start_time_unix_nano, point.time_unix_nano,
        "no total is older than its value"
    );
    let odd = metrics(&registry)
        .into_iter()
        .find(|metric| metric.name == "odd")
        .unwrap();
    assert_eq!(odd.metadata, [text_attribute("prometheus.type", "unknown")]);
    assert!(matches!(odd.data, Some(Data::Gauge(_))));
    let Data::Histogram(classic) = data(&registry, "classic_seconds") else {
        panic!("classic buckets are a histogram");
    };
    let [negative, positive] = &classic.data_points[..] else {
        panic!("{classic:?}");
    };
    let (negative, positive) = match negative.sum {
        None => (negative, positive),
        Some(_) => (positive, negative),
    };
    assert_eq!(positive.explicit_bounds, [1.0, 2.0]);
    assert_eq!(positive.bucket_counts, [1, 2, 3]);
    assert_eq!((positive.count, positive.sum), (6, Some(4.5)));
    assert_eq!(
        (negative.count, negative.sum),
        (1, None),
        "a sum that may fall is none"
    );
    let Data::Summary(ranks) = data(&registry, "ranks") else {
        panic!("a summary is a summary");
    };
    let point = &ranks.data_points[0];
    assert_eq!(
        (point.count, point.sum, point.quantile_values.len()),
        (2, 3.0, 2)
    );
}

#[test]
fn large_counts_stay_exact_as_long_as_the_protocol_can_hold_them() {
    let mut builder = Registry::builder(clock);
    let family = builder.counter(Descriptor::new("large_total", "Large.", ["at"]));
    let registry = builder.build().unwrap();
    let most = u64::try_from(i64::MAX).unwrap();
    family.series(["most"]).add(most);
    family.series(["beyond"]).add(most + 1);
    let Data::Sum(sum) = data(&registry, "large_total") else {
        panic!("a counter is a sum");
    };
    let values: Vec<_> = sum
        .data_points
        .iter()
        .filter_map(|point| point.value)
        .collect();
    assert_eq!(
        values,
        [
            number_data_point::Value::AsInt(i64::MAX),
            number_data_point::Value::AsDouble(9_223_372_036_854_775_808.0)
        ]
    );
}

#[test]
fn a_push_is_split_into_requests_of_bounded_size() {
    let mut builder = Registry::builder(clock);
    let family = builder.counter(Descriptor::new("many_total", "Many.", ["number"]));
    let registry = builder.build().unwrap();
    for number in 0..1500_u64 {
        family.series([&number.to_string()]).add(number);
    }
    let requests = requests(&registry);
    let mut seen = Vec::new();
    for request in &requests {
        let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
        let mut points = 0;
        for metric in metrics {
            match metric.data.as_ref().unwrap() {
                Data::Sum(sum) => {
                    points += sum.data_points.len();
                    if metric.name == "many_total" {
                        seen.extend(sum.data_points.iter().filter_map(|point| point.value));
                    }
                }
                Data::Gauge(gauge) => points += gauge.data_points.len(),
                other => panic!("{other:?}"),
            }
        }
        assert!(points <= MOST_POINTS && points > 0, "{points}");
    }
    assert_eq!(requests.len(), 2);
    let all: Vec<_> = (0..1500).map(number_data_point::Value::AsInt).collect();
    assert_eq!(seen, all, "each once, in order");
}

#[test]
fn nothing_more_is_encoded_once_a_request_fails() {
    let mut builder = Registry::builder(clock);
    let family = builder.counter(Descriptor::new("many_total", "Many.", ["number"]));
    let registry = builder.build().unwrap();
    for number in 0..1999 {
        family.series([&number.to_string()]);
    }
    let mut sent = 0;
    encode(&registry, &[], &origin(), &mut |_| {
        sent += 1;
        false
    });
    assert_eq!(sent, 1);
}
