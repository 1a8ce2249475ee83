//! The clock that measures requests and queries. It reads the processor's counter if the kernel's own clock does so, which
//! costs less than half as much as the system's clock.
//!
//! A background thread calibrates the counter. Before that, and if the counter is not usable, the system's clock is read.
//! The thread keeps comparing the two. When they differ, because the machine was suspended or moved or the kernel has
//! rejected the counter, the system's clock is used from then on. A `Moment` may come from either clock; both kinds can be
//! compared.
//!
//! The two clocks drift apart by some millionths of the elapsed time. So a moment is not an `Instant`: it may only be
//! compared with other moments, and not over days.

use std::{
    fs,
    sync::{
        LazyLock, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// The file with the kernel's clock source. The kernel stops using the counter if it runs unevenly, or differs between
/// cores.
const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// The time over which the counter is compared with the system's clock before it is used.
const FIRST_TRIAL: Duration = Duration::from_millis(20);
/// The time of each comparison after that.
const TRIAL: Duration = Duration::from_secs(5);
/// The clocks may differ by one part in this many of the time of a comparison.
const TOLERANCE: u64 = 2_000;

/// Readings of both clocks within this time count as simultaneous.
const AT_ONCE: Duration = Duration::from_micros(1);

/// Set once the counter has passed its first comparison.
static COUNTER: OnceLock<ProcessorCounter> = OnceLock::new();

/// Set once it has failed a later one.
static IS_GIVEN_UP: AtomicBool = AtomicBool::new(false);

/// A point in time, in nanoseconds since an arbitrary one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// Reads the system's clock. Apart from the processor's counter, which thus has no registers to save.
    #[cold]
    #[inline(never)]
    fn from_system() -> Self {
        static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);
        let nanoseconds = BEGINNING.elapsed().as_nanos();
        // It saturates after 584 years.
        Self(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// The time from an earlier moment to this one; zero if that one is later.
    #[inline]
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The same as [`since`](Self::since), in nanoseconds.
    #[inline]
    pub(crate) fn nanoseconds_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment that is `time` later.
    #[inline]
    pub(crate) fn after(self, time: Duration) -> Self {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanoseconds))
    }

    /// The moment that is `time` earlier.
    #[inline]
    pub(crate) fn before(self, time: Duration) -> Self {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(nanoseconds))
    }

    /// The moment as a number, to be kept in an atomic.
    #[inline]
    pub(crate) fn nanoseconds(self) -> u64 {
        self.0
    }

    /// The moment of a number from [`nanoseconds`](Self::nanoseconds).
    #[inline]
    pub(crate) fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }
}

/// The processor's counter, with one simultaneous reading of both clocks.
#[derive(Debug)]
struct ProcessorCounter {
    clock: quanta::Clock,
    counted: u64,
    began: Moment,
}

impl ProcessorCounter {
    /// Returns the counter if it is usable.
    fn find() -> Option<Self> {
        if !is_used_by_the_kernel() {
            return None;
        }
        let clock = quanta::Clock::new();
        let trial = Self::beginning_now(&clock)?;
        thread::sleep(FIRST_TRIAL);
        trial.is_accurate().then_some(())?;
        Self::beginning_now(&clock)
    }

    /// Compares the counter with the system's clock, and returns when it is no longer usable.
    fn watch(&self) {
        let begin = || Self::beginning_now(&self.clock);
        let mut trial = begin();
        loop {
            thread::sleep(TRIAL);
            let has_failed = trial.as_ref().is_some_and(|trial| !trial.is_accurate());
            if has_failed || !is_used_by_the_kernel() {
                return;
            }
            // If no simultaneous reading succeeded, the last comparison goes on.
            trial = begin().or(trial);
        }
    }

    /// Reads both clocks simultaneously; tries again if the thread was interrupted in between. The counter's moments are
    /// then never before those of the system's clock, so that time does not go back when the counter takes over.
    fn beginning_now(clock: &quanta::Clock) -> Option<Self> {
        (0..100).find_map(|_| {
            let before = Moment::from_system();
            let (counted, began) = (clock.raw(), Moment::from_system());
            (began.since(before) < AT_ONCE).then(|| Self {
                clock: clock.clone(),
                counted,
                began,
            })
        })
    }

    #[inline]
    fn now(&self) -> Moment {
        let passed = self.clock.delta_as_nanos(self.counted, self.clock.raw());
        Moment(self.began.0 + passed)
    }

    /// Whether the counter agrees with the system's clock, which is read right before and after.
    fn is_accurate(&self) -> bool {
        let (before, now, after) = (Moment::from_system(), self.now(), Moment::from_system());
        let tolerance = 1_000 + after.0.saturating_sub(self.began.0) / TOLERANCE;
        before.0 <= now.0 + tolerance && now.0 <= after.0 + tolerance
    }
}

/// Whether the kernel's own clock reads the counter.
fn is_used_by_the_kernel() -> bool {
    fs::read_to_string(CLOCK_SOURCE).is_ok_and(|source| source.trim_end() == "tsc")
}

/// Starts the thread that calibrates the counter, once in a process.
pub fn prepare() {
    static BEGUN: OnceLock<()> = OnceLock::new();
    BEGUN.get_or_init(|| {
        let find = || {
            while is_used_by_the_kernel() {
                if let Some(found) = ProcessorCounter::find() {
                    COUNTER.get_or_init(|| found).watch();
                    IS_GIVEN_UP.store(true, Relaxed);
                    tracing::warn!(
                        "the processor's counter and the system's clock differ: requests and queries are now timed by the system's clock"
                    );
                    return;
                }
                // A busy machine disturbs the comparison, so a failed one is repeated.
                thread::sleep(TRIAL);
            }
        };
        // Without the thread, the system's clock is used.
        let _ = thread::Builder::new()
            .name("vitals-clock".to_owned())
            .spawn(find);
    });
}

/// The present moment.
///
/// Not inlined, so that the benchmark of instructions can exclude it: its cost depends on the machine.
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

    /// Returns a counter that is ahead of the system's clock by this time, if there is a usable counter.
    fn ahead(by: Duration) -> Option<ProcessorCounter> {
        let counter = ProcessorCounter::find()?;
        Some(ProcessorCounter {
            began: Moment(counter.began.0 + u64::try_from(by.as_nanos()).unwrap()),
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
        // Until after the change from one clock to the other, if there is one.
        let is_over = || COUNTER.get().is_some() || !is_used_by_the_kernel();
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
    fn a_counter_that_differs_from_the_system_is_not_accurate() {
        // If the kernel uses another clock source, there is no counter.
        if let Some(counter) = ahead(Duration::ZERO) {
            assert!(counter.is_accurate());
        }
        if let Some(counter) = ahead(Duration::from_secs(1)) {
            assert!(!counter.is_accurate());
        }
    }

    #[test]
    fn the_time_from_a_later_moment_is_zero() {
        let (earlier, later) = (Moment(1_000_000_000), Moment(3_500_000_000));
        assert_eq!(later.since(earlier), Duration::from_millis(2_500));
        assert_eq!(later.nanoseconds_since(earlier), 2_500_000_000);
        assert_eq!(earlier.since(later), Duration::ZERO);
        assert_eq!(earlier.nanoseconds_since(later), 0);
    }
}
