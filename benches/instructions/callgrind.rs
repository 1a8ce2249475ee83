//! Counting: this very program, once more, under callgrind. Only its main thread counts: what another does in the
//! background, and how much of that, is up to the clock.

use std::{path::Path, process::Command};

use super::Failure;

/// What is counted.
pub(crate) struct Cost {
    pub(crate) name: &'static str,
    path: &'static str,
    /// The path that is not counted with it.
    bare: Option<&'static str>,
    /// Two numbers of times. The fewer are the warm-up of the more.
    times: [u32; 2],
}

impl Cost {
    /// What monitoring adds to what is served.
    const fn added(name: &'static str, path: &'static str, bare: &'static str) -> Self {
        Self {
            name,
            path,
            bare: Some(bare),
            times: [1_000, 4_000],
        }
    }

    /// What a scrape takes.
    const fn scrape(name: &'static str, path: &'static str) -> Self {
        Self {
            name,
            path,
            bare: None,
            times: [5, 25],
        }
    }

    /// The instructions of one time.
    pub(crate) fn count(&self, valgrind: &Path) -> Result<i64, Failure> {
        let path = self.count_path(valgrind, self.path)?;
        let bare = (self.bare).map_or(Ok(0), |bare| self.count_path(valgrind, bare))?;
        Ok(path - bare)
    }

    fn count_path(&self, valgrind: &Path, path: &str) -> Result<i64, Failure> {
        let [few, many] = self.times.map(|times| count(valgrind, path, times));
        Ok((many? - few?) / i64::from(self.times[1] - self.times[0]))
    }
}

pub(crate) const COSTS: [Cost; 10] = [
    Cost::added("request", "request", "bare-request"),
    Cost::added("request, actix-web-prom", "peer-request", "bare-request"),
    Cost::added("request, core families", "core-request", "bare-request"),
    Cost::added("nested request", "nested-request", "bare-nested-request"),
    Cost::added(
        "nested request, actix-web-prom",
        "peer-nested-request",
        "bare-nested-request",
    ),
    Cost::added(
        "request with a query",
        "request-that-queries",
        "bare-request-that-queries",
    ),
    Cost::added("query", "query", "bare-query"),
    Cost::scrape("scrape, text", "text"),
    Cost::scrape("scrape, OpenMetrics", "openmetrics"),
    Cost::scrape("scrape, protobuf", "protobuf"),
];

/// The instructions of a whole process.
fn count(valgrind: &Path, path: &str, times: u32) -> Result<i64, Failure> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("counts");
    let output = Command::new(valgrind)
        .args(["--tool=callgrind", "--separate-threads=yes"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(std::env::current_exe()?)
        .args(["run", path, &times.to_string()])
        .output()?;
    let main_thread = directory.path().join("counts-01");
    let counts = std::fs::read_to_string(main_thread).unwrap_or_default();
    counts
        .lines()
        .find_map(|line| line.strip_prefix("totals: ")?.parse().ok())
        .filter(|_| output.status.success())
        .ok_or_else(|| {
            let said = String::from_utf8_lossy(&output.stderr);
            format!("callgrind did not count {path}: {}\n{said}", output.status).into()
        })
}
