//! Threads, and the address space that they take: the system lets a process have so much of both.

use std::io;
use std::thread;
use std::time::Duration;

use actix_web::rt::task::spawn_blocking;
use actix_web::rt::time::sleep;
use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};

/// Threads beside the workers and those that may block for them: the main one, the allocator's, the clock, the live page,
/// the accept loop, the migrations, a scrape and its collectors.
const BESIDE_WORKERS: usize = 14;

/// How often a runtime is asked for a thread that may block: more often than it lets an idle one go (10 s).
const BETWEEN_USES: Duration = Duration::from_secs(5);

/// Returns the number of threads that the service starts with this many workers.
pub(super) fn needed(workers: usize) -> usize {
    2 * workers + BESIDE_WORKERS
}

/// MiB of address space that the service takes with so many workers, most of it reserved and never used: by the allocators
/// for each thread, and for the stacks.
pub(super) fn address_space_needed(workers: usize) -> usize {
    768 + 128 * workers
}

/// Fails where the process may have less address space than this many MiB. Allocations that find none end the process.
pub(super) fn check_address_space(mebibytes: usize) -> io::Result<()> {
    match getrlimit(Resource::As).current {
        Some(allowed) if allowed >> 20 < mebibytes as u64 => Err(io::ErrorKind::OutOfMemory.into()),
        _ => Ok(()),
    }
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
