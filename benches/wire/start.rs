//! The time from exec to the first answer, with an existing database.

use std::time::Instant;

use super::{Failure, quartiles, server::Server};

const STARTS: usize = 25;

/// Prints the table.
#[allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
pub(crate) fn measure() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let start = || -> Result<f64, Failure> {
        let started = Instant::now();
        let server = Server::release(&directory, &[])?;
        server.get("/livez", "*/*")?;
        Ok(started.elapsed().as_secs_f64() * 1e3)
    };
    // This one makes the database.
    start()?;
    let times = (0..STARTS)
        .map(|_| start())
        .collect::<Result<Vec<_>, _>>()?;
    let [quarter, median, three_quarters] = quartiles(times);
    println!(
        "\n{:<44} {:>8} {:>17} {:>8}",
        "start", "median", "middle half", "target"
    );
    println!(
        "{:<44} {median:>5.1} ms {quarter:>5.1} to {three_quarters:>5.1} ms {:>8}",
        "from exec to the first 200 of /livez", "< 50 ms"
    );
    Ok(())
}
