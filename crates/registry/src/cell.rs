//! Cells: the atomic numbers that instruments are made of, and the two ways of adding to one.
//!
//! Accesses are relaxed: no reader relies on the order of two cells. [`shard`](super::shard) decides which thread adds to
//! which cell.

use std::hint::black_box;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, Release},
};

/// How a thread adds to a cell: alone, or beside others.
pub(crate) trait CellAccess {
    /// Adds to a cell of integers, wrapping.
    fn add(cell: &AtomicU64, amount: u64);

    /// Adds to a cell of floats.
    fn add_f64(cell: &AtomicU64, amount: f64);

    /// Adds one, and returns the new count.
    fn inc(cell: &AtomicU32) -> u32;

    /// Subtracts, and publishes what this thread wrote before (release).
    fn sub(cell: &AtomicU32, amount: u32);
}

/// Access for any number of threads, by atomic read-modify-write.
#[derive(Debug)]
pub(crate) enum SharedAccess {}

impl CellAccess for SharedAccess {
    #[inline]
    fn add(cell: &AtomicU64, amount: u64) {
        cell.fetch_add(amount, Relaxed);
    }

    #[inline]
    fn add_f64(cell: &AtomicU64, amount: f64) {
        let mut seen = cell.load(Relaxed);
        loop {
            let sum = (f64::from_bits(seen) + amount).to_bits();
            match cell.compare_exchange_weak(seen, sum, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    #[inline]
    fn inc(cell: &AtomicU32) -> u32 {
        cell.fetch_add(1, Relaxed) + 1
    }

    #[inline]
    fn sub(cell: &AtomicU32, amount: u32) {
        cell.fetch_sub(amount, Release);
    }
}

/// Access for the one thread that has claimed the cell. No other thread writes to it, so a load and a store are enough.
#[derive(Debug)]
pub(crate) enum SoleAccess {}

impl CellAccess for SoleAccess {
    #[inline]
    fn add(cell: &AtomicU64, amount: u64) {
        cell.store(cell.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    #[inline]
    fn add_f64(cell: &AtomicU64, amount: f64) {
        let sum = f64::from_bits(cell.load(Relaxed)) + amount;
        cell.store(sum.to_bits(), Relaxed);
    }

    #[inline]
    fn inc(cell: &AtomicU32) -> u32 {
        let count = cell.load(Relaxed) + 1;
        cell.store(count, Relaxed);
        count
    }

    #[inline]
    fn sub(cell: &AtomicU32, amount: u32) {
        cell.store(cell.load(Relaxed) - amount, Release);
    }
}

/// The number of cells in a [`CellLine`].
const CELLS: usize = 16;

/// Two cache lines of cells, aligned together so that the adjacent-line prefetcher cannot couple two shards.
#[derive(Debug, Default)]
#[repr(align(128))]
struct CellLine([AtomicU64; CELLS]);

/// A fixed number of 64-bit cells, on cache lines of their own.
#[derive(Debug)]
pub(crate) struct Cells(Box<[CellLine]>);

impl Cells {
    /// Creates `width` cells at 0.
    pub(crate) fn new(width: usize) -> Self {
        let lines = width.div_ceil(CELLS).max(1);
        Self((0..lines).map(|_| CellLine::default()).collect())
    }

    #[inline]
    fn cell(&self, cell: usize) -> &AtomicU64 {
        &self.0[cell / CELLS].0[cell % CELLS]
    }

    /// The value of a cell of integers.
    #[inline]
    pub(crate) fn load(&self, cell: usize) -> u64 {
        self.cell(cell).load(Relaxed)
    }

    /// The value of a cell of floats.
    #[inline]
    pub(crate) fn load_f64(&self, cell: usize) -> f64 {
        f64::from_bits(self.load(cell))
    }

    /// Replaces the value of a cell.
    #[inline]
    pub(crate) fn store(&self, cell: usize, value: u64) {
        self.cell(cell).store(value, Relaxed);
    }

    /// Adds to a cell of integers, wrapping.
    #[inline]
    pub(crate) fn add<A: CellAccess>(&self, cell: usize, amount: u64) {
        A::add(self.cell(cell), amount);
    }

    /// Adds to a cell of floats.
    #[inline]
    pub(crate) fn add_f64<A: CellAccess>(&self, cell: usize, amount: f64) {
        A::add_f64(self.cell(cell), amount);
    }

    /// Adds the cells from `first` on to `sums`.
    #[inline]
    pub(crate) fn add_to(&self, first: usize, sums: &mut [u64]) {
        for (cell, sum) in (first..).zip(sums) {
            *sum += self.load(cell);
        }
    }

    /// Prefetches: loads one cell of every cache line. Loads that follow each other overlap, so the read that comes after does
    /// not wait for each line.
    #[inline]
    pub(crate) fn touch(&self) {
        for line in &self.0 {
            black_box(line.0[0].load(Relaxed) ^ line.0[CELLS / 2].load(Relaxed));
        }
    }
}

/// The number of cells in a [`NarrowCellLine`].
pub(crate) const NARROW_CELLS: usize = 32;

/// The count at which a narrow cell is carried: half of its range, so that it cannot overflow before that is done. It is
/// small in tests.
pub(crate) const CARRY: u32 = if cfg!(test) { 64 } else { 1 << 31 };

/// Two cache lines of 32-bit counts, for the many native buckets.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct NarrowCellLine([AtomicU32; NARROW_CELLS]);

impl NarrowCellLine {
    /// A line with these counts.
    #[cfg(test)]
    pub(crate) fn of(counts: &[u32; NARROW_CELLS]) -> Self {
        Self(counts.map(AtomicU32::new))
    }

    /// Adds one. Returns whether this thread must [carry](Self::carry) the cell now.
    #[inline]
    pub(crate) fn inc<A: CellAccess>(&self, cell: usize) -> bool {
        A::inc(&self.0[cell]) == CARRY
    }

    /// Subtracts [`CARRY`], which the calling thread has added elsewhere.
    pub(crate) fn carry<A: CellAccess>(&self, cell: usize) {
        A::sub(&self.0[cell], CARRY);
    }

    /// The counts of all cells.
    #[inline]
    pub(crate) fn load(&self) -> [u32; NARROW_CELLS] {
        // A loop and not `each_ref` with `map`, which is not inlined if the crate is built in several codegen units.
        let mut counts = [0; NARROW_CELLS];
        for (count, cell) in counts.iter_mut().zip(&self.0) {
            *count = cell.load(Relaxed);
        }
        counts
    }

    /// The counts of all cells as bytes, eight in a word, the first in its lowest byte. `None` if a count has more than this
    /// many bits.
    #[inline]
    pub(crate) fn load_bytes(&self, bits: u32) -> Option<[u64; NARROW_CELLS / 8]> {
        let mut words = [0; NARROW_CELLS / 8];
        let mut all = 0;
        let (chunks, _) = self.0.as_chunks::<8>();
        for (word, cells) in words.iter_mut().zip(chunks) {
            // Two counts at a time, which are four bytes apart in the word. A loop and not `map`, as above.
            for at in 0..4 {
                let low = u64::from(cells[at].load(Relaxed));
                let both = low | u64::from(cells[at + 4].load(Relaxed)) << 32;
                all |= both;
                *word |= both << (8 * at);
            }
        }
        let too_large = 0x1_0000_0001 * u64::from(u32::MAX << bits);
        (all & too_large == 0).then_some(words)
    }

    /// The same as [`Cells::touch`].
    #[inline]
    pub(crate) fn touch(&self) {
        black_box(self.0[0].load(Relaxed) ^ self.0[NARROW_CELLS / 2].load(Relaxed));
    }
}
