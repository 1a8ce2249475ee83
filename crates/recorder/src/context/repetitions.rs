//! What the statements that a request repeats have in common: whether their runs have the same values.
//!
//! Values are compared by a hash with a key of this process, from some run of a statement on. The hashes are gone with the
//! request, and are shown nowhere. Requests that repeat nothing allocate nothing here.

use std::{
    num::NonZeroU32,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
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
    statements: OnceLock<Box<Mutex<Vec<Repetition>>>>,
    /// The [marks](mark) of the statements whose values are wanted, so that the runs of most others take no lock.
    compared: AtomicU64,
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

impl Repetitions {
    fn lock(&self) -> Option<MutexGuard<'_, Vec<Repetition>>> {
        let repetitions = self.statements.get()?;
        Some(repetitions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the values of one more run of a statement are wanted.
    #[inline]
    pub(super) fn wants(&self, statement: NonZeroU32) -> bool {
        self.compared.load(Relaxed) & mark(statement) != 0 && self.finds_wanted(statement)
    }

    /// Begins to compare the values of a statement. Its stack was captured under this key.
    pub(super) fn add(&self, statement: NonZeroU32, key: Option<SuspectKey>) {
        let repetitions = self.statements.get_or_init(Box::default);
        let mut repetitions = repetitions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = repetitions.iter_mut();
        if let Some(known) = known.find(|known| known.statement == statement) {
            known.key = key.or(known.key);
        } else if repetitions.len() < MOST_STATEMENTS {
            repetitions.push(Repetition {
                statement,
                values: Vec::with_capacity(MOST_VALUES),
                key,
            });
            // The lock is held by all that change the marks.
            let compared = self.compared.load(Relaxed);
            self.compared.store(compared | mark(statement), Relaxed);
        }
    }

    #[cold]
    fn finds_wanted(&self, statement: NonZeroU32) -> bool {
        let wants =
            |known: &Repetition| known.statement == statement && known.values.len() < MOST_VALUES;
        self.lock().is_some_and(|known| known.iter().any(wants))
    }

    /// Adds the hash of the values of a run.
    pub(super) fn compare(&self, statement: NonZeroU32, values: u64) {
        let Some(mut known) = self.lock() else {
            return;
        };
        if let Some(known) = known.iter_mut().find(|known| known.statement == statement)
            && known.values.len() < MOST_VALUES
        {
            known.values.push(values);
        }
        let wanted = (known.iter()).filter(|known| known.values.len() < MOST_VALUES);
        let compared = wanted.fold(0, |marks, known| marks | mark(known.statement));
        self.compared.store(compared, Relaxed);
    }

    /// What a statement with many runs is suspected of, and the key under which its stack was captured.
    pub(super) fn of(&self, statement: NonZeroU32) -> (Suspicion, Option<SuspectKey>) {
        let known = self.lock();
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
        let lengths: Vec<_> = repetitions
            .lock()
            .unwrap()
            .iter()
            .map(|known| known.values.len())
            .collect();
        assert_eq!(lengths, [MOST_VALUES; MOST_STATEMENTS]);
        repetitions.clear();
        assert_eq!(repetitions.of(NonZeroU32::MIN), (Suspicion::NPlusOne, None));
    }
}
