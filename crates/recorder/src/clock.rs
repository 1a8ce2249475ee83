//! The clock that requests and queries are timed by: that of the system, read from the processor's counter where the
//! kernel itself does so, which costs less than half.
//!
//! How fast the counter runs is found out on a thread of its own, in the background; until that is known, and where it
//! cannot be, the system is asked. The thread goes on to compare the two, and the system is asked again as soon as they
//! part: the machine was suspended or moved, or the kernel has given the counter up. Either way a [`Moment`] is on one line
//! of time, and an earlier one may be of either kind.
//!
//! The two part by some millionths of the time that passes. So a moment is no `Instant`: it is only compared with others of
//! this clock, and not over days.

use std::{
    fs,
    sync::{
        LazyLock, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// Where the kernel tells what it takes the time from. It stops taking it from the counter if that turns out to run
/// unevenly, or apart on different cores.
const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// How long the counter is compared with the system's clock before it is used, and how long again and again from then on;
/// and by how small a part of that they may differ.
const FIRST_TRIAL: Duration = Duration::from_millis(20);
const TRIAL: Duration = Duration::from_secs(5);
const TOLERANCE: u64 = 2_000;

/// Within this, two readings are of one moment; so much they may differ at least.
const AT_ONCE: Duration = Duration::from_micros(1);

/// Set when the counter has passed its first trial.
static COUNTER: OnceLock<ProcessorCounter> = OnceLock::new();

/// Set when it has failed a later one.
static IS_GIVEN_UP: AtomicBool = AtomicBool::new(false);

/// A moment, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// By the system's clock.
    fn from_system() -> Self {
        static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
        let nanoseconds = BEGINNING.elapsed().as_nanos();
        // It is full after 584 years.
        Self(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// The time from an earlier moment to this one; none from a later one.
    #[inline]
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment that much later.
    #[inline]
    pub(crate) fn after(self, time: Duration) -> Self {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanoseconds))
    }

    /// The nanoseconds of this clock, for places that are too small for a moment.
    #[inline]
    pub(crate) fn nanoseconds(self) -> u64 {
        self.0
    }

    /// The time from an earlier moment to this one, in seconds.
    #[inline]
    pub(crate) fn seconds_since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1e9
    }
}

/// The processor's counter, and one moment by both clocks.
#[derive(Debug)]
struct ProcessorCounter {
    clock: quanta::Clock,
    counted: u64,
    told: Moment,
}

impl ProcessorCounter {
    /// The counter, if it can be relied on.
    fn find() -> Option<Self> {
        if !is_of_the_kernel() {
            return None;
        }
        let clock = quanta::Clock::new();
        let trial = Self::beginning_now(&clock)?;
        thread::sleep(FIRST_TRIAL);
        trial.is_accurate().then_some(())?;
        Self::beginning_now(&clock)
    }

    /// Returns when it can be relied on no more.
    fn watch(&self) {
        let begin = || Self::beginning_now(&self.clock);
        let mut trial = begin();
        loop {
            thread::sleep(TRIAL);
            let has_failed = trial.as_ref().is_some_and(|trial| !trial.is_accurate());
            if has_failed || !is_of_the_kernel() {
                return;
            }
            // Of a trial that found no quiet moment to begin at, the next is the longer.
            trial = begin().or(trial);
        }
    }

    /// Reads both clocks at once: nothing may have come in between, or else it is tried anew. What the counter tells from
    /// then on is not before what the system has told, so that going over to it no time goes back.
    fn beginning_now(clock: &quanta::Clock) -> Option<Self> {
        (0..100).find_map(|_| {
            let (before, counted, told) =
                (Moment::from_system(), clock.raw(), Moment::from_system());
            (told.since(before) < AT_ONCE).then(|| Self {
                clock: clock.clone(),
                counted,
                told,
            })
        })
    }

    #[inline]
    fn now(&self) -> Moment {
        let passed = self.clock.delta_as_nanos(self.counted, self.clock.raw());
        Moment(self.told.0 + passed)
    }

    /// Whether it tells the same as the system's clock, read right before and after.
    fn is_accurate(&self) -> bool {
        let (before, now, after) = (Moment::from_system(), self.now(), Moment::from_system());
        let tolerance = 1_000 + after.0.saturating_sub(self.told.0) / TOLERANCE;
        before.0 <= now.0 + tolerance && now.0 <= after.0 + tolerance
    }
}

/// Whether the kernel itself takes the time from the counter.
fn is_of_the_kernel() -> bool {
    fs::read_to_string(CLOCK_SOURCE).is_ok_and(|source| source.trim_end() == "tsc")
}

/// Begins to find out about the counter, once in a process.
pub fn prepare() {
    static BEGUN: OnceLock<()> = OnceLock::new();
    BEGUN.get_or_init(|| {
        let find = || {
            while is_of_the_kernel() {
                if let Some(found) = ProcessorCounter::find() {
                    COUNTER.get_or_init(|| found).watch();
                    IS_GIVEN_UP.store(true, Relaxed);
                    tracing::warn!(
                        "the processor's counter and the system's clock have parted: requests and queries are timed by the system's"
                    );
                    return;
                }
                // A busy machine disturbs the comparison. Whether it was busy at the start must not decide what
                // requests cost from then on.
                thread::sleep(TRIAL);
            }
        };
        // Without a thread, the system is asked.
        let _ = thread::Builder::new()
            .name("vitals-clock".to_owned())
            .spawn(find);
    });
}

/// The present moment.
///
/// Not inlined, so that the benchmark of instructions can leave it out: its cost depends on the machine.
#[inline(never)]
pub(crate) fn now() -> Moment {
    match COUNTER.get() {
        Some(counter) if !IS_GIVEN_UP.load(Relaxed) => counter.now(),
        _ => Moment::from_system(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A counter that tells so much more than the system's clock, of one that can be relied on.
    fn ahead(by: Duration) -> Option<ProcessorCounter> {
        let counter = ProcessorCounter::find()?;
        Some(ProcessorCounter {
            told: Moment(counter.told.0 + u64::try_from(by.as_nanos()).unwrap()),
            ..counter
        })
    }

    #[test]
    fn time_never_goes_back_and_passes_as_the_system_says() {
        prepare();
        let outer = Instant::now();
        let begun = now();
        let inner = Instant::now();
        let mut last = begun;
        // Past the change from one clock to the other, where there is one.
        let is_over = || COUNTER.get().is_some() || !is_of_the_kernel();
        while inner.elapsed() < Duration::from_millis(100)
            || (!is_over() && inner.elapsed() < Duration::from_secs(2))
        {
            let next = now();
            assert!(next >= last, "{next:?} after {last:?}");
            last = next;
        }
        let shortest = inner.elapsed();
        let passed = now().since(begun);
        let longest = outer.elapsed();
        let tolerance = longest / 100;
        assert!(passed + tolerance >= shortest, "{passed:?} of {shortest:?}");
        assert!(passed <= longest + tolerance, "{passed:?} of {longest:?}");
    }

    #[test]
    fn a_counter_that_has_parted_from_the_system_is_found_out() {
        // Where the kernel takes the time elsewhere, there is none to be found out.
        if let Some(counter) = ahead(Duration::ZERO) {
            assert!(counter.is_accurate());
        }
        if let Some(counter) = ahead(Duration::from_secs(1)) {
            assert!(!counter.is_accurate());
        }
    }

    #[test]
    fn the_time_from_a_later_moment_is_none() {
        let (earlier, later) = (Moment(1_000_000_000), Moment(3_500_000_000));
        assert_eq!(later.since(earlier), Duration::from_millis(2_500));
        assert!((later.seconds_since(earlier) - 2.5).abs() < 1e-12);
        assert_eq!(earlier.since(later), Duration::ZERO);
        assert!(earlier.seconds_since(later).abs() < 1e-12);
    }
}
