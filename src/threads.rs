//! Threads and their address space: how much the service needs, and whether the system allows it.

use std::{io, thread, time::Duration};

use actix_web::rt::{task::spawn_blocking, time::sleep};
use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};
use tikv_jemalloc_ctl::{Access as _, AsName as _};

/// The threads besides workers and their blocking threads: the main one, the allocator's, the clock, the live page, the accept
/// loop, the migrations, a scrape and its collectors.
const BESIDE_WORKERS: usize = 14;

/// How often a blocking thread of a runtime is used: more often than Tokio ends an idle one (10 s).
const BETWEEN_USES: Duration = Duration::from_secs(5);

/// Returns the number of threads that the service starts with this many workers.
pub(super) fn needed(workers: usize) -> usize {
    2 * workers + BESIDE_WORKERS
}

/// MiB of address space that the service needs with this many workers. Most is reserved and never used: by the allocators for
/// each thread, and for stacks.
pub(super) fn address_space_needed(workers: usize) -> usize {
    768 + 128 * workers
}

/// Fails if the process may have less address space than this many MiB. A failed allocation would end the process.
pub(super) fn check_address_space(mebibytes: usize) -> io::Result<()> {
    match getrlimit(Resource::As).current {
        Some(allowed) if allowed >> 20 < mebibytes as u64 => Err(io::ErrorKind::OutOfMemory.into()),
        _ => Ok(()),
    }
}

/// Checks that the process can start this many more threads at a time.
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

/// Keeps one blocking thread of this runtime alive. If the system allows no further thread, Tokio queues work as long as there
/// is one, and panics without any.
///
/// Each time, both threads return the memory that the allocator keeps for them: after the start, that is most of the heap.
pub(super) async fn keep_one() {
    loop {
        // The runtime ends.
        if spawn_blocking(return_cached_memory).await.is_err() {
            return;
        }
        return_cached_memory();
        sleep(BETWEEN_USES).await;
    }
}

/// Returns the freed memory that jemalloc keeps for this thread. By itself, jemalloc returns it only while the thread allocates
/// more.
fn return_cached_memory() {
    let is_cached = b"thread.tcache.enabled\0".name();
    // Ending the cache returns its memory. There is none without jemalloc, or if the operator has turned it off.
    let has_cache = is_cached.read().unwrap_or(false);
    if has_cache && is_cached.write(false).is_ok() {
        let _begun = is_cached.write(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threads_of_a_probe_can_start_and_end() {
        probe(needed(2)).unwrap();
        probe(0).unwrap();
    }
}
