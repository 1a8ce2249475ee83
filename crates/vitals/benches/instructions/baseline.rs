//! The baseline: a committed file with the most instructions that each path may cost. A reviewer sees each increase.

use std::{
    collections::HashMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use super::{
    Failure,
    callgrind::{COSTS, count_all},
};

/// What a path may cost more than its baseline, and what it must cost less to be worth a word, in percent.
const MARGIN: f64 = 2.0;

const HEAD: &str = "\
# What the hot paths cost, in instructions that callgrind counts: a request and a query beyond what they cost without
# monitoring; a scrape of 100 latency series as a whole. Reading the clock and the heap's slow path are not counted.
# Where one of ours is over 2 % more, `make test` fails. Those of actix-web-prom are there to compare with.
# `make baseline` writes this file anew. The compiler and the C library change the counts too: this is by
";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions/baseline.txt")
}

/// The version of the compiler, such as `1.95.0`.
fn compiler() -> Result<String, Failure> {
    let output = Command::new("rustc").arg("--version").output()?;
    let text = String::from_utf8(output.stdout)?;
    let version = text.split_whitespace().nth(1);
    Ok(version.ok_or("rustc reports no version")?.to_owned())
}

/// Counts everything, and writes the baseline anew.
pub(crate) fn write(valgrind: &Path) -> Result<ExitCode, Failure> {
    let mut text = format!("{HEAD}# rustc {}.\n", compiler()?);
    for (cost, count) in COSTS.iter().zip(count_all(valgrind)?) {
        writeln!(text, "{:<32} {count:>8}", cost.name)?;
    }
    std::fs::write(path(), text)?;
    Ok(ExitCode::SUCCESS)
}

/// Counts everything, and prints it beside the baseline; a failure where something is above it by more than the margin.
#[allow(clippy::print_stdout, reason = "the table is what one wants to see")]
pub(crate) fn check(valgrind: &Path) -> Result<ExitCode, Failure> {
    let text = std::fs::read_to_string(path())?;
    let baseline: HashMap<&str, i64> = (text.lines())
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, count)| Some((name.trim_end(), count.parse().ok()?)))
        .collect();
    let mut failed = false;
    println!("{:<32} {:>10} {:>10}", "instructions", "baseline", "now");
    for (cost, count) in COSTS.iter().zip(count_all(valgrind)?) {
        let name = cost.name;
        let allowed = *(baseline.get(name)).ok_or_else(|| format!("no baseline for {name}"))?;
        let percent = (count as f64 / allowed as f64 - 1.0) * 100.0;
        let is_too_many = cost.is_ours && percent > MARGIN;
        failed |= is_too_many;
        let verdict = match percent {
            _ if is_too_many => "  too many",
            _ if cost.is_ours && percent < -MARGIN => {
                "  the baseline can be lowered: make baseline"
            }
            _ => "",
        };
        println!("{name:<32} {allowed:>10} {count:>10} {percent:>+6.1} %{verdict}");
    }
    let compiler = compiler()?;
    if failed && !text.contains(&compiler) {
        println!("The counts are of rustc {compiler}, and the baseline is not.");
    }
    Ok(ExitCode::from(u8::from(failed)))
}
