//! What threads work for, over time: recorded only while a processor profile runs.
//!
//! A thread that begins or ends work for a request or job then notes the moment in a log of its own. The profile asks
//! for the work of a thread at the moment of each sample. Otherwise a thread tests one word when work begins and ends. The
//! same word turns on the count of allocations.

use std::{
    cell::OnceCell,
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
            fence,
        },
    },
};

use crate::{clock, name_numbers};

/// The number of marks in the log of a thread, a power of two: 32 KiB.
const LOG_MARKS: usize = 2_048;

/// The most marks of a thread that wait for its next sample.
const MOST_PENDING: usize = 65_536;

/// The bit of an owner that is a job.
const JOB: u64 = 1 << 32;

/// The number of recordings, and [`ALLOCATIONS`].
static WATCHES: AtomicU32 = AtomicU32::new(0);

/// The bit of [`WATCHES`] that allocations are counted.
const ALLOCATIONS: u32 = 1 << 31;

/// The logs of all threads that have one.
static LOGS: Mutex<Vec<Weak<ThreadLog>>> = Mutex::new(Vec::new());

thread_local! {
    static LOG: OnceCell<Arc<ThreadLog>> = const { OnceCell::new() };
}

/// Whether threads note when they begin and end work: for a recording, or to count allocations.
#[inline]
pub(crate) fn is_watched() -> bool {
    WATCHES.load(Relaxed) != 0
}

/// Whether the work of threads is recorded.
pub(crate) fn is_recorded() -> bool {
    WATCHES.load(Relaxed) & !ALLOCATIONS != 0
}

/// Counts what is allocated for each request and job from now on.
pub(crate) fn count_allocations() {
    WATCHES.fetch_or(ALLOCATIONS, Relaxed);
}

/// Whether allocations are counted.
#[cfg(feature = "jemalloc")]
pub(crate) fn are_allocations_counted() -> bool {
    WATCHES.load(Relaxed) & ALLOCATIONS != 0
}

/// Notes what this thread works for from now on: a request to the endpoint with this number, or nothing with 0.
pub(crate) fn note_endpoint(number: u32) {
    note(u64::from(number));
}

/// Notes that this thread works for the job whose name has this number from now on.
pub(crate) fn note_job(number: u32) {
    note(JOB | u64::from(number));
}

fn note(owner: u64) {
    // A thread that ends has no log any more.
    let _noted = LOG.try_with(|log| {
        let log = log.get_or_init(ThreadLog::of_this_thread);
        log.push(clock::now().nanoseconds(), owner);
    });
}

/// What to add to the recorder's clock for `CLOCK_MONOTONIC`, in nanoseconds. The two drift apart by some millionths of the
/// time, and an interruption between two readings makes a wrong result, so the closest readings count.
fn clock_offset() -> u64 {
    let readings = (0..8).map(|_| {
        let before = monotonic();
        let moment = clock::now().nanoseconds();
        let width = monotonic().saturating_sub(before);
        (width, (before + width / 2).wrapping_sub(moment))
    });
    readings.min().map_or(0, |(_, offset)| offset)
}

/// The moment of `CLOCK_MONOTONIC`, in nanoseconds.
#[cfg(target_os = "linux")]
fn monotonic() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(not(target_os = "linux"))]
fn monotonic() -> u64 {
    0
}

/// The last marks of one thread. Only the thread itself adds to it.
#[derive(Debug)]
struct ThreadLog {
    /// The id that the kernel gives the thread; 0 if it is not known.
    thread: u32,
    /// The number of all marks so far.
    head: AtomicU64,
    marks: Box<[Mark]>,
}

/// The beginning of some work.
#[derive(Debug, Default)]
struct Mark {
    /// By the recorder's clock: that of the system takes twice as long to read.
    at: AtomicU64,
    owner: AtomicU64,
}

impl ThreadLog {
    fn of_this_thread() -> Arc<Self> {
        let link = std::fs::read_link("/proc/thread-self").ok();
        let name = link.as_deref().and_then(|link| link.file_name()?.to_str());
        let log = Arc::new(Self {
            thread: name.and_then(|name| name.parse().ok()).unwrap_or(0),
            head: AtomicU64::new(0),
            marks: (0..LOG_MARKS).map(|_| Mark::default()).collect(),
        });
        let mut logs = logs();
        logs.retain(|log| log.strong_count() > 0);
        logs.push(Arc::downgrade(&log));
        log
    }

    fn push(&self, at: u64, owner: u64) {
        let head = self.head.load(Relaxed);
        // A reader that sees the new mark in place of the old one also sees the head before it.
        fence(Release);
        if let Some(mark) = self.marks.get(index(head)) {
            mark.at.store(at, Relaxed);
            mark.owner.store(owner, Relaxed);
        }
        self.head.store(head + 1, Release);
    }

    /// Passes on the marks from number `from` on that were not replaced meanwhile, and returns the number after the last.
    fn read(&self, from: u64, pending: &mut VecDeque<(u64, u64)>) -> u64 {
        let head = self.head.load(Acquire);
        let first = from.max(head.saturating_sub(LOG_MARKS as u64));
        let marks: Vec<_> = (first..head)
            .filter_map(|number| self.marks.get(index(number)))
            .map(|mark| (mark.at.load(Relaxed), mark.owner.load(Relaxed)))
            .collect();
        fence(Acquire);
        // The thread may be replacing the mark that is as old as the log is long.
        let oldest = (self.head.load(Relaxed) + 1).saturating_sub(LOG_MARKS as u64);
        let replaced = usize::try_from(oldest.saturating_sub(first)).unwrap_or(usize::MAX);
        pending.extend(marks.into_iter().skip(replaced));
        head
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the remainder is small")]
fn index(number: u64) -> usize {
    (number % LOG_MARKS as u64) as usize
}

fn logs() -> MutexGuard<'static, Vec<Weak<ThreadLog>>> {
    LOGS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Records what threads work for, until it is dropped. What they already worked for at its beginning is not known.
#[derive(Debug)]
pub struct WorkRecording {
    threads: HashMap<u32, ThreadHistory>,
    /// What to add to the moment of a mark for that of a sample.
    clock_offset: u64,
}

#[derive(Debug)]
struct ThreadHistory {
    log: Arc<ThreadLog>,
    /// The number of the next mark.
    next: u64,
    /// The marks after the last sample.
    pending: VecDeque<(u64, u64)>,
    /// What the thread worked for at the last sample.
    owner: u64,
}

impl WorkRecording {
    /// Begins to record.
    pub fn begin() -> Self {
        WATCHES.fetch_add(1, Relaxed);
        let mut recording = Self {
            threads: HashMap::new(),
            clock_offset: clock_offset(),
        };
        recording.find_threads();
        for history in recording.threads.values_mut() {
            // What an earlier recording has left.
            history.next = history.log.head.load(Acquire);
        }
        recording
    }

    /// Reads the logs of all threads. Call it often: a log keeps the last 2,048 marks.
    pub fn keep_up(&mut self) {
        self.clock_offset = clock_offset();
        self.find_threads();
        for history in self.threads.values_mut() {
            history.next = history.log.read(history.next, &mut history.pending);
            while history.pending.len() > MOST_PENDING {
                history.advance();
            }
        }
    }

    /// The endpoint or the job that a thread worked for at a moment of `CLOCK_MONOTONIC`, in nanoseconds. The moments of
    /// one thread must not decrease from one call to the next.
    pub fn work_at(&mut self, thread: u32, nanoseconds: u64) -> Option<Arc<str>> {
        let history = self.threads.get_mut(&thread)?;
        let at = nanoseconds.wrapping_sub(self.clock_offset);
        while history.pending.front().is_some_and(|mark| mark.0 <= at) {
            history.advance();
        }
        let number = u32::try_from(history.owner & !JOB).unwrap_or(0);
        let name = name_numbers::name_of(number)?;
        if history.owner & JOB == 0 {
            return Some(name);
        }
        Some(format!("job {name}").into())
    }

    fn find_threads(&mut self) {
        for log in logs().iter().filter_map(Weak::upgrade) {
            self.threads
                .entry(log.thread)
                .and_modify(|known| {
                    // The id of a thread that has ended is used again.
                    if !Arc::ptr_eq(&known.log, &log) {
                        *known = ThreadHistory::of(Arc::clone(&log));
                    }
                })
                .or_insert_with(|| ThreadHistory::of(log));
        }
    }
}

impl Drop for WorkRecording {
    fn drop(&mut self) {
        WATCHES.fetch_sub(1, Relaxed);
    }
}

impl ThreadHistory {
    fn of(log: Arc<ThreadLog>) -> Self {
        Self {
            log,
            next: 0,
            pending: VecDeque::new(),
            owner: 0,
        }
    }

    fn advance(&mut self) {
        if let Some((_, owner)) = self.pending.pop_front() {
            self.owner = owner;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    fn own_id() -> u32 {
        LOG.with(|log| log.get_or_init(ThreadLog::of_this_thread).thread)
    }

    #[test]
    fn the_work_of_a_thread_is_known_at_each_moment() {
        let endpoint = name_numbers::number_of("/thread-work/a");
        let job = name_numbers::number_of("thread-work-job");
        let mut recording = WorkRecording::begin();
        assert!(is_recorded());
        let (id, moments) = thread::spawn(move || {
            // The moments of the two clocks are comparable to within a microsecond.
            let moment = || {
                thread::sleep(Duration::from_millis(1));
                let moment = monotonic();
                thread::sleep(Duration::from_millis(1));
                moment
            };
            let mut moments = vec![moment()];
            note_endpoint(endpoint);
            moments.push(moment());
            note_job(job);
            moments.push(moment());
            note_endpoint(0);
            moments.push(moment());
            // Keeps its log until the test has read it.
            let log = LOG.with(|log| Arc::clone(log.get().unwrap()));
            ((own_id(), log), moments)
        })
        .join()
        .unwrap();
        recording.keep_up();
        let work = moments.iter().map(|at| recording.work_at(id.0, *at));
        let work: Vec<_> = work
            .map(|work| work.as_deref().map(str::to_owned))
            .collect();
        let expected = [
            None,
            Some("/thread-work/a"),
            Some("job thread-work-job"),
            None,
        ];
        assert_eq!(work, expected.map(|work| work.map(str::to_owned)));
    }

    #[test]
    fn a_log_keeps_the_last_marks_and_never_a_wrong_one() {
        let log = Arc::new(ThreadLog {
            thread: 1,
            head: AtomicU64::new(0),
            marks: (0..LOG_MARKS).map(|_| Mark::default()).collect(),
        });
        let writer = Arc::clone(&log);
        let writer = thread::spawn(move || {
            for number in 0..1_000_000 {
                writer.push(number, number + 7);
            }
        });
        let mut pending = VecDeque::new();
        let (mut next, mut last) = (0, None);
        while next < 1_000_000 {
            next = log.read(next, &mut pending);
            for (at, owner) in pending.drain(..) {
                assert_eq!(owner, at + 7, "a mark was torn");
                assert!(last.is_none_or(|last| at > last), "a mark was read again");
                last = Some(at);
            }
        }
        writer.join().unwrap();
        assert_eq!(last, Some(999_999));
    }
}
