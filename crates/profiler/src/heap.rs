//! Heap profiles: the live allocations that jemalloc has sampled, by call site.
//!
//! jemalloc samples about one allocation in 512 KiB, with its stack, and forgets it when it is freed. It must have been
//! started with `prof:true` (docs/PROFILING.md). Its report is written to memory, never to a disk.

mod dump;

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::fd::AsRawFd as _,
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::fs::{MemfdFlags, memfd_create};
use tikv_jemalloc_ctl::{Access as _, AsName as _};

use crate::{
    Profile, ProfileError, ProfileKind, ProfileMethod,
    profile::Stacks,
    symbols::{Address, Symbols},
};
use dump::{Dump, scaled};

/// How often a profile of the growth looks whether it shall stop.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Functions of the allocator itself, by the beginning of their names. They are the innermost frames of each stack.
const ALLOCATOR: [&str; 8] = [
    "_rjem_",
    "prof_",
    "imalloc",
    "irallocx",
    "do_rallocx",
    "arena_",
    "__rust",
    "<tikv_jemallocator::",
];

/// The file in memory that jemalloc writes its report to. `None` if there can be none.
static REPORT: LazyLock<Mutex<Option<ReportFile>>> =
    LazyLock::new(|| Mutex::new(ReportFile::new().ok()));

struct ReportFile {
    file: File,
    /// Its path, with a zero at the end.
    path: &'static str,
}

impl ReportFile {
    fn new() -> io::Result<Self> {
        let file = File::from(memfd_create("heap-profile", MemfdFlags::CLOEXEC)?);
        let path = format!("/proc/self/fd/{}\0", file.as_raw_fd());
        // jemalloc's interface takes a path that lasts. There is one in the life of a process.
        let path = Box::leak(path.into_boxed_str());
        Ok(Self { file, path })
    }

    /// Lets jemalloc write its report, and returns it.
    fn write(&mut self) -> io::Result<String> {
        let path: &'static str = self.path;
        "prof.dump\0"
            .name()
            .write(path)
            .map_err(|error| io::Error::other(error.to_string()))?;
        let mut report = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.read_to_end(&mut report)?;
        self.file.set_len(0)?;
        // It ends with the paths of the mapped files, which may be any bytes.
        Ok(String::from_utf8_lossy(&report).into_owned())
    }
}

/// Whether jemalloc samples allocations.
pub fn is_heap_sampled() -> bool {
    "prof.active\0".name().read().unwrap_or(false)
}

/// Makes jemalloc sample allocations from now on. Returns false if it was not started with `prof:true`.
pub fn activate_heap_profiles() -> bool {
    // jemalloc without profiles has no such name.
    let is_prepared: bool = "opt.prof\0".name().read().unwrap_or(false);
    is_prepared && "prof.active\0".name().write(true).is_ok()
}

/// Returns the live allocations by call site: those that were made since the allocations are sampled.
///
/// # Errors
///
/// Returns [`ProfileError::Unavailable`] if jemalloc does not sample allocations, with what would make it do so.
pub fn heap_profile() -> Result<Profile, ProfileError> {
    let started = SystemTime::now();
    let dumps = [(dump()?, 1)];
    Ok(profile(ProfileKind::Heap, started, Duration::ZERO, &dumps))
}

/// Returns what the live allocations grow and shrink by within `time`. Blocks until then, or until `stop` is true.
///
/// # Errors
///
/// Returns [`ProfileError::Unavailable`] as [`heap_profile`] does, and [`ProfileError::Stopped`] if `stop` was set.
pub fn heap_growth(time: Duration, stop: &AtomicBool) -> Result<Profile, ProfileError> {
    let started = SystemTime::now();
    let earlier = dump()?;
    let began = Instant::now();
    while began.elapsed() < time {
        if stop.load(Relaxed) {
            return Err(ProfileError::Stopped);
        }
        thread::sleep(LOOK_INTERVAL.min(time.saturating_sub(began.elapsed())));
    }
    let duration = began.elapsed();
    // Names are looked up after both reports: what that allocates is no growth.
    let dumps = [(dump()?, 1), (earlier, -1)];
    Ok(profile(ProfileKind::HeapGrowth, started, duration, &dumps))
}

/// Lets jemalloc report the sampled allocations that are live.
fn dump() -> Result<Dump, ProfileError> {
    if !is_heap_sampled() {
        return Err(ProfileError::Unavailable(
            "The allocations are not sampled: jemalloc must be the allocator, be built with its feature `profiling`, and be \
             started with `prof:true` in _RJEM_MALLOC_CONF. `--profiling` does so."
                .to_owned(),
        ));
    }
    let report = REPORT
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .as_mut()
        .map(ReportFile::write);
    let report = report.and_then(Result::ok).ok_or_else(|| {
        ProfileError::Unavailable(
            "jemalloc's report of the allocations cannot be written.".to_owned(),
        )
    })?;
    Dump::parse(&report).ok_or_else(|| {
        ProfileError::Unavailable(
            "jemalloc's report of the allocations is of an unknown form.".to_owned(),
        )
    })
}

/// Adds up reports with their signs, and names the frames of all call sites.
fn profile(
    kind: ProfileKind,
    started: SystemTime,
    duration: Duration,
    dumps: &[(Dump, i64)],
) -> Profile {
    let mut symbols = Symbols::new();
    let mut stacks = Stacks::default();
    for (dump, sign) in dumps {
        for site in &dump.sites {
            let addresses = site
                .addresses
                .iter()
                .map(|address| Address::Return(*address));
            let mut frames = symbols.frames(addresses, &mut stacks);
            while frames
                .last()
                .is_some_and(|frame| stacks.is_function_of(*frame, &ALLOCATOR))
            {
                frames.pop();
            }
            let (count, bytes) = scaled(site, dump.period);
            stacks.add(None, frames, sign * count, sign * bytes);
        }
    }
    let (frames, stacks) = stacks.finish();
    Profile {
        kind,
        method: ProfileMethod::Jemalloc,
        started,
        duration,
        period: dumps.first().map_or(0, |(dump, _)| dump.period),
        frames,
        stacks,
        notes: Vec::new(),
    }
}
