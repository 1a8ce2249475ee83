//! Shards: the storage that lets threads record into one series without contending.
//!
//! A series has shards of two kinds. Those that are *shared* are there for every thread: each keeps to one of them, given
//! out in turn at its first recording, but several may have the same, so that they add by read-modify-write. A shard that
//! is *claimed* belongs to whoever holds the claim, which only one thread can use at a time; adding to it is a load and a
//! store. A reader adds all of them up. A shard takes memory when it is first needed, and what was counted in a claimed
//! one stays when its claim is given up, for the next claim to go on with.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, OnceLock};

use once_cell::race::OnceBox;

/// The most shared shards that a series may have.
const MAX_SHARDS: usize = 16;

/// How many shared shards suit this machine: the power of two at or above its cores, at most 16.
pub(crate) fn default_count() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    clamp_count(cores)
}

/// The power of two at or above `wanted`, between 1 and 16.
pub(crate) fn clamp_count(wanted: usize) -> usize {
    wanted.clamp(1, MAX_SHARDS).next_power_of_two()
}

/// The calling thread's number; masked by a power of two less one, its shared shard.
#[inline]
fn current() -> usize {
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

/// All shards of one series.
#[derive(Debug)]
pub(crate) struct Shards<T> {
    /// A power of two of them.
    shared: Box<[OnceBox<T>]>,
    claimed: Link<T>,
}

type Link<T> = OnceLock<Arc<Claimed<T>>>;

/// A shard that can be claimed, and the next one.
#[derive(Debug)]
struct Claimed<T> {
    shard: T,
    is_taken: AtomicBool,
    next: Link<T>,
}

impl<T> Shards<T> {
    /// None yet; there will be at most `count` shared ones, a power of two.
    pub(crate) fn new(count: usize) -> Self {
        Self {
            shared: (0..count).map(|_| OnceBox::new()).collect(),
            claimed: OnceLock::new(),
        }
    }

    /// The shared shard that the calling thread keeps to.
    #[inline]
    pub(crate) fn mine(&self, make: impl Fn() -> T) -> &T {
        let shard = &self.shared[current() & (self.shared.len() - 1)];
        shard.get_or_init(|| Box::new(make()))
    }

    /// Claims a shard: one that was given up, or a new one.
    pub(crate) fn claim(&self, make: impl Fn() -> T) -> Claim<T> {
        let mut link = &self.claimed;
        loop {
            let mut is_new = false;
            let claimed = link.get_or_init(|| {
                is_new = true;
                Arc::new(Claimed {
                    shard: make(),
                    is_taken: AtomicBool::new(true),
                    next: OnceLock::new(),
                })
            });
            // Acquires what the last holder has stored.
            if is_new || !claimed.is_taken.swap(true, Acquire) {
                return Claim {
                    claimed: Arc::clone(claimed),
                    not_sync: PhantomData,
                };
            }
            link = &claimed.next;
        }
    }

    /// Every shard that there is.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        let shared = self.shared.iter().filter_map(OnceBox::get);
        let first = self.claimed.get();
        let claimed = std::iter::successors(first, |claimed| claimed.next.get());
        shared.chain(claimed.map(|claimed| &claimed.shard))
    }
}

/// The right to add to a shard alone, from one thread at a time. Given up when dropped.
#[derive(Debug)]
pub(crate) struct Claim<T> {
    claimed: Arc<Claimed<T>>,
    not_sync: PhantomData<Cell<()>>,
}

impl<T> Deref for Claim<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.claimed.shard
    }
}

impl<T> Drop for Claim<T> {
    fn drop(&mut self) {
        self.claimed.is_taken.store(false, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::super::cell::{Cells, Shared, Sole};
    use super::*;

    fn cells() -> Cells {
        Cells::new(20)
    }

    fn sum(shards: &Shards<Cells>) -> u64 {
        shards.iter().map(|shard| shard.load(17)).sum()
    }

    #[test]
    fn shards_are_a_power_of_two_of_at_most_sixteen() {
        for (wanted, given) in [(0, 1), (1, 1), (2, 2), (3, 4), (12, 16), (64, 16)] {
            assert_eq!(clamp_count(wanted), given);
        }
        assert!(default_count().is_power_of_two());
    }

    #[test]
    fn threads_spread_over_shared_shards_and_sum_to_the_whole() {
        let shards = Shards::new(4);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let mine = shards.mine(cells);
                        mine.add::<Shared>(17, 1);
                        mine.add_f64::<Shared>(0, 0.5);
                    }
                });
            }
        });
        assert_eq!(sum(&shards), 8000);
        let seconds: f64 = shards.iter().map(|shard| shard.load_f64(0)).sum();
        assert!((seconds - 4000.0).abs() < 1e-9);
        let used = shards.iter().filter(|shard| shard.load(17) > 0).count();
        assert!(used > 1);
    }

    #[test]
    fn claims_count_exactly_beside_shared_shards_and_each_other() {
        let shards = Shards::new(2);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let claim = shards.claim(cells);
                        (0..100).for_each(|_| claim.add::<Sole>(17, 1));
                    }
                });
                scope.spawn(|| {
                    (0..10_000).for_each(|_| shards.mine(cells).add::<Shared>(17, 1));
                });
            }
        });
        assert_eq!(sum(&shards), 80_000);
        assert!(
            shards.iter().count() <= 2 + 4,
            "what was given up is used again"
        );
    }

    #[test]
    fn two_claims_are_never_of_one_shard() {
        let shards = Shards::new(1);
        let (one, other) = (shards.claim(cells), shards.claim(cells));
        assert!(!std::ptr::eq(&raw const *one, &raw const *other));
        let address = &raw const *one;
        drop(one);
        assert!(std::ptr::eq(&raw const *shards.claim(cells), address));
    }
}
