//! The thread that looks, twenty times a second, at what may last too long: polls of requests, waits and holds of connections.
//!
//! It needs nothing from the threads that it watches, so it reports what they are stuck in while that lasts. One thread
//! serves all monitorings of a process. It starts with the first look, and ends when there are none.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, Thread},
    time::Duration,
};

/// The time between two looks.
const TICK: Duration = Duration::from_millis(50);

/// A function that looks once, and returns whether it wants to look again.
type Look = Box<dyn FnMut() -> bool + Send>;

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

/// Calls `look` twenty times a second, until it returns false.
pub(crate) fn watch(look: impl FnMut() -> bool + Send + 'static) {
    let mut watchdog = lock();
    watchdog.looks.push(Box::new(look));
    if watchdog.thread.is_some() {
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

fn run() {
    loop {
        let mut looks = mem::take(&mut lock().looks);
        // Without the lock: a look may take its time. One that panics is not called again.
        looks.retain_mut(|look| catch_unwind(AssertUnwindSafe(look)).unwrap_or(false));
        let mut watchdog = lock();
        looks.append(&mut watchdog.looks);
        watchdog.looks = looks;
        if watchdog.looks.is_empty() {
            watchdog.thread = None;
            return;
        }
        drop(watchdog);
        thread::park_timeout(TICK);
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
            looks < 3
        });
        let bound = Duration::from_secs(30);
        let seen: Vec<_> = (0..3).map(|_| looked.recv_timeout(bound)).collect();
        assert_eq!(seen, [Ok(1), Ok(2), Ok(3)]);
        // The function is dropped then, and what it owns.
        assert!(looked.recv_timeout(bound).is_err());
        watch(|| false);
        wake();
    }
}
