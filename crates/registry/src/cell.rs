//! Cells: the atomic numbers that instruments are made of, and the two ways of adding to one.
//!
//! Accesses are relaxed: a reader adds up what it sees, and each cell on its own only ever moves as recorded. Who adds to
//! which cell is the business of [`shard`](super::shard).

use std::hint::black_box;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, Release},
};

/// How many threads may be adding to a cell.
pub(crate) trait CellAccess {
    /// Adds to a cell of integers, wrapping.
    fn add(cell: &AtomicU64, amount: u64);

    /// Adds to a cell of floats.
    fn add_f64(cell: &AtomicU64, amount: f64);

    /// Counts one; the count that this makes.
    fn inc(cell: &AtomicU32) -> u32;

    /// Takes away, and publishes what the thread has written elsewhere before.
    fn sub(cell: &AtomicU32, amount: u32);
}

/// Any number of threads, at any time.
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

/// One, which has claimed the cell: what it stores nobody else can have changed meanwhile, so that it need not lock the
/// bus to add.
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

/// Cells in one line.
const CELLS: usize = 16;

/// Two cache lines of cells, aligned together so that the adjacent-line prefetcher cannot couple two shards.
#[derive(Debug, Default)]
#[repr(align(128))]
struct CellLine([AtomicU64; CELLS]);

/// A fixed number of 64-bit cells, on cache lines of their own.
#[derive(Debug)]
pub(crate) struct Cells(Box<[CellLine]>);

impl Cells {
    /// So many zeros.
    pub(crate) fn new(width: usize) -> Self {
        let lines = width.div_ceil(CELLS).max(1);
        Self((0..lines).map(|_| CellLine::default()).collect())
    }

    #[inline]
    fn cell(&self, cell: usize) -> &AtomicU64 {
        &self.0[cell / CELLS].0[cell % CELLS]
    }

    /// What a cell of integers holds.
    #[inline]
    pub(crate) fn load(&self, cell: usize) -> u64 {
        self.cell(cell).load(Relaxed)
    }

    /// What a cell of floats holds.
    #[inline]
    pub(crate) fn load_f64(&self, cell: usize) -> f64 {
        f64::from_bits(self.load(cell))
    }

    /// Replaces what a cell holds.
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

    /// Loads one cell of every cache line, and nothing else: whoever reads the cells soon finds them near. Loads this
    /// close together overlap; in the midst of other work each would be waited for.
    #[inline]
    pub(crate) fn touch(&self) {
        for line in &self.0 {
            black_box(line.0[0].load(Relaxed) ^ line.0[CELLS / 2].load(Relaxed));
        }
    }
}

/// Narrow cells in one line.
pub(crate) const NARROW_CELLS: usize = 32;

/// At this count a narrow cell is to be carried: halfway to its end, so that nothing is lost until that is done. In
/// tests it comes early.
pub(crate) const CARRY: u32 = if cfg!(test) { 64 } else { 1 << 31 };

/// Two cache lines of 32-bit counts, for what there is a lot of.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct NarrowCellLine([AtomicU32; NARROW_CELLS]);

impl NarrowCellLine {
    /// Counts one; whether the cell must be [carried](Self::carry) now, by the same thread.
    #[inline]
    pub(crate) fn inc<A: CellAccess>(&self, cell: usize) -> bool {
        A::inc(&self.0[cell]) == CARRY
    }

    /// Takes away what the calling thread has added to the count that is kept elsewhere, [`CARRY`].
    pub(crate) fn carry<A: CellAccess>(&self, cell: usize) {
        A::sub(&self.0[cell], CARRY);
    }

    /// Adds each cell to its sum.
    #[inline]
    pub(crate) fn add_to(&self, sums: &mut [u64; NARROW_CELLS]) {
        for (cell, sum) in self.0.iter().zip(sums) {
            *sum += u64::from(cell.load(Relaxed));
        }
    }

    /// The same as [`Cells::touch`].
    #[inline]
    pub(crate) fn touch(&self) {
        black_box(self.0[0].load(Relaxed) ^ self.0[NARROW_CELLS / 2].load(Relaxed));
    }
}
