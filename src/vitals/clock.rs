//! The clock that requests and queries are timed by: that of the system, read from the processor's counter where the
//! kernel itself does so, which costs less than half.
//!
//! How fast the counter runs is found out on a thread of its own, in the background; until that is known, and where it
//! cannot be, the system is asked. Either way a moment is an [`Instant`], and an earlier one may be of either kind.
//!
//! The two part by some millionths of the time that passes. So moments of this clock are only compared with each other.

use std::{
    fs,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// Where the kernel tells what it takes the time from. It stops taking it from the counter if that turns out to run
/// unevenly, or apart on different cores.
const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// How long the counter is compared with the system's clock, and by how many parts of that they may differ.
const TRIAL: Duration = Duration::from_millis(20);
const TOLERANCE: u32 = 2_000;

/// Within this, two readings are of one moment.
const AT_ONCE: Duration = Duration::from_micros(1);

/// Set when the counter may be used.
static COUNTER: OnceLock<Counter> = OnceLock::new();

/// The processor's counter, and one moment by both clocks.
#[derive(Debug)]
struct Counter {
    clock: quanta::Clock,
    counted: quanta::Instant,
    told: Instant,
}

impl Counter {
    /// The counter, if it can be relied on.
    fn find() -> Option<Self> {
        let source = fs::read_to_string(CLOCK_SOURCE).ok()?;
        if source.trim_end() != "tsc" {
            return None;
        }
        let clock = quanta::Clock::new();
        let trial = Self::beginning_now(&clock)?;
        thread::sleep(TRIAL);
        trial.is_accurate().then_some(())?;
        Self::beginning_now(&clock)
    }

    /// Reads both clocks at once: nothing may have come in between, or else it is tried anew. What the counter tells from
    /// then on is not before what the system has told, so that going over to it no time goes back.
    fn beginning_now(clock: &quanta::Clock) -> Option<Self> {
        (0..100).find_map(|_| {
            let (before, counted, told) = (Instant::now(), clock.now(), Instant::now());
            (told - before < AT_ONCE).then(|| Self {
                clock: clock.clone(),
                counted,
                told,
            })
        })
    }

    #[inline]
    fn now(&self) -> Instant {
        self.told + self.clock.now().duration_since(self.counted)
    }

    /// Whether it tells the same as the system's clock, read right before and after.
    fn is_accurate(&self) -> bool {
        let (before, now, after) = (Instant::now(), self.now(), Instant::now());
        let tolerance = (after - self.told) / TOLERANCE;
        before <= now + tolerance && now <= after + tolerance
    }
}

/// Begins to find out about the counter, once in a process.
pub(crate) fn prepare() {
    static BEGUN: OnceLock<()> = OnceLock::new();
    BEGUN.get_or_init(|| {
        let find = || {
            if let Some(counter) = Counter::find() {
                let _ = COUNTER.set(counter);
            }
        };
        // Without a thread, the system is asked.
        let _ = thread::Builder::new()
            .name("vitals-clock".to_owned())
            .spawn(find);
    });
}

/// The present moment.
#[inline]
pub(crate) fn now() -> Instant {
    match COUNTER.get() {
        Some(counter) => counter.now(),
        None => Instant::now(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back_and_passes_as_the_system_says() {
        prepare();
        let outer = Instant::now();
        let begun = now();
        let inner = Instant::now();
        let mut last = begun;
        // Long enough for the background to have found out.
        while inner.elapsed() < Duration::from_millis(100) {
            let next = now();
            assert!(next >= last, "{next:?} after {last:?}");
            last = next;
        }
        let shortest = inner.elapsed();
        let passed = now() - begun;
        let longest = outer.elapsed();
        let tolerance = longest / 100;
        assert!(passed + tolerance >= shortest, "{passed:?} of {shortest:?}");
        assert!(passed <= longest + tolerance, "{passed:?} of {longest:?}");
    }
}
