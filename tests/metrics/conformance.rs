//! After hostile traffic, and with hostile label values: foreign readers accept each format, and all three formats of one
//! gathering carry the same values, series by series.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use actix_vitals::registry::{
    Collector, Descriptor, FamilyDescription, Format, Registry, SpanContext, Unit,
};
use prometheus::core::Collector as Foreign;
use prometheus::proto;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};

use crate::foreign::{Reading, Series};
use crate::server::{Answer, Server};
use crate::settled::settled;
use crate::tools;

/// What a value can do to a format that does not escape it well.
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

/// A summary, which no metric of the `prometheus` crate is, with hostile labels.
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
        rows: &mut Vec<proto::MetricFamily>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut family = proto::MetricFamily::default();
        family.set_name("hostile_sizes_bytes".to_owned());
        family.set_help(HELP.to_owned());
        family.set_field_type(proto::MetricType::SUMMARY);
        for (at, value) in (0_u32..).zip(hostile_values()) {
            let mut pair = proto::LabelPair::default();
            pair.set_name("value".to_owned());
            pair.set_value(value);
            let mut quantile = proto::Quantile::default();
            quantile.set_quantile(0.5);
            quantile.set_value(f64::from(at) / 3.0);
            let mut summary = proto::Summary::default();
            summary.set_quantile(vec![quantile]);
            summary.set_sample_count(u64::from(at) + 2);
            summary.set_sample_sum(f64::from(at) * 1e17);
            let mut metric = proto::Metric::default();
            metric.set_label(vec![pair]);
            metric.set_summary(summary);
            family.mut_metric().push(metric);
        }
        rows.push(family);
        Ok(())
    }
}

/// A registry with every kind of metric, its own and bridged, a series for each hostile value, and what was observed by
/// each histogram of its own. Nothing moves any more.
fn frozen() -> (Registry, Vec<(String, Vec<f64>)>) {
    let mut random = StdRng::seed_from_u64(3);
    let mut builder = Registry::builder(clock).constant_label("service", "a \"b\" \\ c");
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
        // From one observation, whose buckets are few, to so many that the resolution is lowered.
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

/// That three readings of one gathering say the same, as far as the formats go.
fn assert_same(text: &Reading, openmetrics: &Reading, protobuf: &Reading) {
    for (series, value) in openmetrics.samples.iter().chain(&protobuf.samples) {
        assert_eq!(
            openmetrics.samples.get(series),
            protobuf.samples.get(series),
            "OpenMetrics and protobuf differ in {series:?}, {value}"
        );
    }
    assert_eq!(text.samples, openmetrics.uncreated());
    assert_eq!(openmetrics.exemplars, protobuf.exemplars);
    assert_eq!(openmetrics.families, protobuf.families);
    let mut families = openmetrics.families.clone();
    for family in families.values_mut() {
        family.unit.clear();
    }
    assert_eq!(text.families, families);
}

#[test]
fn three_formats_of_one_gathering_carry_the_same_values_series_by_series() {
    let Some(python) =
        tools::python("three_formats_of_one_gathering_carry_the_same_values_series_by_series")
    else {
        return;
    };
    let (registry, observed) = frozen();
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
        Reading::of_openmetrics(&python, &registry.encode(Format::OpenMetrics)).unwrap();
    let protobuf = Reading::of_protobuf(&python, &registry.encode(Format::Protobuf)).unwrap();
    assert_same(&text, &openmetrics, &protobuf);

    // They are what was put in, and none is missing.
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

#[test]
fn promtool_finds_no_fault_with_hostile_label_values() {
    let Some(promtool) = tools::promtool("promtool_finds_no_fault_with_hostile_label_values")
    else {
        return;
    };
    let (registry, _) = frozen();
    tools::feed(
        &promtool,
        &["check", "metrics"],
        &registry.encode(Format::Text),
    )
    .unwrap();
}

#[test]
fn the_foreign_readers_refuse_what_is_broken() {
    let test = "the_foreign_readers_refuse_what_is_broken";
    let (Some(python), Some(promtool)) = (tools::python(test), tools::promtool(test)) else {
        return;
    };
    let registry = frozen().0;
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
        // A histogram with one observation, of which no native bucket knows.
        (
            b"\x0d\x0a\x01a\x18\x04\x22\x06\x3a\x04\x08\x01\x62\x00".to_vec(),
            "a count without its bucket",
        ),
    ] {
        let read = Reading::of_protobuf(&python, &exposition);
        assert!(read.is_err(), "{why} was accepted");
    }
    let check = tools::feed(&promtool, &["check", "metrics"], b"a{b=\"\"c\"} 1\n");
    assert!(check.is_err(), "a quote that is not escaped was accepted");
}

/// Sends these bytes over a connection of their own and reads whatever comes back until it is closed.
fn send_raw(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.authority()).expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    // A server that has seen enough may answer and close before it has read all: the answer is what counts.
    let _written = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _cut = stream.read_to_end(&mut answer);
    answer
}

const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Some of everything that clients should not send, and of what they should.
async fn hostile_traffic(server: &Server) {
    let id = server.create("Ada").await;
    for path in [
        "/data",
        &format!("/data/{id}"),
        "/data/%22quoted%22",
        "/data/%5Cback%5Cslash",
        "/line%0Afeed",
        "/%F0%9F%98%80",
        "/%FF%FE",
        "/a/../b",
        "/{item_id}",
        &format!("/{}", "long".repeat(1000)),
    ] {
        server.get(path).await;
    }
    let name = "\"\\\n\u{1f600}";
    let body = json!({"name": name, "email": "ada@example.com"});
    server.send(Method::POST, "/data", &body).await;
    let brew = Method::from_bytes(b"BREW").unwrap();
    Answer::of(server.request(brew, "/data")).await;
    let traced = server
        .request(Method::GET, "/data")
        .header("traceparent", SAMPLED);
    assert_eq!(Answer::of(traced).await.status, 200);

    let long = "x".repeat(60_000);
    let quoted = "\"\\}{=,#".repeat(100);
    let mut answered = 0;
    for head in [
        b"GET /\"quotes\"{a=\"b\"} HTTP/1.1\r\n".to_vec(),
        b"GET /back\\slash\\n HTTP/1.1\r\n".to_vec(),
        b"GET /line\nfeed HTTP/1.1\r\n".to_vec(),
        b"GET /carriage\rreturn HTTP/1.1\r\n".to_vec(),
        b"GET /nul\0byte HTTP/1.1\r\n".to_vec(),
        "GET /\u{1f600} HTTP/1.1\r\n".as_bytes().to_vec(),
        b"GET /data/\xff\xfe\xf0\x28 HTTP/1.1\r\n".to_vec(),
        b"GET /%ff%fe%00%0a%22%5c HTTP/1.1\r\n".to_vec(),
        format!("GET /{long} HTTP/1.1\r\n").into_bytes(),
        format!("GET /data?{long} HTTP/1.1\r\n").into_bytes(),
        b"GE\"T\\ /data HTTP/1.1\r\n".to_vec(),
        "G\u{1f600}T /data HTTP/1.1\r\n".as_bytes().to_vec(),
        format!("{} /data HTTP/1.1\r\n", "M".repeat(500)).into_bytes(),
        b"#EOF|~!$%&'*+-.^_` /data HTTP/1.1\r\n".to_vec(),
        b"GET http://\"host\\/data HTTP/1.1\r\n".to_vec(),
        b"GET /data HTTP/1.1\r\ntraceparent: 00-\xff\xfe-\"\\-01\r\n".to_vec(),
        format!("GET /data HTTP/1.1\r\ntraceparent: {quoted}\r\naccept: {quoted}\r\n").into_bytes(),
        b"PUT /data/\xf0\x9f HTTP/1.1\r\ncontent-length: 4\r\ncontent-type: \"\\\r\n".to_vec(),
        b"\xff\xfe\x00\"\\\n".to_vec(),
    ] {
        let mut request = head;
        request.extend_from_slice(b"host: \"a\\b\"\r\nconnection: close\r\n\r\nbody");
        answered += usize::from(!send_raw(server, &request).is_empty());
    }
    assert!(answered >= 15, "only {answered} were answered");
}

async fn scrape_as(server: &Server, accept: &str) -> Vec<u8> {
    let request = server
        .request(Method::GET, "/metrics")
        .header("accept", accept);
    let response = request.send().await.expect("the server answers");
    assert_eq!(response.status(), 200, "{accept}");
    response.bytes().await.expect("the whole body").to_vec()
}

const TEXT: &str = "text/plain;version=0.0.4";
const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0";
const PROTOBUF: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

/// What promtool says of the names that the convention itself has chosen.
const LINT_OF_THE_CONVENTION: &str = r#"db_client_connection_count non-histogram and non-summary metrics should not have "_count" suffix"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_hostile_traffic_promtool_finds_no_fault() {
    let Some(promtool) = tools::promtool("after_hostile_traffic_promtool_finds_no_fault") else {
        return;
    };
    let check = async |flags: &[&str]| {
        let server = Server::start_with(flags);
        hostile_traffic(&server).await;
        settled(&server).await;
        let text = scrape_as(&server, TEXT).await;
        tools::feed(&promtool, &["check", "metrics"], &text)
    };
    check(&[]).await.unwrap();
    let said = check(&["--naming", "otel"]).await.unwrap_err();
    let said: Vec<&str> = said.lines().skip(1).collect();
    assert_eq!(said, [LINT_OF_THE_CONVENTION]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_hostile_traffic_foreign_readers_find_the_same_in_all_formats() {
    let test = "after_hostile_traffic_foreign_readers_find_the_same_in_all_formats";
    let ours = [
        ("http_requests", ""),
        ("db_query_duration_seconds", "seconds"),
    ];
    foreign_readers_find_the_same(test, &[], ours).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_readers_find_the_same_in_all_formats_by_the_names_of_opentelemetry() {
    let test = "foreign_readers_find_the_same_in_all_formats_by_the_names_of_opentelemetry";
    let theirs = [
        ("http_server_request_body_size_bytes", "bytes"),
        ("db_client_operation_duration_seconds", "seconds"),
    ];
    foreign_readers_find_the_same(test, &["--naming", "otel"], theirs).await;
}

/// Compares what each format says after hostile traffic to a server with these flags, and the units of some families.
async fn foreign_readers_find_the_same(name: &str, flags: &[&str], units: [(&str, &str); 2]) {
    let Some(python) = tools::python(name) else {
        return;
    };
    let server = Server::start_with(flags);
    hostile_traffic(&server).await;
    settled(&server).await;
    let before = Reading::of_text(&scrape_as(&server, TEXT).await);
    let mut openmetrics =
        Reading::of_openmetrics(&python, &scrape_as(&server, OPENMETRICS).await).unwrap();
    let mut protobuf = Reading::of_protobuf(&python, &scrape_as(&server, PROTOBUF).await).unwrap();
    let mut text = Reading::of_text(&scrape_as(&server, TEXT).await);
    for other in [
        &openmetrics.uncreated(),
        &protobuf.uncreated(),
        &text.samples,
    ] {
        assert!(before.samples.keys().eq(other.keys()), "other series");
    }
    for (family, unit) in units {
        assert_eq!(openmetrics.families[family].unit, unit);
    }

    // Scrapes are requests too. What moves with them, and with time, is left out.
    let resting = |(name, labels): &Series| {
        let recorded = name.starts_with("http_") || name.starts_with("db_");
        let of_scrapes = ["endpoint", "http_route"]
            .iter()
            .any(|label| labels.get(*label).is_some_and(|route| route == "/metrics"));
        recorded && !of_scrapes && name != "http_server_active_requests"
    };
    for reading in [&mut text, &mut openmetrics, &mut protobuf] {
        reading.samples.retain(|series, _| resting(series));
        reading.exemplars.retain(|series, _| resting(series));
    }
    for (series, value) in &text.samples {
        assert_eq!(&before.samples[series], value, "{series:?} moves");
    }
    assert_same(&text, &openmetrics, &protobuf);

    let traces: Vec<&Value> = (openmetrics.exemplars.values())
        .map(|exemplar| &exemplar["labels"]["trace_id"])
        .collect();
    assert!(traces.len() >= 2, "of the request and of its query");
    assert!(
        traces
            .iter()
            .all(|trace| SAMPLED.contains(trace.as_str().unwrap()))
    );
    assert!(text.samples.len() > 200, "{} samples", text.samples.len());
    assert!(protobuf.native.len() > 20, "{}", protobuf.native.len());
    println!(
        "{} resting samples, {} exemplars and {} native histograms are the same",
        text.samples.len(),
        openmetrics.exemplars.len(),
        protobuf.native.len()
    );
}
