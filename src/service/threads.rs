//! Threads: the system lets a user, a control group and an address space have so many.

use std::io;
use std::thread;
use std::time::Duration;

use actix_web::rt::task::spawn_blocking;
use actix_web::rt::time::sleep;
use parking_lot::Mutex;

/// Threads beside the workers and those that may block for them: the main one, the allocator's, the clock, the live page,
/// the accept loop, the migrations, a scrape and its collectors.
const BESIDE_WORKERS: usize = 14;

/// How often a runtime is asked for a thread that may block: more often than it lets an idle one go (10 s).
const BETWEEN_USES: Duration = Duration::from_secs(5);

/// How many the service starts with so many workers.
pub(super) fn needed(workers: usize) -> usize {
    2 * workers + BESIDE_WORKERS
}

/// Tries whether the process may have this many more at a time.
pub(super) fn probe(count: usize) -> io::Result<()> {
    let gate = Mutex::new(());
    let closed = gate.lock();
    thread::scope(|scope| {
        let probed = (0..count).try_for_each(|_| {
            let thread = thread::Builder::new().name("vitals-probe".to_owned());
            let wait = || drop(gate.lock());
            thread.spawn_scoped(scope, wait).map(drop)
        });
        drop(closed);
        probed
    })
}

/// Keeps one of the threads of this runtime that may block. As long as there is one, Tokio queues work where the system
/// allows no further thread; without any it panics.
pub(super) async fn keep_one() {
    loop {
        // The runtime ends.
        if spawn_blocking(|| ()).await.is_err() {
            return;
        }
        sleep(BETWEEN_USES).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_threads_can_be_had_and_are_given_back() {
        probe(needed(2)).unwrap();
        probe(0).unwrap();
    }
}
