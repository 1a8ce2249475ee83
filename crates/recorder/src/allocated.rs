//! The bytes that a thread allocates, by jemalloc's counter of the thread.
//!
//! The counter only grows: memory that is freed is not subtracted. In a program without jemalloc nothing is counted.

use std::cell::Cell;

use tikv_jemalloc_ctl::thread::{ThreadLocal, allocatedp};

thread_local! {
    /// The thread's counter, and its value at the last call. Looked up once.
    static COUNTER: Cell<Option<(Option<ThreadLocal<u64>>, u64)>> = const { Cell::new(None) };
}

/// The bytes that this thread has allocated since the last call; 0 at the first one.
pub(crate) fn since_last() -> u64 {
    let allocated = COUNTER.try_with(|cell| {
        let (counter, last) = cell.take().unwrap_or_else(|| {
            let counter = allocatedp::read().ok();
            (counter, counter.map_or(0, ThreadLocal::get))
        });
        let now = counter.map_or(0, ThreadLocal::get);
        cell.set(Some((counter, now)));
        now.wrapping_sub(last)
    });
    // A thread that ends counts no more.
    allocated.unwrap_or(0)
}
