//! What a scrape of very many series allocates. Times are measured by `cargo bench --bench exposition`.

use vitals_registry::{Descriptor, HistogramWriter, Unit};

use super::*;

const BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Without compression, which takes the most memory.
const FORMATS: [Format; 3] = [Format::Text, Format::OpenMetrics, Format::Protobuf];

/// A registry of latency series.
struct Latencies {
    registry: Registry,
    /// What the series take, with the shards of all workers.
    own_bytes: u64,
    _workers: Vec<HistogramWriter>,
}

impl Latencies {
    /// So many series, each recorded by this many workers.
    fn of(series: u32, workers: usize) -> Self {
        let mut builder = Registry::builder(|| Duration::ZERO).max_series(usize::MAX);
        let help = "Durations of requests.";
        let labels = ["method", "endpoint", "http_status"];
        let family = builder.histogram(
            Descriptor::new("http_request_duration_seconds", help, labels).unit(Unit::Seconds),
            &BUCKETS,
        );
        let registry = builder.build().unwrap();
        let mut writers = Vec::with_capacity(series as usize * workers);
        let taken = allocation_counter::measure(|| {
            writers.extend((0..series).flat_map(|number| {
                let endpoint = format!("/api/v1/resource/{number:06}/{{item_id}}");
                let series = family.series(["GET", &endpoint, "200"]);
                (0..workers).map(move |_| {
                    let writer = series.writer();
                    observe_some(&writer);
                    writer
                })
            }));
        });
        Self {
            registry,
            own_bytes: u64::try_from(taken.bytes_current).unwrap(),
            _workers: writers,
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
    for workers in [1, 2] {
        let (few, many) = (
            Latencies::of(10_000, workers),
            Latencies::of(100_000, workers),
        );
        let own = many.own_bytes;
        println!("{workers} workers: {} bytes for a series", own / 100_000);
        for format in FORMATS {
            let ([length, most, all], of_few) = (many.scrape(format), few.scrape(format));
            println!("{format:?}: {length} bytes, at most {most} at a time, {all} in all");
            assert!(
                most <= own,
                "{format:?}, {workers} workers: {most} bytes more than the {own} of the series"
            );
            for (of_many, of_few) in [length, most, all].into_iter().zip(of_few) {
                assert!(
                    of_many <= 11 * of_few,
                    "{format:?}: {of_few} bytes have become {of_many}"
                );
            }
        }
    }
}
