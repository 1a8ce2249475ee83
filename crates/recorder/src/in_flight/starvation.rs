//! How long a worker waited for a processor while it could run.
//!
//! On a machine with too few processors a poll lasts long although its code does little. Such a poll is no stall of its
//! code. The kernel counts the waits of each thread in `/proc`. Nothing here needs the thread itself, which may be stuck.

use std::{
    collections::VecDeque,
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::clock::{self, Moment};

/// The most samples that are kept: those of some seconds.
const MOST_SAMPLES: usize = 64;

/// Samples that are further apart were taken while the watchdog rested: the thread had nothing to run before the poll.
const REST: Duration = Duration::from_millis(500);

/// Shorter polls are taken as they are, because a reading takes some microseconds.
const LEAST: Duration = Duration::from_millis(10);

/// The times of a thread, as the kernel counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ThreadTimes {
    /// The time on a processor.
    ran: Duration,
    /// The finished waits for a processor.
    waited: Duration,
}

/// The waits of one thread.
#[derive(Debug)]
pub(super) struct Starvation {
    /// The thread's directory in `/proc`. `None` if the system has none.
    directory: Option<PathBuf>,
    samples: Mutex<VecDeque<(Moment, ThreadTimes)>>,
}

impl Starvation {
    pub(super) fn of_this_thread() -> Self {
        let directory = fs::read_link("/proc/thread-self").ok();
        Self {
            directory: directory.map(|thread| PathBuf::from("/proc").join(thread)),
            samples: Mutex::default(),
        }
    }

    /// Keeps the thread's times at this moment.
    pub(super) fn sample(&self) {
        if let Some(times) = self.times() {
            let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
            if samples.len() >= MOST_SAMPLES {
                samples.pop_front();
            }
            samples.push_back((clock::now(), times));
        }
    }

    /// Returns how much of the time since `since` the thread waited for a processor. The waits between the two samples around
    /// `since` count in proportion, and those before the first sample do not count.
    pub(super) fn since(&self, since: Moment) -> Duration {
        if clock::now().since(since) < LEAST {
            return Duration::ZERO;
        }
        // In this order: a thread that gets a processor in between has finished its wait.
        let is_runnable = self.is_runnable();
        let Some(times) = self.times() else {
            return Duration::ZERO;
        };
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        starved(&samples, since, (clock::now(), times), is_runnable)
    }

    fn times(&self) -> Option<ThreadTimes> {
        let text = fs::read_to_string(self.directory.as_ref()?.join("schedstat")).ok()?;
        parse_times(&text)
    }

    /// Whether the thread runs, or waits for a processor.
    fn is_runnable(&self) -> bool {
        let stat = (self.directory.as_ref()).and_then(|path| fs::read(path.join("stat")).ok());
        stat.is_some_and(|stat| state(&stat) == Some(b'R'))
    }
}

/// The waits since a moment, by earlier samples and the present one.
fn starved(
    samples: &VecDeque<(Moment, ThreadTimes)>,
    since: Moment,
    (now, times): (Moment, ThreadTimes),
    is_runnable: bool,
) -> Duration {
    let behind = samples.partition_point(|(at, _)| *at < since);
    let (next, after) = samples.get(behind).copied().unwrap_or((now, times));
    let mut waited = times.waited.saturating_sub(after.waited);
    if let Some((last, before)) = behind.checked_sub(1).and_then(|index| samples.get(index)) {
        let around = after.waited.saturating_sub(before.waited);
        let apart = next.since(*last);
        let share = if apart > REST {
            1.0
        } else {
            next.since(since).as_secs_f64() / apart.as_secs_f64().max(1e-9)
        };
        waited += around.mul_f64(share.min(1.0));
    }
    // A wait that lasts is not counted yet. A runnable thread whose times stand still has no processor.
    let standing = samples.iter().rev();
    let standing = standing.take_while(|(_, earlier)| is_runnable && *earlier == times);
    let lasting = (standing.last()).map_or(Duration::ZERO, |(at, _)| now.since((*at).max(since)));
    waited + lasting
}

/// Reads `schedstat`: the time on a processor, the finished waits and the number of both, in nanoseconds.
/// <https://docs.kernel.org/scheduler/sched-stats.html#proc-pid-schedstat>
fn parse_times(text: &str) -> Option<ThreadTimes> {
    let mut numbers =
        (text.split_whitespace()).map(|number| number.parse().map(Duration::from_nanos));
    Some(ThreadTimes {
        ran: numbers.next()?.ok()?,
        waited: numbers.next()?.ok()?,
    })
}

/// Reads the state in `stat`. It follows the name, which may contain anything.
fn state(stat: &[u8]) -> Option<u8> {
    let end_of_name = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(end_of_name + 2).copied()
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering::Relaxed},
        thread,
    };

    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanoseconds(millis * 1_000_000)
    }

    fn times(ran: u64, waited: u64) -> ThreadTimes {
        ThreadTimes {
            ran: Duration::from_millis(ran),
            waited: Duration::from_millis(waited),
        }
    }

    #[test]
    fn waits_for_a_processor_are_told_from_sleep_and_from_work() {
        // Samples of every 50 ms. The poll begins at 110 ms, and lasts until 300 ms.
        for (samples, present, is_runnable, expected, why) in [
            ([(10, 5); 4], (10, 5), false, 0, "it sleeps"),
            (
                [(10, 5), (20, 5), (70, 5), (120, 5)],
                (170, 5),
                true,
                0,
                "it works",
            ),
            (
                [(10, 5), (20, 9), (25, 59), (30, 109)],
                (35, 159),
                true,
                140,
                "it worked little",
            ),
            (
                [(10, 5), (20, 5), (20, 5), (20, 5)],
                (20, 5),
                true,
                190,
                "it has no processor",
            ),
            (
                [(10, 5), (20, 5), (25, 5), (25, 5)],
                (25, 5),
                true,
                150,
                "it lost the processor",
            ),
            (
                [(10, 5), (20, 5), (20, 5), (20, 5)],
                (20, 195),
                false,
                190,
                "it had none until now",
            ),
        ] {
            let samples = (1..).zip(samples);
            let samples: VecDeque<_> = samples
                .map(|(number, (ran, waited))| (at(50 * number), times(ran, waited)))
                .collect();
            let present = (at(300), times(present.0, present.1));
            let starved = starved(&samples, at(110), present, is_runnable);
            assert_eq!(starved, Duration::from_millis(expected), "{why}");
        }
        let rested = VecDeque::from([(at(50), times(10, 5)), (at(5_200), times(12, 95))]);
        let after_a_rest = starved(&rested, at(5_100), (at(5_250), times(20, 100)), true);
        assert_eq!(
            after_a_rest,
            Duration::from_millis(95),
            "it had no wait before"
        );
        let alone = starved(&VecDeque::new(), at(110), (at(300), times(1, 100)), true);
        assert_eq!(alone, Duration::ZERO, "nothing is known");
    }

    #[test]
    fn the_files_of_the_kernel_are_read() {
        assert_eq!(parse_times("1000000 2000000 7\n"), Some(times(1, 2)));
        for text in ["", "1", "a b c", "1 -2 3"] {
            assert_eq!(parse_times(text), None, "{text}");
        }
        assert_eq!(state(b"12 (a) R (b)) S 1 2"), Some(b'S'));
        assert_eq!(state(b"12 (a"), None);
    }

    #[test]
    fn a_thread_that_sleeps_or_works_is_not_starved_for_all_of_that_time() {
        let starvation = Starvation::of_this_thread();
        let Some(before) = starvation.times() else {
            return;
        };
        starvation.sample();
        let since = clock::now();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let watching = scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    starvation.sample();
                    thread::sleep(Duration::from_millis(5));
                }
            });
            // Until the thread has worked for this long, however long that takes.
            while starvation.times().unwrap().ran < before.ran + Duration::from_millis(50) {
                std::hint::spin_loop();
            }
            is_over.store(true, Relaxed);
            watching.join().unwrap();
        });
        let took = clock::now().since(since);
        let starved = starvation.since(since);
        assert!(starved <= took, "{starved:?} of {took:?}");
    }
}
