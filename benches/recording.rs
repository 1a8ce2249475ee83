//! The cost of recording one event: on a kept handle, through the family, and from several threads into the same series. The
//! `prometheus` crate is measured beside it.
//!
//! `cargo bench --bench recording`

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

#[path = "shared/interleave.rs"]
mod interleave;

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use actix_vitals::registry::{Descriptor, Registry, Unit};
use interleave::Case;

const BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
const LABELS: [&str; 3] = ["method", "endpoint", "http_status"];
const VALUES: [&str; 3] = ["GET", "/data/{item_id}", "200"];
const RECORDINGS: u32 = 4_096;
const ROUNDS: usize = 1000;

/// Latencies from 0.3 ms to 0.3 s.
fn latencies() -> Vec<f64> {
    (0..256)
        .map(|i| 0.01 * 1.014_f64.powi(i * 37 % 512 - 256))
        .collect()
}

fn each(latencies: &[f64], record: impl Fn(f64)) {
    for latency in latencies.iter().cycle().take(RECORDINGS as usize) {
        record(black_box(*latency));
    }
}

/// A case of many recordings.
fn case<'a>(name: &'static str, record: impl Fn(f64) + 'a) -> Case<'a> {
    let latencies = latencies();
    Case::new(name, move || each(&latencies, &record))
}

/// The time that a thread takes for one recording, in nanoseconds, where `threads` record at once: the median of many
/// slices, each short enough to be seldom interrupted.
fn concurrent(threads: usize, record: &(dyn Fn(f64) + Sync)) -> f64 {
    let latencies = latencies();
    let barrier = Barrier::new(threads);
    let slice = || {
        let start = Instant::now();
        each(&latencies, record);
        start.elapsed().as_secs_f64() * 1e9 / f64::from(RECORDINGS)
    };
    let mut slices = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    (0..300).map(|_| slice()).collect::<Vec<_>>()
                })
            })
            .collect();
        let joined = workers.into_iter().map(|worker| worker.join().unwrap());
        joined.collect::<Vec<_>>().concat()
    });
    slices.sort_by(f64::total_cmp);
    slices[slices.len() / 2]
}

fn main() {
    let mut builder = Registry::builder(|| Duration::from_secs(1_700_000_000));
    let family = builder.histogram(
        Descriptor::new("wait_seconds", "Waits.", LABELS).unit(Unit::Seconds),
        &BUCKETS,
    );
    let count = builder.counter(Descriptor::new("things_total", "Things.", LABELS));
    let _registry = builder.build().unwrap();
    let (histogram, counter) = (family.series(VALUES), count.series(VALUES));
    let options =
        prometheus::HistogramOpts::new("wait_seconds", "Waits.").buckets(BUCKETS.to_vec());
    let peers = prometheus::HistogramVec::new(options, &LABELS).unwrap();
    let peer = peers.with_label_values(&VALUES);
    let peer_counters =
        prometheus::IntCounterVec::new(prometheus::Opts::new("things_total", "Things."), &LABELS)
            .unwrap();
    let peer_counter = peer_counters.with_label_values(&VALUES);
    let mut cases = [
        case("histogram, kept handle", |value| histogram.observe(value)),
        case("histogram, through the family", |value| {
            family.series(black_box(VALUES)).observe(value);
        }),
        case("counter, kept handle", |_| counter.inc()),
        case("prometheus: histogram, kept handle", |value| {
            peer.observe(value);
        }),
        case("prometheus: histogram, through the vec", |value| {
            peers.with_label_values(&black_box(VALUES)).observe(value);
        }),
        case("prometheus: counter, kept handle", |_| peer_counter.inc()),
    ];
    interleave::run(ROUNDS, &mut cases);
    interleave::print(
        "One recording",
        "histogram, kept handle",
        RECORDINGS,
        &cases,
    );

    println!("\nThreads into the same series, time of one recording in ns");
    println!(
        "{:<28} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "", "1", "2", "4", "2 of 1", "4 of 1"
    );
    let recorders: [(&str, &(dyn Fn(f64) + Sync)); 4] = [
        ("histogram", &|value| histogram.observe(value)),
        ("counter", &|_| counter.inc()),
        ("prometheus: histogram", &|value| peer.observe(value)),
        ("prometheus: counter", &|_| peer_counter.inc()),
    ];
    for (name, record) in recorders {
        let [one, two, four] = [1, 2, 4].map(|threads| concurrent(threads, record));
        println!(
            "{name:<28} {one:>8.2} {two:>8.2} {four:>8.2} {:>7.2}x {:>7.2}x",
            two / one,
            four / one,
        );
    }
}
