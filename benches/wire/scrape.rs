//! The cost of a scrape of very many series for the process that answers it.

use std::time::Instant;

use super::{Failure, server::Server};

const SERIES: usize = 100_000;
const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// The formats, by what a client asks for.
const FORMATS: [(&str, &str); 3] = [
    ("text", "text/plain"),
    ("OpenMetrics", "application/openmetrics-text"),
    (
        "protobuf",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    ),
];

/// Prints the table.
#[allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
pub(crate) fn measure() -> Result<(), Failure> {
    println!(
        "\n{:<34} {:>10} {:>10} {:>12} {:>14} {:>16}",
        "a scrape of 100,000 series", "body", "time", "memory", "of the body", "longest poll"
    );
    for (name, accept) in FORMATS {
        // Each in a process of its own, so that none finds memory that another left.
        let server = Server::own("monitored", SERIES)?;
        // What the first scrape of all takes, of whatever size, is not this one's.
        server.get("/metrics?name[]=process_threads", accept)?;
        server.settle()?;
        server.get("/longest", "*/*")?;
        server.forget_peak()?;
        let before = server.peak()?;
        let started = Instant::now();
        let body = server.get("/metrics", accept)?.len() as f64;
        let time = started.elapsed().as_secs_f64();
        let memory = server.peak()? - before;
        let longest: f64 = String::from_utf8(server.get("/longest", "*/*")?)?.parse()?;
        println!(
            "{name:<34} {:>6.1} MiB {:>7.0} ms {:>8.1} MiB {:>13.2}x {:>13.2} ms",
            body / MEBIBYTE,
            time * 1e3,
            memory / MEBIBYTE,
            memory / body,
            longest / 1e6
        );
    }
    println!(
        "{:<34} {:>10} {:>10} {:>12} {:>14} {:>16}",
        "target", "", "", "", "<= 1.2x", "<= 1 ms"
    );
    Ok(())
}
