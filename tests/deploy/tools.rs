//! The foreign tools that check what is deployed: where they are, and what happens where they are not.
//!
//! With `CI` set a missing tool fails the test. On a laptop the test is skipped, and its name is recorded in a file
//! that `make test` prints at its end, so that no skip stays unseen.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program on the `PATH`, or `None` once the skip of `test` is recorded.
#[expect(
    clippy::print_stdout,
    reason = "the output of the test says that it was skipped"
)]
pub(crate) fn tool(test: &str, name: &str) -> Option<PathBuf> {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{test} needs {name}, which is missing here; with CI set that is a failure"
        );
        let line = format!("skipped: {test} because {name} is missing");
        println!("{line}");
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped");
        let mut record = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&file)
            .expect("the record of skips can be opened");
        writeln!(record, "{line}").expect("the record of skips can be written");
    }
    found
}

/// Runs a tool; panics with what it said unless it succeeds.
pub(crate) fn run(tool: &Path, arguments: &[&str], directory: &Path) {
    let output = Command::new(tool)
        .args(arguments)
        .current_dir(directory)
        .output()
        .expect("the tool starts");
    assert!(
        output.status.success(),
        "{} {}: {}\n{}{}",
        tool.display(),
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
