//! Resident memory: idle, and over a million requests.

use super::{Failure, server::Server, service::ENDPOINTS};

const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// Requests in a step, and the steps after the warm-up.
const STEP: f64 = 200_000.0;
const STEPS: usize = 5;

/// Prints the tables.
#[allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
pub(crate) fn measure() -> Result<(), Failure> {
    println!(
        "\n{:<44} {:>12} {:>12} {:>10}",
        "memory", "resident", "allocated", "target"
    );
    let directory = tempfile::tempdir()?;
    let release = Server::release(&directory, &[])?;
    release.get("/livez", "*/*")?;
    release.settle()?;
    let idle = release.resident()?;
    print_row("the release binary, idle", idle, &release, "< 14 MiB")?;
    let [file, own] = release.resident_parts()?.map(|bytes| bytes / MEBIBYTE);
    println!("{:<44} {file:>8.2} MiB of files, {own:.2} MiB its own", "");

    let own = Server::own("monitored", 0)?;
    let script = directory.path().join("endpoints.lua");
    let lua = format!(
        "local n = 0\nrequest = function()\n  n = n + 1\n  return wrk.format('GET', '/endpoints/' .. n % {ENDPOINTS} .. '/' .. n)\nend\n"
    );
    std::fs::write(&script, lua)?;
    let script = script.display().to_string();
    let mut served = 0.0;
    for step in 0..=STEPS {
        let until = served + STEP;
        while served < until {
            served += own.drive("/", 2, Some(&script))?.0;
        }
        let name = format!(
            "a service of {ENDPOINTS} endpoints, {:.2} million requests",
            served / 1e6
        );
        let target = if step == 0 { "" } else { "no more" };
        print_row(&name, own.resident()?, &own, target)?;
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]
fn print_row(name: &str, resident: f64, server: &Server, target: &str) -> Result<(), Failure> {
    let allocated = server.metric("allocator_allocated_bytes")?;
    println!(
        "{name:<44} {:>8.2} MiB {:>8.2} MiB {target:>10}",
        resident / MEBIBYTE,
        allocated / MEBIBYTE
    );
    Ok(())
}
