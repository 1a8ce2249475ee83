//! Shards: the storage that lets threads record into one series without contending.
//!
//! A series has two kinds of shards. *Shared* shards are for every thread: a thread gets its number at its first
//! recording and always uses the same shard of a series, but several threads may use one shard, so they add by
//! read-modify-write. A *claimed* shard belongs to the holder of its claim, which only one thread can use at a time; that
//! thread adds by a load and a store. A reader sums over all shards. A shard is allocated when it is first needed. The
//! counts in a claimed shard stay when the claim is dropped, and the next claim adds to them. A claimed shard may belong to
//! two series at once: what is added to it counts in both.
//!
//! Every claim that is held at the same time needs a shard of its own, and a reader visits all shards. So a claim is for a
//! holder that keeps it, such as a worker's thread.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use once_cell::race::OnceBox;

/// The most shared shards that a series may have.
const MAX_SHARDS: usize = 16;

/// The default number of shared shards: the power of two at or above the number of cores, at most 16.
pub(crate) fn default_count() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    clamp_count(cores)
}

/// The power of two at or above `wanted`, between 1 and 16.
pub(crate) fn clamp_count(wanted: usize) -> usize {
    wanted.clamp(1, MAX_SHARDS).next_power_of_two()
}

/// The number of the calling thread. Its lowest bits choose the shared shard.
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
    /// Their number is a power of two.
    shared: Box<[OnceBox<T>]>,
    /// The list of all shards that were ever claimed. It only grows.
    claimed: Link<T>,
    claims: Claims<T>,
}

type Link<T> = OnceLock<Arc<ClaimedShard<T>>>;

type Claims<T> = Arc<Mutex<Ends<T>>>;

/// A shard that can be claimed, and the next one of the list.
#[derive(Debug)]
struct ClaimedShard<T> {
    shard: Arc<T>,
    next: Link<T>,
}

/// The shards that are not claimed now, and the end of the list. With both, a claim takes the same time however many claims
/// there are.
#[derive(Debug)]
struct Ends<T> {
    free: Vec<Arc<T>>,
    /// Free shards that belong to another series as well, whose claims these are.
    free_in_both: Vec<(Claims<T>, Arc<T>)>,
    last: Option<Arc<ClaimedShard<T>>>,
}

impl<T> Ends<T> {
    /// Takes a free shard, of this series alone or of this one and the other.
    fn take_free(&mut self, other: Option<&Claims<T>>) -> Option<Arc<T>> {
        let Some(other) = other else {
            return self.free.pop();
        };
        let mut free = self.free_in_both.iter();
        let at = free.position(|(of, _)| Arc::ptr_eq(of, other))?;
        Some(self.free_in_both.swap_remove(at).1)
    }
}

fn lock<T>(claims: &Claims<T>) -> MutexGuard<'_, Ends<T>> {
    claims.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Shards<T> {
    /// No shards yet, and at most `count` shared ones: a power of two.
    pub(crate) fn new(count: usize) -> Self {
        let ends = Ends {
            free: Vec::new(),
            free_in_both: Vec::new(),
            last: None,
        };
        Self {
            shared: (0..count).map(|_| OnceBox::new()).collect(),
            claimed: OnceLock::new(),
            claims: Arc::new(Mutex::new(ends)),
        }
    }

    /// The shared shard of the calling thread.
    #[inline]
    pub(crate) fn mine(&self, make: impl Fn() -> T) -> &T {
        let shard = &self.shared[current() & (self.shared.len() - 1)];
        shard.get_or_init(|| Box::new(make()))
    }

    /// Claims a shard: a free one, or a new one. Takes a lock.
    pub(crate) fn claim(&self, make: impl Fn() -> T) -> Claim<T> {
        self.claim_in(None, make)
    }

    /// Claims a shard of this series and of another one.
    pub(crate) fn claim_in_both(&self, other: &Self, make: impl Fn() -> T) -> Claim<T> {
        self.claim_in(Some(other), make)
    }

    fn claim_in(&self, other: Option<&Self>, make: impl Fn() -> T) -> Claim<T> {
        let free = lock(&self.claims).take_free(other.map(|other| &other.claims));
        let shard = free.unwrap_or_else(|| {
            let new = Arc::new(make());
            self.append(&new);
            if let Some(other) = other {
                other.append(&new);
            }
            new
        });
        Claim {
            shard,
            claims: Arc::clone(&self.claims),
            other: other.map(|other| Arc::clone(&other.claims)),
            not_sync: PhantomData,
        }
    }

    /// Adds a new shard to the end of the list.
    fn append(&self, shard: &Arc<T>) {
        let new = Arc::new(ClaimedShard {
            shard: Arc::clone(shard),
            next: OnceLock::new(),
        });
        let mut ends = lock(&self.claims);
        let last = ends.last.replace(Arc::clone(&new));
        let link = last.as_ref().map_or(&self.claimed, |last| &last.next);
        // Only the holder of the lock fills the end of the list, so it is empty.
        link.get_or_init(|| new);
    }

    /// Every shard that exists.
    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        let shared = self.shared.iter().filter_map(OnceBox::get);
        shared.chain(self.claimed())
    }

    /// Every shard that has ever been claimed.
    #[inline]
    pub(crate) fn claimed(&self) -> impl Iterator<Item = &T> + Clone {
        let first = self.claimed.get();
        let claimed = std::iter::successors(first, |claimed| claimed.next.get());
        claimed.map(|claimed| &*claimed.shard)
    }
}

/// The exclusive right to add to a shard, from one thread at a time. Dropping it frees the shard for another claim.
#[derive(Debug)]
pub(crate) struct Claim<T> {
    shard: Arc<T>,
    claims: Claims<T>,
    /// The claims of the other series that the shard belongs to, if there is one.
    other: Option<Claims<T>>,
    not_sync: PhantomData<Cell<()>>,
}

impl<T> Deref for Claim<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.shard
    }
}

impl<T> Drop for Claim<T> {
    fn drop(&mut self) {
        let (mut ends, shard) = (lock(&self.claims), Arc::clone(&self.shard));
        match self.other.take() {
            None => ends.free.push(shard),
            Some(other) => ends.free_in_both.push((other, shard)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cell::{Cells, SharedAccess, SoleAccess};
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
                        mine.add::<SharedAccess>(17, 1);
                        mine.add_f64::<SharedAccess>(0, 0.5);
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
                        (0..100).for_each(|_| claim.add::<SoleAccess>(17, 1));
                    }
                });
                scope.spawn(|| {
                    (0..10_000).for_each(|_| shards.mine(cells).add::<SharedAccess>(17, 1));
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

    #[test]
    fn a_shard_of_two_series_counts_in_both_and_is_claimed_again_by_both_only() {
        let (one, other, third) = (Shards::new(1), Shards::new(1), Shards::new(1));
        let claim = one.claim_in_both(&other, cells);
        claim.add::<SoleAccess>(17, 1);
        let own = one.claim(cells);
        own.add::<SoleAccess>(17, 2);
        assert_eq!((sum(&one), sum(&other), sum(&third)), (3, 1, 0));
        let address = &raw const *claim;
        drop(claim);
        for claim in [
            one.claim(cells),
            one.claim_in_both(&third, cells),
            other.claim(cells),
        ] {
            assert!(!std::ptr::eq(&raw const *claim, address));
        }
        let again = one.claim_in_both(&other, cells);
        assert!(std::ptr::eq(&raw const *again, address));
        again.add::<SoleAccess>(17, 4);
        assert_eq!((sum(&one), sum(&other), sum(&third)), (7, 5, 0));
    }

    #[test]
    fn a_freed_shard_is_claimed_again_whichever_claim_held_it() {
        let shards = Shards::new(1);
        let mut claims: Vec<_> = (0..10_000).map(|_| shards.claim(cells)).collect();
        assert_eq!(shards.iter().count(), 10_000, "each has a shard of its own");
        let freed = claims.swap_remove(7_000);
        freed.add::<SoleAccess>(17, 1);
        let address = &raw const *freed;
        drop(freed);
        let claim = shards.claim(cells);
        assert!(std::ptr::eq(&raw const *claim, address));
        claim.add::<SoleAccess>(17, 1);
        assert_eq!(sum(&shards), 2);
        assert_eq!(shards.iter().count(), 10_000);
    }

    #[test]
    fn a_claim_allocates_the_same_however_many_there_are() {
        let shards = Shards::new(1);
        let taken = |claims: &mut Vec<Claim<Cells>>| {
            allocation_counter::measure(|| claims.push(shards.claim(cells))).count_total
        };
        let mut claims = Vec::with_capacity(10_001);
        let first = taken(&mut claims);
        for _ in 0..9_999 {
            assert_eq!(taken(&mut claims), first);
        }
        drop(claims.pop());
        assert_eq!(taken(&mut claims), 0, "a free shard is used again");
    }
}
