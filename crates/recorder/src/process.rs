//! The process metrics that the Prometheus guidelines recommend to client libraries.
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>
//!
//! They are read from `/proc` at each scrape. Each file is read independently. If one cannot be read, its series are
//! missing, never 0, and the collector reports one error. On systems other than Linux there are no rows.

use std::{error::Error, sync::OnceLock};

use vitals_registry::{Collector, FamilyDescription, FamilyRows, ReadFamily, Unit};

const CPU: ReadFamily = ReadFamily::counter(
    "process_cpu_seconds_total",
    Unit::Seconds,
    "Processor time that this process has used, in user and system mode; its rate is the number of busy cores.",
);
const RESIDENT: ReadFamily = ReadFamily::gauge(
    "process_resident_memory_bytes",
    Unit::Bytes,
    "Memory of this process that is in RAM, which is what an out-of-memory killer considers.",
);
const VIRTUAL: ReadFamily = ReadFamily::gauge(
    "process_virtual_memory_bytes",
    Unit::Bytes,
    "Address space of this process, most of which may be unused.",
);
const VIRTUAL_MAX: ReadFamily = ReadFamily::gauge(
    "process_virtual_memory_max_bytes",
    Unit::Bytes,
    "Largest address space that this process may have; 2^64 without a limit.",
);
const HEAP_NAME: &str = "process_heap_bytes";
const HEAP: ReadFamily = ReadFamily::gauge(
    HEAP_NAME,
    Unit::Bytes,
    "Size of the data segments of this process (VmData): heap, anonymous mappings and the stacks of its threads.",
);
const OPEN_FDS: ReadFamily = ReadFamily::gauge(
    "process_open_fds",
    Unit::None,
    "File descriptors that this process has open, including one for each connection.",
);
const MAX_FDS: ReadFamily = ReadFamily::gauge(
    "process_max_fds",
    Unit::None,
    "Largest number of file descriptors that this process may have open; 2^64 without a limit.",
);
const START: ReadFamily = ReadFamily::gauge(
    "process_start_time_seconds",
    Unit::Seconds,
    "Start time of this process, since the Unix epoch; a change means a restart.",
);
const THREADS: ReadFamily = ReadFamily::gauge(
    "process_threads",
    Unit::None,
    "Threads of this process: workers, blocking threads and those of the runtime.",
);

/// Reads `process_*` from procfs.
#[derive(Debug, Default)]
pub struct Process {
    /// Computed once, because it must not change when the clock is set.
    started: OnceLock<f64>,
}

impl Process {
    /// Returns the collector for this process.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Collector for Process {
    fn name(&self) -> &'static str {
        "process"
    }

    fn describe(&self) -> Vec<FamilyDescription> {
        [
            CPU,
            RESIDENT,
            VIRTUAL,
            VIRTUAL_MAX,
            HEAP,
            OPEN_FDS,
            MAX_FDS,
            START,
            THREADS,
        ]
        .iter()
        .map(ReadFamily::describe)
        .collect()
    }

    /// Cheap enough for the live page, which shows some of the values every second.
    fn is_cheap(&self) -> bool {
        true
    }

    #[cfg(target_os = "linux")]
    fn collect(&self, rows: &mut Vec<FamilyRows>) -> Result<(), Box<dyn Error + Send + Sync>> {
        linux::collect(&self.started, rows)
    }

    /// Leaves out `process_heap_bytes` unless it is wanted: it needs a file of its own, the longest.
    #[cfg(target_os = "linux")]
    fn collect_levels(
        &self,
        names: &[&str],
        rows: &mut Vec<FamilyRows>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        if names.contains(&HEAP_NAME) {
            self.collect(rows)
        } else {
            linux::collect_without_heap(&self.started, rows)
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn collect(&self, _: &mut Vec<FamilyRows>) -> Result<(), Box<dyn Error + Send + Sync>> {
        let _ = &self.started;
        Ok(())
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        fs, io,
        time::{Duration, SystemTime, UNIX_EPOCH},
    };

    use procfs::{
        FromRead,
        process::{Stat, Status},
    };
    use rustix::{
        process::{Resource, getrlimit},
        time::{ClockId, clock_gettime},
    };

    use super::{
        CPU, Error, FamilyRows, HEAP, MAX_FDS, OPEN_FDS, OnceLock, RESIDENT, START, THREADS,
        VIRTUAL, VIRTUAL_MAX,
    };

    pub(super) fn collect(
        started: &OnceLock<f64>,
        rows: &mut Vec<FamilyRows>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let collected = collect_without_heap(started, rows);
        let status = Status::from_file("/proc/self/status");
        if let Ok(Some(kibibytes)) = status.as_ref().map(|status| status.vmdata) {
            rows.push(HEAP.single((kibibytes * 1024) as f64));
        }
        collected?;
        status?;
        Ok(())
    }

    pub(super) fn collect_without_heap(
        started: &OnceLock<f64>,
        rows: &mut Vec<FamilyRows>,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        // First, while this function has no descriptor of its own.
        let open = open_fds();
        if let Ok(open) = open {
            rows.push(OPEN_FDS.single(open as f64));
        }
        let stat = Stat::from_file("/proc/self/stat");
        if let Ok(stat) = &stat {
            from_stat(stat, rows);
        }
        rows.push(VIRTUAL_MAX.single(limit(getrlimit(Resource::As).current)));
        rows.push(MAX_FDS.single(limit(getrlimit(Resource::Nofile).current)));
        if let Ok(stat) = &stat {
            rows.push(START.single(*started.get_or_init(|| start_time(stat))));
        }
        stat?;
        open?;
        Ok(())
    }

    fn from_stat(stat: &Stat, rows: &mut Vec<FamilyRows>) {
        let ticks = stat.utime + stat.stime;
        rows.push(CPU.single(ticks as f64 / procfs::ticks_per_second() as f64));
        rows.push(VIRTUAL.single(stat.vsize as f64));
        rows.push(RESIDENT.single((stat.rss * procfs::page_size()) as f64));
        rows.push(THREADS.single(stat.num_threads as f64));
    }

    /// Returns the largest number if there is no limit, as the Go client does, so that comparisons are right.
    pub(super) fn limit(limit: Option<u64>) -> f64 {
        limit.unwrap_or(u64::MAX) as f64
    }

    /// Counts the descriptors without the one that the count itself may need.
    fn open_fds() -> io::Result<u64> {
        const FOLDER: &str = "/proc/self/fd";
        // Since Linux 6.2, the size of the folder is their number. Before, it is 0.
        match fs::metadata(FOLDER)?.len() {
            0 => listed_fds(FOLDER),
            open => Ok(open),
        }
    }

    pub(super) fn listed_fds(folder: &str) -> io::Result<u64> {
        let mut open = 0_u64;
        for entry in fs::read_dir(folder)? {
            entry?;
            open += 1;
        }
        Ok(open.saturating_sub(1))
    }

    /// Computes the start time from the wall clock's present time.
    ///
    /// `btime` of `/proc/stat` would be wrong: in containers it may be the boot of the container, while the kernel counts
    /// `starttime` from the boot of the machine. `CLOCK_BOOTTIME` counts from the same boot as `starttime`, also within a
    /// time namespace.
    fn start_time(stat: &Stat) -> f64 {
        let since_boot = clock_gettime(ClockId::Boottime);
        let since_boot = since_boot.tv_sec as f64 + since_boot.tv_nsec as f64 / 1e9;
        let started = stat.starttime as f64 / procfs::ticks_per_second() as f64;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        wall_start(now.unwrap_or_default(), since_boot, started)
    }

    /// Returns when a process started by the wall clock, never later than `now`. `since_boot` and `started` are seconds since
    /// the boot.
    pub(super) fn wall_start(now: Duration, since_boot: f64, started: f64) -> f64 {
        let age = (since_boot - started).max(0.0);
        (now.as_secs_f64() - age).max(0.0)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::reading::samples;

    #[test]
    fn all_nine_are_read_and_described() {
        let process = Process::new();
        let rows = samples(&process);
        let names: Vec<_> = rows.keys().cloned().collect();
        let mut described: Vec<_> = process
            .describe()
            .into_iter()
            .map(|family| family.name)
            .collect();
        described.sort();
        assert_eq!(names, described);
        assert_eq!(names.len(), 9);
        for name in names {
            assert!(rows[&name].is_finite() && rows[&name] >= 0.0, "{name}");
        }
    }

    #[test]
    fn levels_have_the_heap_only_where_it_is_wanted() {
        let process = Process::new();
        let read = |names: &[&str]| {
            let mut rows = Vec::new();
            process.collect_levels(names, &mut rows).unwrap();
            let names = rows.iter().map(|family| family.name().to_owned());
            names.collect::<std::collections::HashSet<_>>()
        };
        let all = read(&["process_heap_bytes"]);
        let mut without = read(&["process_open_fds"]);
        assert!(without.insert("process_heap_bytes".to_owned()));
        assert_eq!(without, all);
    }

    #[test]
    fn processor_time_is_finer_than_seconds() {
        let process = Process::new();
        let before = samples(&process)["process_cpu_seconds_total"];
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let used = samples(&process)["process_cpu_seconds_total"] - before;
            if used > 0.0 && used.fract() > 0.0 {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "the processor time does not change"
            );
        }
    }

    #[test]
    fn the_start_is_in_the_past_and_does_not_move() {
        let process = Process::new();
        let first = samples(&process)["process_start_time_seconds"];
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs_f64();
        assert!(first <= now && first > now - 86_400.0, "{first} {now}");
        assert!((samples(&process)["process_start_time_seconds"] - first).abs() < f64::EPSILON);
    }

    #[test]
    fn the_start_is_never_later_than_now() {
        let now = Duration::from_secs(1_700_000_000);
        for (since_boot, started, expected, why) in [
            (
                5000.0,
                4990.5,
                1_699_999_990.5,
                "nine and a half seconds ago",
            ),
            (5000.0, 0.0, 1_699_995_000.0, "at the boot"),
            (5000.0, 5000.01, 1_700_000_000.0, "a rounded tick"),
            (
                60.0,
                90_000.0,
                1_700_000_000.0,
                "a clock that counts from another boot",
            ),
            (3e9, 0.0, 0.0, "a wall clock that is not set yet"),
        ] {
            let start = linux::wall_start(now, since_boot, started);
            assert!((start - expected).abs() < 1e-6, "{why}: {start}");
        }
    }

    #[test]
    fn memory_is_in_bytes() {
        let rows = samples(&Process::new());
        let mebibyte = 1_048_576.0;
        assert!(rows["process_resident_memory_bytes"] > mebibyte);
        assert!(rows["process_virtual_memory_bytes"] > rows["process_resident_memory_bytes"]);
        assert!(rows["process_heap_bytes"] < rows["process_virtual_memory_bytes"]);
    }

    #[test]
    fn no_limit_is_the_largest_number() {
        assert!((linux::limit(None) - 2f64.powi(64)).abs() < 1.0);
        assert!((linux::limit(Some(1024)) - 1024.0).abs() < 1e-9);
    }

    #[test]
    fn open_descriptors_are_counted_exactly() {
        let open = || samples(&Process::new())["process_open_fds"];
        // Other tests of this process open and close descriptors, too.
        let agrees = (0..1_000).any(|_| {
            let listed = linux::listed_fds("/proc/self/fd").unwrap() as f64;
            let before = open();
            let file = std::fs::File::open("/dev/null").unwrap();
            let with_file = open();
            drop(file);
            (with_file - before - 1.0).abs() < 0.5 && (with_file - listed - 1.0).abs() < 0.5
        });
        assert!(agrees);
    }
}
