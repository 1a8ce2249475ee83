//! Measures a scrape of 1,000 histogram series of 14 lines in each format, beside the encoders of the `prometheus` crate. The
//! lower limit beside them writes cached prefixes and numbers, and does nothing else.
//!
//! `cargo bench --bench exposition --features prometheus-protobuf`; without the feature, there is no `ProtobufEncoder` to
//! compare with. An argument after `--` sets the number of series. Without one, the time for each of 1,000, 10,000 and 100,000
//! series is printed too, with rows for `client_golang`'s promhttp if `scripts/go-tools.sh` has built it.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

#[path = "shared/interleave.rs"]
mod interleave;

use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use actix_vitals::registry::{Descriptor, Format, NameFilter, Registry, Unit};
use interleave::Case;
use prometheus::Encoder;
use serde_json::Value;

const BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
const LABELS: [&str; 3] = ["method", "endpoint", "http_status"];
const ROUNDS: usize = 200;

/// Latencies around 20 ms, log-normal: two thirds within a factor of 1.5, all within one of 3.
fn latencies() -> impl Iterator<Item = f64> {
    // The sum of twelve shares of a low-discrepancy sequence each is near enough to a normal distribution.
    (1_u32..=200).map(|i| {
        let share = |k: u32| (f64::from(i) * f64::from(k).sqrt()).fract();
        let normal = [2, 3, 5, 6, 7, 10, 11, 13, 14, 15, 17, 19]
            .map(share)
            .iter()
            .sum::<f64>()
            - 6.0;
        0.02 * (0.4 * normal).exp()
    })
}

fn ours(endpoints: &[String], latencies: &[f64]) -> Registry {
    let mut builder =
        Registry::builder(|| Duration::from_secs(1_700_000_000)).max_series(usize::MAX);
    let duration = builder.histogram(
        Descriptor::new(
            "http_request_duration_seconds",
            "Durations of requests.",
            LABELS,
        )
        .unit(Unit::Seconds),
        &BUCKETS,
    );
    for endpoint in endpoints {
        let series = duration.series(["GET", endpoint, "200"]);
        for latency in latencies {
            series.observe(*latency);
        }
    }
    builder.build().unwrap()
}

fn peer(endpoints: &[String]) -> prometheus::Registry {
    let options =
        prometheus::HistogramOpts::new("http_request_duration_seconds", "Durations of requests.")
            .buckets(BUCKETS.to_vec());
    let duration = prometheus::HistogramVec::new(options, &LABELS).unwrap();
    for endpoint in endpoints {
        let series = duration.with_label_values(&["GET", endpoint, "200"]);
        latencies().for_each(|latency| series.observe(latency));
    }
    let registry = prometheus::Registry::new();
    registry.register(Box::new(duration)).unwrap();
    registry
}

fn scrape(registry: &Registry, format: Format, out: &mut Vec<u8>) {
    out.clear();
    let mut scrape = registry.scrape(format, &NameFilter::all());
    while scrape.next_chunk(out) {}
    black_box(&*out);
}

/// Every line of the text exposition, its value apart.
fn cached_lines(registry: &Registry) -> Vec<(String, u64)> {
    let text = String::from_utf8(registry.encode(Format::Text)).unwrap();
    (text.lines().filter(|line| !line.starts_with('#')))
        .zip(1..)
        .map(|(line, n)| {
            (
                format!("{} ", line.rsplit_once(' ').unwrap().0),
                n * 7919 % 100_000,
            )
        })
        .collect()
}

fn write_cached(lines: &[(String, u64)], out: &mut Vec<u8>) {
    out.clear();
    let mut buffer = itoa::Buffer::new();
    for (prefix, value) in lines {
        out.extend_from_slice(prefix.as_bytes());
        out.extend_from_slice(buffer.format(*value).as_bytes());
        out.push(b'\n');
    }
    black_box(&*out);
}

fn gather(encoder: &impl Encoder, registry: &prometheus::Registry, out: &mut Vec<u8>) {
    out.clear();
    encoder.encode(&registry.gather(), out).unwrap();
    black_box(&*out);
}

fn endpoints(count: usize) -> Vec<String> {
    (0..count)
        .map(|n| format!("/api/v1/resource/{n:06}/{{item_id}}"))
        .collect()
}

/// A row of times for each series, one for each format.
fn print_row(name: &str, times: &[String]) {
    let [text, openmetrics, protobuf] = times else {
        panic!("{name}: {times:?} is not a time for each format");
    };
    println!("{name:<36} {text:>12} {openmetrics:>12} {protobuf:>12}");
}

/// Prints the same for `client_golang`: a scrape through promhttp's handler, of the same histograms with native buckets. The
/// program measures itself (`tests/tools/promhttp`).
fn print_client_golang() {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools/promhttp/promhttp");
    if !program.is_file() {
        println!("client_golang's promhttp is missing: scripts/go-tools.sh builds it");
        return;
    }
    for count in [1_000, 10_000] {
        let output = Command::new(&program)
            .arg(count.to_string())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "promhttp: {}", output.status);
        let lines = String::from_utf8(output.stdout).unwrap();
        let measured: Vec<Value> = (lines.lines())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let times = ["text", "OpenMetrics", "protobuf"].map(|format| {
            let scrape = (measured.iter())
                .find(|scrape| scrape["family"] == "native" && scrape["format"] == format);
            let time = scrape.and_then(|scrape| scrape["ns"].as_f64()).unwrap();
            format!("{:.0} ns", time / f64::from(count))
        });
        let client = measured[0]["client"].as_str().unwrap();
        print_row(&format!("{count}, {client}"), &times);
    }
}

/// Prints the time for each series, of many and of very many.
fn print_linearity(sample: &[f64]) {
    println!();
    let formats = ["text", "OpenMetrics", "protobuf"].map(str::to_owned);
    print_row("time for each series of", &formats);
    for count in [1_000, 10_000, 100_000] {
        let registry = ours(&endpoints(count), sample);
        let times = [Format::Text, Format::OpenMetrics, Format::Protobuf].map(|format| {
            let mut out = Vec::new();
            scrape(&registry, format, &mut out);
            let times = (0..400_000 / count).map(|_| {
                let started = Instant::now();
                scrape(&registry, format, &mut out);
                started.elapsed()
            });
            let fastest = times.min().unwrap_or_default().as_secs_f64();
            format!("{:.0} ns", fastest * 1e9 / count as f64)
        });
        print_row(&count.to_string(), &times);
    }
    print_client_golang();
}

fn main() {
    let asked = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok());
    let sample: Vec<_> = latencies().collect();
    compare(asked.unwrap_or(1000), &sample);
    if asked.is_none() {
        print_linearity(&sample);
    }
}

/// Prints what a scrape of so many series takes, beside the peers and the limits.
fn compare(count: usize, sample: &[f64]) {
    let endpoints = endpoints(count);
    let (narrow, ours, peer) = (
        ours(&endpoints, &[0.02; 200]),
        ours(&endpoints, sample),
        peer(&endpoints),
    );
    let lines = cached_lines(&ours);
    let text = ours.encode(Format::Text);
    let rounds = (ROUNDS * 1000 / count).clamp(5, ROUNDS);
    let mut buffers = [const { Vec::new() }; 8];
    #[cfg_attr(not(feature = "prometheus-protobuf"), allow(unused_variables))]
    let [
        text_out,
        openmetrics_out,
        protobuf_out,
        narrow_out,
        cached_out,
        copied_out,
        peer_text_out,
        peer_protobuf_out,
    ] = &mut buffers;
    let mut cases = [
        Case::new("text", || scrape(&ours, Format::Text, text_out)),
        Case::new("OpenMetrics", || {
            scrape(&ours, Format::OpenMetrics, openmetrics_out);
        }),
        Case::new("protobuf, classic and native", || {
            scrape(&ours, Format::Protobuf, protobuf_out);
        }),
        Case::new("protobuf, where all is in one native bucket", || {
            scrape(&narrow, Format::Protobuf, narrow_out);
        }),
        Case::new("limit: cached prefixes and itoa", || {
            write_cached(&lines, cached_out);
        }),
        Case::new("limit: copying the same bytes", || {
            copied_out.clear();
            copied_out.extend_from_slice(black_box(&text));
            black_box(&copied_out);
        }),
        Case::new("prometheus: gather and TextEncoder", || {
            gather(&prometheus::TextEncoder::new(), &peer, peer_text_out);
        }),
        #[cfg(feature = "prometheus-protobuf")]
        Case::new("prometheus: gather and ProtobufEncoder", || {
            gather(
                &prometheus::ProtobufEncoder::new(),
                &peer,
                peer_protobuf_out,
            );
        }),
    ];
    interleave::run(rounds, &mut cases);
    let title = format!(
        "A scrape of {count} histogram series, {} bytes of text",
        text.len()
    );
    interleave::print(&title, "text", 1, &cases);
    let times: Vec<_> = cases.iter().map(|case| case.time().as_secs_f64()).collect();
    drop(cases);
    let time = |at: usize| times[at];
    #[cfg(feature = "prometheus-protobuf")]
    let [of_ours, of_peer] = [&*protobuf_out, &*peer_protobuf_out].map(|out| out.len() as f64);
    println!("\n{:<60} {:>8} {:>10}", "ratio", "measured", "target");
    for (name, ratio, target) in [
        ("prometheus TextEncoder / text", time(6) / time(0), ">= 12"),
        (
            "prometheus TextEncoder / OpenMetrics",
            time(6) / time(1),
            ">= 12",
        ),
        #[cfg(feature = "prometheus-protobuf")]
        (
            "prometheus ProtobufEncoder / protobuf",
            time(7) / time(2),
            ">= 3",
        ),
        #[cfg(feature = "prometheus-protobuf")]
        (
            "prometheus ProtobufEncoder / protobuf, for each byte",
            time(7) / of_peer / (time(2) / of_ours),
            "",
        ),
        #[cfg(feature = "prometheus-protobuf")]
        (
            "prometheus ProtobufEncoder / protobuf, one native bucket",
            time(7) / time(3),
            ">= 3",
        ),
        ("text / cached prefixes", time(0) / time(4), "<= 2.5"),
        ("OpenMetrics / cached prefixes", time(1) / time(4), "<= 2.5"),
    ] {
        println!("{name:<60} {ratio:>8.2} {target:>10}");
    }
}
