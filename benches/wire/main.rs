//! Measurements of a running server: throughput with and without monitoring, driven by `wrk`; the time from exec to the first
//! answer; resident memory, idle and over a million requests; how long a scrape of 100,000 series blocks the event loop, and how
//! much memory it takes.
//!
//! `cargo bench --bench wire`, or with one of `throughput`, `start`, `memory` and `scrape` after `--`. With `serve` the program
//! is the server that some of the measurements start.

mod memory;
mod scrape;
mod server;
mod service;
mod start;
mod throughput;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// As the release binary has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["serve", monitoring, series] = arguments[..] {
        return service::serve(monitoring == "monitored", series.parse()?);
    }
    let tables = [
        ("start", start::measure as fn() -> Result<(), Failure>),
        ("memory", memory::measure),
        ("scrape", scrape::measure),
        ("throughput", throughput::measure),
    ];
    let asked = |name| arguments.contains(&name);
    let all = !tables.iter().any(|(name, _)| asked(name));
    for (name, measure) in tables {
        if all || asked(name) {
            measure()?;
        }
    }
    Ok(())
}

/// The middle one, and those a quarter from either end.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}
