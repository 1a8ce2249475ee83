//! The lag of an event loop, measured by ticks that are due every 100 ms.
//!
//! A loop that has had nothing to do for some seconds rests: it runs one tick a second, which stands for ten. While a loop
//! waits for events, no tick can be late. A request that begins ends the rest, so that the ticks during its code are
//! exact. Other code may run during a rest, such as a task of the application; Tokio measures for how long.

use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::RuntimeMetrics,
    sync::Notify,
    time::{Instant, sleep_until, timeout_at},
};
use vitals_registry::Histogram;

use super::Registration;

/// The time between two ticks.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// The most ticks that are observed after a stall: those of 100 seconds.
pub(super) const MOST_OBSERVED_TICKS: u32 = 1000;

/// The ticks of a rest.
const TICKS_OF_REST: u32 = 10;

/// A loop rests after so many ticks in which it had nothing to do.
const IDLE_TICKS: u32 = 30;

/// The most that a loop with nothing to do runs in a tick: its timers, and this measurement.
const IDLE_TIME: Duration = Duration::from_millis(1);

thread_local! {
    /// Whether a probe of this thread rests.
    static RESTS: Cell<bool> = const { Cell::new(false) };

    /// The probes of this thread.
    static BELLS: RefCell<Vec<Weak<Bell>>> = const { RefCell::new(Vec::new()) };
}

/// Ends the rest of a probe.
#[derive(Debug, Default)]
struct Bell {
    rung: Notify,
    rung_at: Mutex<Option<Instant>>,
}

impl Bell {
    fn of_this_thread() -> Arc<Self> {
        let bell = Arc::default();
        BELLS.with_borrow_mut(|bells| {
            bells.retain(|bell| bell.strong_count() > 0);
            bells.push(Arc::downgrade(&bell));
        });
        bell
    }

    fn ring(&self) {
        self.set(Some(Instant::now()));
        self.rung.notify_waiters();
    }

    /// Sets when it was rung, and returns what was set before.
    fn set(&self, rung_at: Option<Instant>) -> Option<Instant> {
        let mut locked = self.rung_at.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut locked, rung_at)
    }
}

/// Ends the rest of this event loop: a request begins.
#[inline]
pub(crate) fn rouse() {
    if RESTS.get() {
        end_rests();
    }
}

/// Whether this event loop rests.
#[cfg(test)]
pub(super) fn rests() -> bool {
    RESTS.get()
}

#[cold]
fn end_rests() {
    RESTS.set(false);
    BELLS.with_borrow(|bells| {
        for bell in bells.iter().filter_map(Weak::upgrade) {
            bell.ring();
        }
    });
}

/// When a worker's event loop last ran its tick.
#[derive(Debug)]
pub(super) struct LastTick {
    start: Instant,
    /// Milliseconds after the start. The end of the rest, while the loop rests.
    last: AtomicU64,
}

impl LastTick {
    pub(super) fn now() -> Self {
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    fn set(&self, at: Instant) {
        let since_start = at.saturating_duration_since(self.start).as_millis();
        let since_start = u64::try_from(since_start).unwrap_or(u64::MAX);
        self.last.store(since_start, Ordering::Relaxed);
    }

    pub(super) fn elapsed(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(last)
    }
}

/// Measures the lag of the event loop that it runs on.
pub(super) async fn measure(
    lag_seconds: Arc<Histogram>,
    registration: Registration,
    metrics: RuntimeMetrics,
) {
    let bell = Bell::of_this_thread();
    let busy = || metrics.worker_total_busy_duration(0);
    let began = Instant::now();
    let mut due = began + TICK;
    let (mut busy_before, mut idle_ticks) = (busy(), 0);
    // Ends when the last `Runtime` is dropped, because nothing can read the lag then.
    while registration.inner.strong_count() > 0 {
        let rests = idle_ticks >= IDLE_TICKS;
        let mut roused_at = None;
        let end = if rests { end_of_rest(began, due) } else { due };
        if rests {
            registration.last_tick.set(end);
            roused_at = rest(&bell, end).await;
        } else {
            sleep_until(end).await;
        }
        let now = Instant::now();
        registration.last_tick.set(now);
        let ran = busy().saturating_sub(busy_before);
        busy_before += ran;
        due = observe_rest(&lag_seconds, due, roused_at.unwrap_or(end).min(end), ran);
        if due <= now {
            due = observe_ticks(&lag_seconds, due, now);
        }
        idle_ticks = if ran > IDLE_TIME || roused_at.is_some() {
            0
        } else {
            idle_ticks + 1
        };
    }
}

/// The last tick of a rest: at a whole second of the probe, which is at most nine ticks after the one that is due.
///
/// Actix' clock, which begins with the worker as well, ticks then, too. So the loop wakes up once for both.
pub(super) fn end_of_rest(began: Instant, due: Instant) -> Instant {
    let passed = (due - began).as_millis() / TICK.as_millis();
    let ticks = u32::try_from(passed).unwrap_or(u32::MAX);
    due + TICK * ((TICKS_OF_REST - ticks % TICKS_OF_REST) % TICKS_OF_REST)
}

/// Waits until `end`, or until something begins on this event loop. Returns when it began, if it did.
async fn rest(bell: &Bell, end: Instant) -> Option<Instant> {
    bell.set(None);
    RESTS.set(true);
    let _rung = timeout_at(end, bell.rung.notified()).await;
    bell.set(None)
}

/// Observes the ticks of a rest that were due before `until`. Returns when the next one is due.
///
/// Code that is no request's has run for so long. If that could have delayed ticks, it is taken for one piece.
pub(super) fn observe_rest(
    lag_seconds: &Histogram,
    mut due: Instant,
    until: Instant,
    ran: Duration,
) -> Instant {
    let mut lag = ran.saturating_sub(TICK / 2);
    while due < until {
        lag_seconds.observe(if ran < TICK { 0.0 } else { lag.as_secs_f64() });
        lag = lag.saturating_sub(TICK);
        due += TICK;
    }
    due
}

/// Observes the tick that was due and all that have become due since. Returns when the next one is due.
pub(super) fn observe_ticks(lag_seconds: &Histogram, mut due: Instant, now: Instant) -> Instant {
    for _ in 0..MOST_OBSERVED_TICKS {
        lag_seconds.observe(now.saturating_duration_since(due).as_secs_f64());
        due += TICK;
        if due > now {
            return due;
        }
    }
    now + TICK
}
