//! A ring of samples: many threads write, each from within its signal handler, and one reads.
//!
//! Everything is an atomic variable, so there is no `unsafe` code and no torn sample. A writer never waits: if the ring is
//! full, or others take each slot that it tries, its sample is counted as lost. Samples are read in the order in which their writers began, so those of one thread
//! are in order.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use crate::Sample;

/// The number of samples, a power of two.
const CAPACITY: usize = 512;

/// The most addresses of a sample.
pub(crate) const MOST_FRAMES: usize = 127;

/// The words of a stack that are read at once: 1 KiB.
pub(crate) const WINDOW: usize = 128;

/// How often a writer tries to get a slot before it gives up.
const MOST_ATTEMPTS: usize = 64;

/// A slot, reused in each round.
pub(crate) struct Slot {
    /// `2 * round` while it is writable, `2 * round + 1` while it is readable.
    state: AtomicU64,
    pub(crate) thread: AtomicU32,
    pub(crate) expirations: AtomicU32,
    pub(crate) nanoseconds: AtomicU64,
    pub(crate) length: AtomicU32,
    pub(crate) addresses: [AtomicU64; MOST_FRAMES],
    /// Where the writer copies a part of its stack to.
    pub(crate) window: [AtomicU64; WINDOW],
}

/// The ring. All zeros at first, so that it takes no memory until it is used.
pub(crate) struct Ring {
    slots: [Slot; CAPACITY],
    /// The number of the next sample to write, from the start of the process on.
    next: AtomicU64,
    /// The number of the next sample to read.
    unread: AtomicU64,
    lost: AtomicU64,
}

impl Slot {
    const fn new() -> Self {
        Self {
            state: AtomicU64::new(0),
            thread: AtomicU32::new(0),
            expirations: AtomicU32::new(0),
            nanoseconds: AtomicU64::new(0),
            length: AtomicU32::new(0),
            addresses: [const { AtomicU64::new(0) }; MOST_FRAMES],
            window: [const { AtomicU64::new(0) }; WINDOW],
        }
    }

    fn sample(&self) -> Sample {
        let length = self.length.load(Relaxed) as usize;
        let addresses = self.addresses.iter().take(length);
        Sample {
            thread: self.thread.load(Relaxed),
            nanoseconds: self.nanoseconds.load(Relaxed),
            expirations: self.expirations.load(Relaxed),
            addresses: addresses.map(|address| address.load(Relaxed)).collect(),
        }
    }
}

impl Ring {
    #[allow(clippy::large_stack_arrays, reason = "for static variables")]
    pub(crate) const fn new() -> Self {
        Self {
            slots: [const { Slot::new() }; CAPACITY],
            next: AtomicU64::new(0),
            unread: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// Lets `f` write a sample. Safe in a signal handler, if `f` is.
    pub(crate) fn write(&self, f: impl FnOnce(&Slot)) {
        let Some((slot, state)) = self.claim() else {
            self.lost.fetch_add(1, Relaxed);
            return;
        };
        f(slot);
        slot.state.store(state.wrapping_add(1), Release);
    }

    /// The next slot, and its state while it is written.
    fn claim(&self) -> Option<(&Slot, u64)> {
        let mut number = self.next.load(Relaxed);
        for _ in 0..MOST_ATTEMPTS {
            let (slot, writable) = self.slot(number)?;
            let state = slot.state.load(Acquire);
            if state < writable {
                // The sample of the round before was not read yet.
                return None;
            }
            number = if state > writable {
                // Another writer has taken this number.
                self.next.load(Relaxed)
            } else {
                let after = number.wrapping_add(1);
                let taken = self.next.compare_exchange(number, after, Relaxed, Relaxed);
                match taken {
                    Ok(_) => return Some((slot, writable)),
                    Err(now) => now,
                }
            };
        }
        None
    }

    /// The slot of the sample with this number, and its state when the sample can be written.
    fn slot(&self, number: u64) -> Option<(&Slot, u64)> {
        let capacity = CAPACITY as u64;
        let at = usize::try_from(number.checked_rem(capacity)?).ok()?;
        let round = number.checked_div(capacity)?;
        Some((self.slots.get(at)?, round.wrapping_mul(2)))
    }

    /// Passes on what was written. One thread at a time may call it.
    pub(crate) fn read(&self, mut f: impl FnMut(Sample)) {
        loop {
            let number = self.unread.load(Relaxed);
            let Some((slot, writable)) = self.slot(number) else {
                return;
            };
            if slot.state.load(Acquire) != writable.wrapping_add(1) {
                return;
            }
            let sample = slot.sample();
            slot.state.store(writable.wrapping_add(2), Release);
            self.unread.store(number.wrapping_add(1), Relaxed);
            f(sample);
        }
    }

    /// How many samples were lost since the start of the process.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn write(ring: &Ring, thread: u32, number: u64) {
        ring.write(|slot| {
            slot.thread.store(thread, Relaxed);
            slot.nanoseconds.store(number, Relaxed);
            slot.length.store(2, Relaxed);
            for address in slot.addresses.iter().take(2) {
                address.store(number, Relaxed);
            }
        });
    }

    #[test]
    fn a_full_ring_loses_the_new_samples_and_keeps_the_old_ones() {
        static RING: Ring = Ring::new();
        let ring = &RING;
        let capacity = CAPACITY as u64;
        for round in 0..3 {
            for number in 0..capacity + 7 {
                write(ring, 1, number);
            }
            let mut read = Vec::new();
            ring.read(|sample| read.push(sample.nanoseconds));
            assert_eq!(read, (0..capacity).collect::<Vec<_>>());
            assert_eq!(ring.lost(), 7 * (round + 1));
            ring.read(|_| panic!("it is empty"));
        }
    }

    #[test]
    fn many_writers_tear_no_sample_and_each_keeps_its_order() {
        static RING: Ring = Ring::new();
        // Fewer where an interpreter runs it.
        let each: u64 = if cfg!(miri) { 300 } else { 100_000 };
        let ring = &RING;
        let mut last = [0_u64; 4];
        let mut read = 0_u64;
        thread::scope(|scope| {
            let writers: Vec<_> = (0..4_u32)
                .map(|thread| {
                    scope.spawn(move || (1..=each).for_each(|number| write(ring, thread, number)))
                })
                .collect();
            loop {
                let is_over = writers.iter().all(thread::ScopedJoinHandle::is_finished);
                ring.read(|sample| {
                    assert_eq!(sample.addresses, [sample.nanoseconds; 2], "it is torn");
                    let last = &mut last[sample.thread as usize];
                    assert!(sample.nanoseconds > *last, "it is out of order");
                    *last = sample.nanoseconds;
                    read += 1;
                });
                if is_over {
                    break;
                }
                thread::yield_now();
            }
        });
        assert_eq!(read + ring.lost(), 4 * each);
    }
}
