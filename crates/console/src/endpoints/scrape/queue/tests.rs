//! What a scrape of very many series allocates. Times are measured by `cargo bench --bench exposition`.

use vitals_registry::{Descriptor, Format, HistogramWriter, Unit};

use super::*;

const BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Without compression, which takes the most memory.
const FORMATS: [Format; 3] = [Format::Text, Format::OpenMetrics, Format::Protobuf];

/// A registry of latency series that two workers record.
struct Latencies {
    registry: Registry,
    /// What the series take, with the shards of both workers.
    own_bytes: u64,
    _workers: Vec<[HistogramWriter; 2]>,
}

impl Latencies {
    fn of(series: u32) -> Self {
        let mut builder = Registry::builder(|| Duration::ZERO).max_series(usize::MAX);
        let help = "Durations of requests.";
        let labels = ["method", "endpoint", "http_status"];
        let family = builder.histogram(
            Descriptor::new("http_request_duration_seconds", help, labels).unit(Unit::Seconds),
            &BUCKETS,
        );
        let registry = builder.build().unwrap();
        let mut workers = Vec::with_capacity(series as usize);
        let taken = allocation_counter::measure(|| {
            workers.extend((0..series).map(|number| {
                let endpoint = format!("/api/v1/resource/{number:06}/{{item_id}}");
                let series = family.series(["GET", &endpoint, "200"]);
                let both = [series.writer(), series.writer()];
                both.iter().for_each(observe_some);
                both
            }));
        });
        Self {
            registry,
            own_bytes: u64::try_from(taken.bytes_current).unwrap(),
            _workers: workers,
        }
    }

    /// The size of an exposition, the most bytes that a round has allocated for it at a time, and all that it has allocated.
    fn scrape(&self, format: Format) -> [u64; 3] {
        let form = Form {
            format: format.into(),
            encoding: Encoding::Identity,
            names: NameFilter::all(),
        };
        let mut length = 0;
        let taken = allocation_counter::measure(|| {
            length = encode(&self.registry, &form, &[]).unwrap().length();
        });
        [length as u64, taken.bytes_max, taken.bytes_total]
    }
}

/// Observes durations of 10 to 40 ms, as most of a route are.
fn observe_some(worker: &HistogramWriter) {
    for share in 0..5 {
        worker.observe(0.01 * 4_f64.powf(f64::from(share) / 5.0));
    }
}

#[test]
fn a_scrape_of_a_hundred_thousand_series_takes_no_more_memory_than_they_do_and_is_linear() {
    let (few, many) = (Latencies::of(10_000), Latencies::of(100_000));
    println!("{} bytes for a series", many.own_bytes / 100_000);
    for format in FORMATS {
        let ([length, most, all], of_few) = (many.scrape(format), few.scrape(format));
        println!("{format:?}: {length} bytes, at most {most} at a time, {all} in all");
        assert!(
            most <= many.own_bytes,
            "{format:?}: {most} bytes more than the {} of the series",
            many.own_bytes
        );
        for (of_many, of_few) in [length, most, all].into_iter().zip(of_few) {
            assert!(
                of_many <= 11 * of_few,
                "{format:?}: {of_few} bytes have become {of_many}"
            );
        }
    }
}
