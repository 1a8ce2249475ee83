//! What happens if a program is missing: the test is skipped and its name is written to a file, which `make test` prints at
//! its end. With the variable `CI` set, the test fails instead. The counts of instructions in `crates/vitals/benches` use
//! this file, too.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

/// A program on the `PATH`.
pub(crate) fn on_path(tool: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|directory| directory.join(tool))
        .find(|candidate| candidate.is_file())
}

/// What was found, or `None` once the skip of `test` is recorded.
pub(crate) fn require(test: &str, tool: &str, found: Option<PathBuf>) -> Option<PathBuf> {
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{test} needs {tool}, which is missing here; with CI set that is a failure"
        );
        record_skip(test, &format!("{tool} is missing"));
    }
    found
}

/// Records that a test was skipped. The end of `make test` names it.
pub(crate) fn record_skip(test: &str, reason: &str) {
    let line = format!("skipped: {test} because {reason}");
    println!("{line}");
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped");
    let mut record = std::fs::File::options()
        .create(true)
        .append(true)
        .open(&file)
        .expect("the record of skips can be opened");
    writeln!(record, "{line}").expect("the record of skips can be written");
}
