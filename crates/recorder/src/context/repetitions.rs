//! What the statements that a request repeats have in common: whether their runs have the same values.
//!
//! Values are compared by a hash with a key of this process, from some run of a statement on. The hashes are gone with the
//! request, and are shown nowhere. Requests that repeat nothing allocate nothing here.

use std::{
    num::NonZeroU32,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use crate::suspicions::{SuspectKey, Suspicion};

/// The most statements of a request whose values are compared.
const MOST_STATEMENTS: usize = 16;

/// The most runs of a statement whose values are compared.
const MOST_VALUES: usize = 8;

/// The repeated statements of one request or job.
#[derive(Default)]
pub(super) struct Repetitions {
    statements: OnceLock<Box<Repeated>>,
    /// The [marks](mark) of the statements whose values are wanted, so that the runs of most others look no further.
    compared: AtomicU64,
}

#[derive(Default)]
struct Repeated {
    all: Mutex<Vec<Repetition>>,
    /// The number of each of them whose values are wanted, at the same index, and 0 for the others. Reading it takes no lock.
    wanted: [AtomicU32; MOST_STATEMENTS],
    /// Whether there is no room for another statement.
    is_full: AtomicBool,
}

/// One of 64 bits, which a statement shares with few others.
#[inline]
fn mark(statement: NonZeroU32) -> u64 {
    1 << (statement.get() % 64)
}

/// One repeated statement.
struct Repetition {
    statement: NonZeroU32,
    /// Hashes of the values of some runs.
    values: Vec<u64>,
    /// The key under which its stack was captured.
    key: Option<SuspectKey>,
}

impl Repetition {
    /// Each value occurs at least twice on average: the values are the same, or few.
    fn kind(&self) -> Suspicion {
        let mut distinct = self.values.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if self.values.len() >= 2 && 2 * distinct.len() <= self.values.len() {
            Suspicion::Identical
        } else {
            Suspicion::NPlusOne
        }
    }
}

impl Repeated {
    fn lock(&self) -> MutexGuard<'_, Vec<Repetition>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Repetitions {
    /// Whether the values of one more run of a statement are wanted.
    #[inline]
    pub(super) fn wants(&self, statement: NonZeroU32) -> bool {
        self.compared.load(Relaxed) & mark(statement) != 0 && self.finds_wanted(statement)
    }

    /// Begins to compare the values of a statement if there is room for one more.
    #[inline]
    pub(super) fn begin(&self, statement: NonZeroU32) {
        let repeated = self.statements.get();
        if !repeated.is_some_and(|repeated| repeated.is_full.load(Relaxed)) {
            self.add(statement, None);
        }
    }

    /// Begins to compare the values of a statement, unless that has begun. Its stack was captured under this key.
    #[cold]
    pub(super) fn add(&self, statement: NonZeroU32, key: Option<SuspectKey>) {
        let repeated = self.statements.get_or_init(Box::default);
        let mut all = repeated.lock();
        if let Some(known) = all.iter_mut().find(|known| known.statement == statement) {
            known.key = key.or(known.key);
            return;
        }
        let Some(wanted) = repeated.wanted.get(all.len()) else {
            return;
        };
        wanted.store(statement.get(), Relaxed);
        all.push(Repetition {
            statement,
            values: Vec::with_capacity(MOST_VALUES),
            key,
        });
        repeated
            .is_full
            .store(all.len() == MOST_STATEMENTS, Relaxed);
        self.mark_wanted(repeated);
    }

    /// Marks the statements whose values are wanted. The caller holds the lock.
    fn mark_wanted(&self, repeated: &Repeated) {
        let wanted = repeated.wanted.iter();
        let wanted = wanted.filter_map(|wanted| NonZeroU32::new(wanted.load(Relaxed)));
        let compared = wanted.fold(0, |marks, wanted| marks | mark(wanted));
        self.compared.store(compared, Relaxed);
    }

    #[cold]
    fn finds_wanted(&self, statement: NonZeroU32) -> bool {
        let Some(repeated) = self.statements.get() else {
            return false;
        };
        let mut wanted = repeated.wanted.iter();
        wanted.any(|wanted| wanted.load(Relaxed) == statement.get())
    }

    /// Adds the hash of the values of a run.
    pub(super) fn compare(&self, statement: NonZeroU32, values: u64) {
        let Some(repeated) = self.statements.get() else {
            return;
        };
        let mut all = repeated.lock();
        let mut known = all.iter_mut().zip(&repeated.wanted);
        if let Some((known, wanted)) = known.find(|(known, _)| known.statement == statement)
            && known.values.len() < MOST_VALUES
        {
            known.values.push(values);
            if known.values.len() == MOST_VALUES {
                wanted.store(0, Relaxed);
                self.mark_wanted(repeated);
            }
        }
    }

    /// What a statement with many runs is suspected of, and the key under which its stack was captured.
    pub(super) fn of(&self, statement: NonZeroU32) -> (Suspicion, Option<SuspectKey>) {
        let known = self.statements.get().map(|repeated| repeated.lock());
        let mut known = known.iter().flat_map(|known| known.iter());
        let known = known.find(|known| known.statement == statement);
        known.map_or((Suspicion::NPlusOne, None), |known| {
            (known.kind(), known.key)
        })
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.statements.take();
        *self.compared.get_mut() = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_recur_are_identical_and_others_are_not() {
        for (values, expected, why) in [
            (&[][..], Suspicion::NPlusOne, "nothing compared"),
            (&[1], Suspicion::NPlusOne, "one run"),
            (&[1, 1], Suspicion::Identical, "twice the same"),
            (&[1, 2], Suspicion::NPlusOne, "two values"),
            (&[1, 2, 3, 4, 5, 6, 7, 1], Suspicion::NPlusOne, "one recurs"),
            (&[1, 2, 1, 2, 1, 2], Suspicion::Identical, "two in turns"),
        ] {
            let repetitions = Repetitions::default();
            let statement = NonZeroU32::MIN;
            assert!(!repetitions.wants(statement));
            repetitions.compare(statement, 9);
            repetitions.add(statement, None);
            assert!(repetitions.wants(statement));
            for value in values {
                assert!(repetitions.wants(statement));
                repetitions.compare(statement, *value);
            }
            assert_eq!(repetitions.of(statement).0, expected, "{why}");
        }
    }

    #[test]
    fn statements_and_values_are_bounded() {
        let mut repetitions = Repetitions::default();
        for statement in (1..100).filter_map(NonZeroU32::new) {
            repetitions.add(statement, None);
            for value in 0..100 {
                repetitions.compare(statement, value);
            }
            assert!(!repetitions.wants(statement));
            // Neither this one nor those that share its mark take the lock.
            assert_eq!(repetitions.compared.load(Relaxed) & mark(statement), 0);
        }
        let repeated = repetitions.statements.get().unwrap();
        let lengths: Vec<_> = (repeated.lock())
            .iter()
            .map(|known| known.values.len())
            .collect();
        assert_eq!(lengths, [MOST_VALUES; MOST_STATEMENTS]);
        repetitions.clear();
        assert_eq!(repetitions.of(NonZeroU32::MIN), (Suspicion::NPlusOne, None));
    }
}
