//! Cells: the atomic numbers that instruments are made of, and the two ways of adding to one.
//!
//! Accesses are relaxed: a reader adds up what it sees, and each cell on its own only ever moves as recorded. Who adds to
//! which cell is the business of [`shard`](super::shard).

use std::hint::black_box;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, Release},
};

/// How many threads may be adding to a cell.
pub(crate) trait Access {
    /// Adds to a cell of integers, wrapping; the sum.
    fn add(cell: &AtomicU64, amount: u64) -> u64;

    /// Adds to a cell of floats.
    fn add_f64(cell: &AtomicU64, amount: f64);

    /// Takes away, and publishes what the thread has written elsewhere before.
    fn sub(cell: &AtomicU64, amount: u64);
}

/// Any number of threads, at any time.
#[derive(Debug)]
pub(crate) enum Shared {}

impl Access for Shared {
    #[inline]
    fn add(cell: &AtomicU64, amount: u64) -> u64 {
        cell.fetch_add(amount, Relaxed).wrapping_add(amount)
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
    fn sub(cell: &AtomicU64, amount: u64) {
        cell.fetch_sub(amount, Release);
    }
}

/// One, which has claimed the cell: what it stores nobody else can have changed meanwhile, so that it need not lock the
/// bus to add.
#[derive(Debug)]
pub(crate) enum Sole {}

impl Access for Sole {
    #[inline]
    fn add(cell: &AtomicU64, amount: u64) -> u64 {
        let sum = cell.load(Relaxed).wrapping_add(amount);
        cell.store(sum, Relaxed);
        sum
    }

    #[inline]
    fn add_f64(cell: &AtomicU64, amount: f64) {
        let sum = f64::from_bits(cell.load(Relaxed)) + amount;
        cell.store(sum.to_bits(), Relaxed);
    }

    #[inline]
    fn sub(cell: &AtomicU64, amount: u64) {
        cell.store(cell.load(Relaxed) - amount, Release);
    }
}

/// Cells in one line.
const CELLS: usize = 16;

/// Two cache lines of cells, aligned together so that the adjacent-line prefetcher cannot couple two shards.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line([AtomicU64; CELLS]);

/// A fixed number of 64-bit cells, on cache lines of their own.
#[derive(Debug)]
pub(crate) struct Cells(Box<[Line]>);

impl Cells {
    /// So many zeros.
    pub(crate) fn new(width: usize) -> Self {
        let lines = width.div_ceil(CELLS).max(1);
        Self((0..lines).map(|_| Line::default()).collect())
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

    /// Adds to a cell of integers, wrapping.
    #[inline]
    pub(crate) fn add<A: Access>(&self, cell: usize, amount: u64) {
        A::add(self.cell(cell), amount);
    }

    /// Adds to a cell of floats.
    #[inline]
    pub(crate) fn add_f64<A: Access>(&self, cell: usize, amount: f64) {
        A::add_f64(self.cell(cell), amount);
    }

    /// Adds the cells from `first` on to `sums`.
    #[inline]
    pub(crate) fn add_to(&self, first: usize, sums: &mut [u64]) {
        let (mut first, mut rest) = (first, sums);
        for Line(cells) in &self.0 {
            let cells = cells.get(first..).unwrap_or_default();
            let (now, later) = rest.split_at_mut(cells.len().min(rest.len()));
            for (sum, cell) in now.iter_mut().zip(cells) {
                *sum += cell.load(Relaxed);
            }
            (first, rest) = (0, later);
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

/// Narrow cells share words, two in each.
const WORDS: usize = NARROW_CELLS / 2;

/// At this count a narrow cell is to be carried: halfway to its end, so that nothing is lost until that is done. In
/// tests it comes early.
pub(crate) const CARRY: u32 = if cfg!(test) { 64 } else { 1 << 31 };

/// The word that a narrow cell is in, and from which bit on: so laid out that [`NarrowSums::bytes`] has little to do.
#[inline]
const fn place(cell: usize) -> (usize, usize) {
    (cell / 8 + cell % 4 * 4, cell % 8 / 4 * 32)
}

/// The count that lies in a word from a bit on.
#[inline]
fn count(word: u64, shift: usize) -> u64 {
    word >> shift & u64::from(u32::MAX)
}

/// Two cache lines of 32-bit counts, for what there is a lot of.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct NarrowLine([AtomicU64; WORDS]);

impl NarrowLine {
    /// Counts one; whether the cell must be [carried](Self::carry) now, by the same thread.
    #[inline]
    pub(crate) fn inc<A: Access>(&self, cell: usize) -> bool {
        let (word, shift) = place(cell % NARROW_CELLS);
        count(A::add(&self.0[word], 1 << shift), shift) == u64::from(CARRY)
    }

    /// Takes away what the calling thread has added to the count that is kept elsewhere, [`CARRY`].
    pub(crate) fn carry<A: Access>(&self, cell: usize) {
        let (word, shift) = place(cell % NARROW_CELLS);
        A::sub(&self.0[word], u64::from(CARRY) << shift);
    }

    /// Adds each cell to its sum.
    pub(crate) fn add_to(&self, sums: &mut [u64; NARROW_CELLS]) {
        for (cell, sum) in sums.iter_mut().enumerate() {
            let (word, shift) = place(cell);
            *sum += count(self.0[word].load(Relaxed), shift);
        }
    }

    /// The same as [`Cells::touch`].
    #[inline]
    pub(crate) fn touch(&self) {
        black_box(self.0[0].load(Relaxed) ^ self.0[WORDS / 2].load(Relaxed));
    }
}

/// The sums of the narrow cells of some lines, in words as they are in those.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NarrowSums {
    words: [u64; WORDS],
    /// The bits that any word has, or has had.
    seen: u64,
}

/// The bits that the counts of a word are within where they are exact.
const EXACT: u64 = 0x7fff_ffff_7fff_ffff;

/// The bits that they are within where they are less than 64.
const SMALL: u64 = 0x3f_0000_003f;

impl NarrowSums {
    /// Adds each cell to its sum.
    #[inline]
    pub(crate) fn add(&mut self, line: &NarrowLine) {
        for (sum, word) in self.words.iter_mut().zip(&line.0) {
            let word = word.load(Relaxed);
            *sum = sum.wrapping_add(word);
            self.seen |= word | *sum;
        }
    }

    /// Whether every sum is what was added: none has outgrown its half of a word.
    #[inline]
    pub(crate) fn are_exact(&self) -> bool {
        self.seen & !EXACT == 0
    }

    /// One of them.
    #[inline]
    pub(crate) fn get(&self, cell: usize) -> u64 {
        let (word, shift) = place(cell % NARROW_CELLS);
        count(self.words[word], shift)
    }

    /// All of them as bytes in their order, where they are less than 64.
    #[inline]
    pub(crate) fn bytes(&self) -> Option<NarrowBytes> {
        (self.seen & !SMALL == 0).then(|| {
            let (rows, _) = self.words.as_chunks::<{ WORDS / 4 }>();
            let mut bytes = [0; WORDS / 4];
            for (row, at) in rows.iter().zip([0, 8, 16, 24]) {
                for (bytes, word) in bytes.iter_mut().zip(row) {
                    *bytes |= word << at;
                }
            }
            bytes
        })
    }
}

/// Small counts of a line's cells, eight in a word.
pub(crate) type NarrowBytes = [u64; NARROW_CELLS / 8];

#[cfg(test)]
mod tests {
    use super::*;

    /// A line whose cells hold these.
    fn line(counts: [u32; NARROW_CELLS]) -> NarrowLine {
        let line = NarrowLine::default();
        for (cell, amount) in counts.into_iter().enumerate() {
            let (word, shift) = place(cell);
            line.0[word].fetch_add(u64::from(amount) << shift, Relaxed);
        }
        line
    }

    fn counts(of: impl Fn(usize) -> u32) -> [u32; NARROW_CELLS] {
        std::array::from_fn(of)
    }

    #[test]
    fn cells_are_summed_in_their_order() {
        let large = counts(|cell| u32::try_from(cell).unwrap() * 1_000_003);
        let mut sums = NarrowSums::default();
        for _ in 0..3 {
            sums.add(&line(large));
        }
        let summed: Vec<u64> = (0..NARROW_CELLS).map(|cell| sums.get(cell)).collect();
        let expected: Vec<u64> = large.map(|count| 3 * u64::from(count)).to_vec();
        assert_eq!(summed, expected);
        assert!(sums.are_exact());
        assert_eq!(sums.bytes(), None);
    }

    #[test]
    fn small_sums_are_bytes_in_the_order_of_the_cells() {
        let mut sums = NarrowSums::default();
        sums.add(&line(counts(|cell| u32::try_from(cell).unwrap())));
        sums.add(&line([32; NARROW_CELLS]));
        let bytes = sums.bytes().unwrap().map(u64::to_le_bytes).concat();
        assert_eq!(bytes, (32..64).collect::<Vec<u8>>());
        sums.add(&line(counts(|cell| u32::from(cell == 31))));
        assert_eq!(sums.bytes(), None, "64 is not small");
    }

    #[test]
    fn a_sum_that_may_have_outgrown_its_half_of_a_word_is_told() {
        for cell in 0..NARROW_CELLS {
            let half = line(counts(|at| u32::from(at == cell) << 30));
            let mut sums = NarrowSums::default();
            sums.add(&half);
            assert!(sums.are_exact());
            for _ in 0..3 {
                sums.add(&half);
                assert!(!sums.are_exact());
            }
        }
    }
}
