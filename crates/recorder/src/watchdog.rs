//! The thread that looks, twenty times a second, at what may last too long: polls of requests, waits and holds of connections.
//!
//! It needs nothing from the threads that it watches, so it reports what they are stuck in while that lasts. One thread
//! serves all monitorings of a process. It starts with the first look, and ends when there are none.
//!
//! It rests while nothing is under way, so that an idle process hardly uses a processor. Whatever begins then
//! [rouses](rouse) it.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

/// The time between two looks.
const TICK: Duration = Duration::from_millis(50);

/// The ticks without anything under way after which a rest is announced. It begins a tick later.
const QUIET_TICKS: u32 = 40;

/// The time between two looks during a rest. Nothing waits for them.
const REST: Duration = Duration::from_secs(5);

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Something is under way, which may come to last too long.
    Busy,
    /// Nothing is under way. What begins later calls [`rouse`].
    Quiet,
    /// There will be nothing to look at any more.
    Over,
}

/// A function that looks once.
type Look = Box<dyn FnMut() -> Sight + Send>;

/// Whether the thread rests, or will after its next tick.
///
/// What begins while the mark becomes visible, and does not see it yet, is seen by the look before the rest: that is a tick
/// later.
static IS_RESTING: AtomicBool = AtomicBool::new(false);

static WATCHDOG: Mutex<Watchdog> = Mutex::new(Watchdog {
    looks: Vec::new(),
    thread: None,
});

struct Watchdog {
    looks: Vec<Look>,
    /// The thread, while it runs.
    thread: Option<Thread>,
}

fn lock() -> MutexGuard<'static, Watchdog> {
    WATCHDOG.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls `look` twenty times a second while something is under way, until it returns [`Sight::Over`].
pub(crate) fn watch(look: impl FnMut() -> Sight + Send + 'static) {
    let mut watchdog = lock();
    watchdog.looks.push(Box::new(look));
    if let Some(thread) = &watchdog.thread {
        thread.unpark();
        return;
    }
    let started = thread::Builder::new()
        .name("vitals-watchdog".to_owned())
        .spawn(run);
    match started {
        Ok(started) => watchdog.thread = Some(started.thread().clone()),
        Err(error) => {
            tracing::error!(%error, "stalls are reported only when they are over, and the holders of connections not at all: the thread that watches them cannot be started");
        }
    }
}

/// Lets the thread look now.
pub(crate) fn wake() {
    if let Some(thread) = &lock().thread {
        thread.unpark();
    }
}

/// Ends a rest: something has begun. Call it after storing what a look finds.
#[inline]
pub(crate) fn rouse() {
    if IS_RESTING.load(Ordering::Relaxed) {
        end_rest();
    }
}

#[cold]
fn end_rest() {
    if IS_RESTING.swap(false, Ordering::AcqRel) {
        wake();
    }
}

fn run() {
    let mut quiet_ticks = 0;
    loop {
        let mut looks = mem::take(&mut lock().looks);
        let mut is_quiet = true;
        // Without the lock: a look may take its time. One that panics is not called again.
        looks.retain_mut(|look| {
            let sight = catch_unwind(AssertUnwindSafe(look)).unwrap_or_else(|_| {
                tracing::error!("a check of the watchdog panicked, and is not repeated");
                Sight::Over
            });
            is_quiet &= sight != Sight::Busy;
            sight != Sight::Over
        });
        let mut watchdog = lock();
        looks.append(&mut watchdog.looks);
        watchdog.looks = looks;
        if watchdog.looks.is_empty() {
            watchdog.thread = None;
            return;
        }
        drop(watchdog);
        quiet_ticks = if is_quiet { quiet_ticks + 1 } else { 0 };
        pause(&mut quiet_ticks);
    }
}

/// Waits for the next look, after so many quiet ones.
fn pause(quiet_ticks: &mut u32) {
    if *quiet_ticks <= QUIET_TICKS {
        IS_RESTING.store(*quiet_ticks == QUIET_TICKS, Ordering::SeqCst);
        thread::park_timeout(TICK);
    } else {
        thread::park_timeout(REST);
    }
    if *quiet_ticks >= QUIET_TICKS && !IS_RESTING.load(Ordering::Acquire) {
        *quiet_ticks = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_look_is_repeated_until_it_wants_no_more() {
        let (send, looked) = mpsc::channel();
        let mut looks = 0;
        watch(move || {
            looks += 1;
            // Fails once the test is over.
            let _ = send.send(looks);
            if looks < 3 { Sight::Busy } else { Sight::Over }
        });
        let bound = Duration::from_secs(30);
        let seen: Vec<_> = (0..3).map(|_| looked.recv_timeout(bound)).collect();
        assert_eq!(seen, [Ok(1), Ok(2), Ok(3)]);
        // The function is dropped then, and what it owns.
        assert!(looked.recv_timeout(bound).is_err());
        watch(|| Sight::Over);
        wake();
    }

    #[test]
    fn a_rest_is_announced_and_ends_when_something_begins() {
        // Without the thread, which rests for all tests of the process.
        let mut quiet_ticks = QUIET_TICKS - 1;
        pause(&mut quiet_ticks);
        assert_eq!(quiet_ticks, QUIET_TICKS - 1);
        quiet_ticks = QUIET_TICKS + 1;
        thread::current().unpark();
        IS_RESTING.store(false, Ordering::SeqCst);
        pause(&mut quiet_ticks);
        assert_eq!(quiet_ticks, 0);
    }
}
