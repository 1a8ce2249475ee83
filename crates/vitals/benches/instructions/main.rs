//! The cost of the hot paths in instructions, counted by callgrind. A count is the same in every run, unlike a time, so it shows
//! a regression on a busy machine.
//!
//! - `instructions run <path>`: runs one path under callgrind, and prints how many times.
//! - `instructions check`: counts every path, and fails if one of ours costs over 2 % more than the baseline.
//! - `instructions write`: counts every path, and rewrites the baseline.
//!
//! A path is counted after a warm-up, so that its count contains no start. `paths` has the conditions of the warm-up,
//! `callgrind` the code that is left out.

mod baseline;
mod callgrind;
#[path = "../../../../tests/support/tools/found.rs"]
#[allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "shared with the tests"
)]
mod found;
mod paths;

use std::process::ExitCode;

/// What is skipped without the program.
const TEST: &str = "the instruction counts";
const VALGRIND: &str = "valgrind";

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<ExitCode, Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [_, "run", path] => paths::run(path)?,
        [_, task @ ("check" | "write"), ..] => {
            // Where there is no callgrind, that is recorded.
            if let Some(valgrind) = found::require(TEST, VALGRIND, found::on_path(VALGRIND)) {
                return if task == "check" {
                    baseline::check(&valgrind)
                } else {
                    baseline::write(&valgrind)
                };
            }
        }
        // `cargo bench` runs every benchmark.
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}
