//! Sharded cells: the storage that lets threads record into one series without contending.
//!
//! Every thread keeps to one shard, given out in turn at its first recording; each shard stands on cache lines of its
//! own. Accesses are relaxed: a reader adds up what it sees, and each cell on its own only ever moves as recorded.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::atomic::{
    AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, Release},
};

/// Cells in one line.
pub(crate) const CELLS: usize = 16;

/// The most shards a series may have.
const MAX_SHARDS: usize = 16;

/// Two cache lines of cells, aligned together so that the adjacent-line prefetcher cannot couple two shards.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Line([AtomicU64; CELLS]);

impl Line {
    /// `count` lines of zeros.
    pub(crate) fn boxed(count: usize) -> Box<[Line]> {
        (0..count).map(|_| Line::default()).collect()
    }
}

/// How many shards suit this machine: the power of two at or above its cores, at most 16.
pub(crate) fn default_count() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    clamp_count(cores)
}

/// The power of two at or above `wanted`, between 1 and 16.
pub(crate) fn clamp_count(wanted: usize) -> usize {
    wanted.clamp(1, MAX_SHARDS).next_power_of_two()
}

/// The calling thread's number; masked by a power of two less one, its shard.
#[inline]
pub(crate) fn current() -> usize {
    const UNSET: usize = usize::MAX;
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(UNSET) };
    }
    NUMBER.with(|number| {
        if number.get() == UNSET {
            number.set(NEXT.fetch_add(1, Relaxed) % UNSET);
        }
        number.get()
    })
}

/// A fixed number of cells in every shard.
#[derive(Debug)]
pub(crate) struct Cells {
    lines: Box<[Line]>,
    /// Lines of one shard. Narrow, as a series has many of these.
    stride: u32,
    /// Shards less one.
    mask: u32,
}

impl Cells {
    /// `width` cells in each of `shards` shards, a power of two.
    pub(crate) fn new(width: usize, shards: usize) -> Self {
        let stride = width.div_ceil(CELLS).max(1);
        // A family has fewer than 2^32 bounds, and fewer shards still.
        let narrow = |count: usize| u32::try_from(count).unwrap_or(1);
        Self {
            lines: Line::boxed(stride * shards),
            stride: narrow(stride),
            mask: narrow(shards - 1),
        }
    }

    /// The calling thread's cells.
    #[inline]
    pub(crate) fn mine(&self) -> Shard<'_> {
        self.shard(current() & self.mask as usize)
    }

    #[inline]
    fn shard(&self, number: usize) -> Shard<'_> {
        let stride = self.stride as usize;
        Shard(&self.lines[number * stride..][..stride])
    }

    fn shards(&self) -> impl Iterator<Item = Shard<'_>> {
        self.lines.chunks_exact(self.stride as usize).map(Shard)
    }

    /// The sum of a cell over all shards, wrapping.
    #[inline]
    pub(crate) fn sum(&self, cell: usize) -> u64 {
        self.shards()
            .fold(0, |sum, shard| sum.wrapping_add(shard.load(cell)))
    }

    /// The sum over all shards of a cell that holds floats.
    #[inline]
    pub(crate) fn sum_f64(&self, cell: usize) -> f64 {
        self.shards()
            .fold(0.0, |sum, shard| sum + f64::from_bits(shard.load(cell)))
    }

    /// Adds the sums of the cells from `first` on to `sums`, shard by shard.
    #[inline]
    pub(crate) fn add_to(&self, first: usize, sums: &mut [u64]) {
        for shard in self.shards() {
            for (cell, sum) in (first..).zip(&mut *sums) {
                *sum += shard.load(cell);
            }
        }
    }

    /// Loads one cell of every cache line, and nothing else: whoever reads the cells soon finds them near. Loads this
    /// close together overlap; in the midst of other work each would be waited for.
    #[inline]
    pub(crate) fn touch(&self) {
        for line in &self.lines {
            black_box(line.0[0].load(Relaxed) ^ line.0[CELLS / 2].load(Relaxed));
        }
    }
}

/// Narrow cells in one line.
pub(crate) const NARROW_CELLS: usize = 32;

/// At this count a narrow cell is to be carried: halfway to its end, so that nothing is lost until that is done. In
/// tests it comes early.
pub(crate) const CARRY: u32 = if cfg!(test) { 64 } else { 1 << 31 };

/// Two cache lines of narrow cells, for what there is a lot of.
#[derive(Debug, Default)]
#[repr(align(128))]
struct NarrowLine([AtomicU32; NARROW_CELLS]);

/// A line of 32-bit counts in every shard.
#[derive(Debug)]
pub(crate) struct NarrowCells(Box<[NarrowLine]>);

impl NarrowCells {
    /// Zeros in each of `shards` shards, a power of two.
    pub(crate) fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| NarrowLine::default()).collect())
    }

    #[inline]
    fn mine(&self, cell: usize) -> &AtomicU32 {
        &self.0[current() & (self.0.len() - 1)].0[cell]
    }

    /// Counts one in the calling thread's cell; whether that must be [carried](Self::carry) now, by the same thread.
    #[inline]
    pub(crate) fn inc(&self, cell: usize) -> bool {
        self.mine(cell).fetch_add(1, Relaxed) + 1 == CARRY
    }

    /// Takes away what the calling thread has added to the count that is kept elsewhere, [`CARRY`].
    pub(crate) fn carry(&self, cell: usize) {
        self.mine(cell).fetch_sub(CARRY, Release);
    }

    /// The sum of each cell over all shards.
    #[inline]
    pub(crate) fn sums(&self) -> [u64; NARROW_CELLS] {
        let mut sums = [0; NARROW_CELLS];
        for line in &self.0 {
            for (cell, sum) in line.0.iter().zip(&mut sums) {
                *sum += u64::from(cell.load(Relaxed));
            }
        }
        sums
    }

    /// The same as [`Cells::touch`].
    #[inline]
    pub(crate) fn touch(&self) {
        for line in &self.0 {
            black_box(line.0[0].load(Relaxed) ^ line.0[NARROW_CELLS / 2].load(Relaxed));
        }
    }
}

/// The cells of one shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shard<'a>(&'a [Line]);

impl Shard<'_> {
    #[inline]
    fn cell(&self, cell: usize) -> &AtomicU64 {
        &self.0[cell / CELLS].0[cell % CELLS]
    }

    #[inline]
    fn load(&self, cell: usize) -> u64 {
        self.cell(cell).load(Relaxed)
    }

    /// Adds to a cell of integers, wrapping.
    #[inline]
    pub(crate) fn add(&self, cell: usize, amount: u64) {
        self.cell(cell).fetch_add(amount, Relaxed);
    }

    /// Adds to a cell of floats.
    #[inline]
    pub(crate) fn add_f64(&self, cell: usize, amount: f64) {
        let cell = self.cell(cell);
        let mut seen = cell.load(Relaxed);
        loop {
            let sum = (f64::from_bits(seen) + amount).to_bits();
            match cell.compare_exchange_weak(seen, sum, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_a_power_of_two_of_at_most_sixteen() {
        for (wanted, given) in [(0, 1), (1, 1), (2, 2), (3, 4), (12, 16), (64, 16)] {
            assert_eq!(clamp_count(wanted), given);
        }
        assert!(default_count().is_power_of_two());
    }

    #[test]
    fn threads_spread_over_shards_and_sum_to_the_whole() {
        let cells = Cells::new(20, 4);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        cells.mine().add(17, 1);
                        cells.mine().add_f64(0, 0.5);
                    }
                });
            }
        });
        assert_eq!(cells.sum(17), 8000);
        assert!((cells.sum_f64(0) - 4000.0).abs() < 1e-9);
        let used = cells.shards().filter(|shard| shard.load(17) > 0).count();
        assert!(used > 1);
    }
}
