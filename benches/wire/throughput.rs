//! Throughput with and without monitoring, in many short turns.

use super::{Failure, quartiles, server::Server};

/// Pairs of turns.
const PAIRS: usize = 24;
const SECONDS: u64 = 1;

/// Prints the table.
#[allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
pub(crate) fn measure() -> Result<(), Failure> {
    println!(
        "\n{:<44} {:>12} {:>8} {:>15} {:>11} {:>8}",
        "throughput, with monitoring over without",
        "without",
        "ratio",
        "middle half",
        "processor",
        "target"
    );
    let directory = tempfile::tempdir()?;
    let flags = ["--workers", "1"];
    let with = Server::release(&directory, &flags)?;
    fill(&with)?;
    let without = Server::release(&directory, &["--workers", "1", "--exclude", "*"])?;
    compare("the release binary: GET /", "/", &with, &without)?;
    compare("the release binary: GET /data", "/data", &with, &without)?;
    drop((with, without));
    let (with, without) = (Server::own("monitored", 0)?, Server::own("bare", 0)?);
    compare("a small service, or bare: GET /", "/", &with, &without)?;
    compare(
        "a small service, or bare: GET /data",
        "/data",
        &with,
        &without,
    )
}

/// Has a hundred items to be listed.
fn fill(server: &Server) -> Result<(), Failure> {
    for item in 0..100 {
        server.post(
            "/data",
            &format!("{{\"name\": \"name {item}\", \"email\": \"name{item}@example.org\"}}"),
        )?;
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
fn compare(name: &str, path: &str, with: &Server, without: &Server) -> Result<(), Failure> {
    let (mut rates, mut ratios, mut costs) = (Vec::new(), Vec::new(), Vec::new());
    turn(with, path)?;
    turn(without, path)?;
    for pair in 0..PAIRS {
        // Who comes first changes, so that coming second costs neither more.
        let (with, without) = if pair % 2 == 0 {
            let with = turn(with, path)?;
            (with, turn(without, path)?)
        } else {
            let without = turn(without, path)?;
            (turn(with, path)?, without)
        };
        rates.push(without.rate);
        ratios.push(with.rate / without.rate);
        costs.push(with.cpu_seconds / without.cpu_seconds);
    }
    let [_, rate, _] = quartiles(rates);
    let [quarter, ratio, three_quarters] = quartiles(ratios);
    let [_, cost, _] = quartiles(costs);
    println!(
        "{name:<44} {rate:>10.0}/s {ratio:>8.3} {quarter:>6.3} to {three_quarters:>5.3} {:>+9.1} % {:>8}",
        (cost - 1.0) * 100.0,
        ">= 0.97"
    );
    Ok(())
}

/// What one turn showed.
struct Turn {
    /// Requests a second.
    rate: f64,
    /// The server's processor time for a request.
    cpu_seconds: f64,
}

fn turn(server: &Server, path: &str) -> Result<Turn, Failure> {
    let before = server.cpu_seconds()?;
    let (requests, seconds) = server.drive(path, SECONDS, None)?;
    Ok(Turn {
        rate: requests / seconds,
        cpu_seconds: (server.cpu_seconds()? - before) / requests,
    })
}
