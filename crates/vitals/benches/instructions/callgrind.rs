//! Runs this program again under callgrind, and reads the count.
//!
//! A count depends on the compiled program, the C library and the features of the processor only. Only the main thread
//! counts, and of it only `paths::counted`. The program runs with a fixed environment and a fixed name, because both move
//! the addresses of the stack and the heap.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    iter,
    num::NonZero,
    os::unix::fs::symlink,
    panic::resume_unwind,
    path::Path,
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
};

use super::Failure;

/// Asks the kernel or the processor for the time. Every monitored path calls it.
const CLOCK: &str = "vitals_recorder::clock::now";

/// Functions whose calls are left out, with everything they call: their cost depends on the machine.
const LEFT_OUT: [&str; 4] = [
    CLOCK,
    // The C library's heap, beyond what each thread has at hand. What it does depends on the addresses of what was freed
    // before, and these on the random keys of maps.
    "_int_malloc",
    "_int_free",
    // Takes memory where a histogram sees a duration of its size for the first time.
    "once_cell::race::once_box::OnceBox<T>::init",
];

/// The number of callers that distinguishes two left-out functions. A call within another left-out call is not
/// subtracted a second time.
const CALLERS: u32 = 12;

/// What the environment is: the C library's routines for strings and memory are those that every processor has. The
/// faster ones take another way where a string lies at the end of a page.
const TUNABLES: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX_Fast_Unaligned_Load,-ERMS,-MOVBE",
);

/// What is counted.
pub(crate) struct Cost {
    pub(crate) name: &'static str,
    path: &'static str,
    /// The path that is not counted with it.
    bare: Option<&'static str>,
    /// Whether it is checked against the baseline. Code that is not ours is only for comparison.
    pub(crate) is_ours: bool,
}

impl Cost {
    /// What monitoring adds to what is served.
    const fn added(name: &'static str, path: &'static str, bare: &'static str) -> Self {
        Self {
            name,
            path,
            bare: Some(bare),
            is_ours: true,
        }
    }

    /// What the peer's monitoring adds. Its maps have hashers with random keys, so its counts may differ.
    const fn peer(name: &'static str, path: &'static str, bare: &'static str) -> Self {
        Self {
            is_ours: false,
            ..Self::added(name, path, bare)
        }
    }

    /// What a scrape takes.
    const fn scrape(name: &'static str, path: &'static str) -> Self {
        Self {
            name,
            path,
            bare: None,
            is_ours: true,
        }
    }

    /// The instructions of one time, from those of all paths.
    fn of(&self, counts: &Counts) -> Result<i64, Failure> {
        let (path, reads_clock) = counts[self.path];
        let Some(bare) = self.bare else {
            return Ok(path);
        };
        if self.is_ours && !reads_clock {
            // The function was renamed, and would be counted.
            return Err(format!("{} does not call {CLOCK}", self.path).into());
        }
        Ok(path - counts[bare].0)
    }
}

pub(crate) const COSTS: [Cost; 13] = [
    Cost::added("request", "request", "bare-request"),
    Cost::peer("request, actix-web-prom", "peer-request", "bare-request"),
    Cost::added("request, core families", "core-request", "bare-request"),
    Cost::added("nested request", "nested-request", "bare-nested-request"),
    Cost::peer(
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
    // What must not grow with use.
    Cost::added(
        "request beside 10,000 answers",
        "request-beside-answers",
        "bare-request-beside-answers",
    ),
    Cost::added(
        "query, 2 statements in turn",
        "query-of-two-texts",
        "bare-query-of-two-texts",
    ),
    Cost::added(
        "query, 1,000 statements in turn",
        "query-of-many-texts",
        "bare-query-of-many-texts",
    ),
    Cost::scrape("scrape, text", "text"),
    Cost::scrape("scrape, OpenMetrics", "openmetrics"),
    Cost::scrape("scrape, protobuf", "protobuf"),
];

/// The instructions of one time of each path, and whether it reads the clock.
type Counts = HashMap<&'static str, (i64, bool)>;

/// The instructions of each of [`COSTS`], in their order. As many paths are counted at a time as there are processors.
pub(crate) fn count_all(valgrind: &Path) -> Result<Vec<i64>, Failure> {
    let paths = COSTS.iter().flat_map(|cost| [Some(cost.path), cost.bare]);
    let paths: BTreeSet<&'static str> = paths.flatten().collect();
    let paths = Mutex::new(paths.into_iter());
    let next = || paths.lock().unwrap_or_else(PoisonError::into_inner).next();
    let count_some = || {
        let counts = iter::from_fn(next).map(|path| Ok((path, count(valgrind, path)?)));
        counts.collect::<Result<Vec<_>, Failure>>()
    };
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let counts: Counts = thread::scope(|scope| {
        let workers: Vec<_> = (0..processors).map(|_| scope.spawn(count_some)).collect();
        let counts = workers.into_iter().map(|worker| match worker.join() {
            Ok(counts) => counts,
            Err(panic) => resume_unwind(panic),
        });
        counts.collect::<Result<Vec<_>, Failure>>()
    })?
    .into_iter()
    .flatten()
    .collect();
    COSTS.iter().map(|cost| cost.of(&counts)).collect()
}

/// The instructions of one time of a path, and whether it reads the clock.
fn count(valgrind: &Path, path: &str) -> Result<(i64, bool), Failure> {
    const PROGRAM: &str = "program";
    let directory = tempfile::tempdir()?;
    symlink(std::env::current_exe()?, directory.path().join(PROGRAM))?;
    let output = Command::new(valgrind)
        .env_clear()
        .envs([TUNABLES])
        .current_dir(directory.path())
        .args(["--tool=callgrind", "--separate-threads=yes"])
        .arg("--callgrind-out-file=counts")
        .arg("--toggle-collect=*paths::counted*")
        .args(LEFT_OUT.map(|name| format!("--separate-callers{CALLERS}={name}")))
        .args([&format!("./{PROGRAM}"), "run", path])
        .output()?;
    let main_thread = directory.path().join("counts-01");
    let counts = std::fs::read_to_string(main_thread).unwrap_or_default();
    let said = String::from_utf8_lossy(&output.stdout);
    let times = said.lines().find_map(|line| line.parse::<i64>().ok());
    let total = total(&counts).filter(|total| *total > 0);
    match (total, times) {
        (Some(total), Some(times)) if output.status.success() => {
            Ok(((total + times / 2) / times, counts.contains(CLOCK)))
        }
        _ => {
            let complaint = String::from_utf8_lossy(&output.stderr);
            Err(format!(
                "callgrind did not count {path}: {}\n{complaint}",
                output.status
            )
            .into())
        }
    }
}

/// The instructions of a profile, less those of calls that are left out.
/// <https://valgrind.org/docs/manual/cl-format.html>
fn total(profile: &str) -> Option<i64> {
    // The first use of a name has its number in front: `cfn=(7) name`. Later uses have the number alone: `cfn=(7)`.
    let names = profile.lines().filter_map(|line| {
        let name = line.trim_start_matches('c').strip_prefix("fn=(")?;
        name.split_once(") ")
    });
    let left_out: HashSet<&str> = names
        .filter(|(_, name)| {
            // A function, and behind it its callers: `_int_malloc'malloc'main`.
            let mut functions = name
                .split('\'')
                .map(|function| LEFT_OUT.contains(&function));
            functions.next() == Some(true) && !functions.any(|is_left_out| is_left_out)
        })
        .map(|(number, _)| number)
        .collect();
    let is_left_out = |line: &str| {
        let called = line
            .strip_prefix("cfn=(")
            .and_then(|name| name.split_once(')'));
        called.is_some_and(|(number, _)| left_out.contains(number))
    };
    let total = profile
        .lines()
        .find_map(|line| line.strip_prefix("totals: "));
    let mut total: i64 = total?.parse().ok()?;
    // A call's name is followed by its number of calls, and by a line whose second number is the cost of these calls.
    let mut lines = profile.lines();
    while let Some(line) = lines.next() {
        if is_left_out(line) {
            let cost = lines.nth(1)?.split(' ').nth(1)?;
            total -= cost.parse::<i64>().ok()?;
        }
    }
    Some(total)
}
