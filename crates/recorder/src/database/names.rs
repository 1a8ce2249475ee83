//! The names of pools, and whether their queries have the label `pool`.
//!
//! A service with one pool has no such label on its queries, transactions, errors and openings. As soon as a second name is
//! taken, both pools count in series with the label. The series without it stay: they contain what was counted before, and
//! the connections outside of any pool. No series is renamed or reset, so that the sum of a family never falls.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::families::DatabaseFamilies;
use super::metrics::{Metrics, PoolMetrics};

/// The name of a pool that has none.
pub(super) const DEFAULT: &str = "default";

/// The name of all pools beyond [`MOST`].
const OVERFLOW: &str = "overflow";

/// The most names of the pools of one service, closed pools included. With so many, the family with most series by pool,
/// that of errors, is within its default budget.
pub(super) const MOST: usize = 32;

/// The most characters of a name, without the number of a pool whose name was taken.
const LONGEST: usize = 64;

/// The names that the pools of a service have had.
#[derive(Clone, Debug, Default)]
pub(super) struct PoolNames(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    taken: Vec<Taken>,
    /// The pools without the label, as long as there is one name.
    unlabelled: Vec<(Weak<Metrics>, Weak<PoolMetrics>)>,
}

#[derive(Debug)]
struct Taken {
    name: Box<str>,
    /// The database system of the pool that had the name last.
    system: &'static str,
    /// The open pool of this name.
    pool: Weak<str>,
}

/// A pool with a name of its own, and the series that it counts in.
pub(super) struct NamedPool {
    /// The name is free again when the last clone is dropped.
    pub(super) name: Arc<str>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) pool_metrics: Arc<PoolMetrics>,
}

impl PoolNames {
    /// Takes a name that no open pool has: `wanted`, or `wanted` with a number appended. `system` is the pool's database.
    pub(super) fn take(
        &self,
        wanted: &str,
        system: &'static str,
        families: &DatabaseFamilies,
    ) -> NamedPool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = state.free_name(wanted, system);
        let is_only = state.taken.len() == 1;
        let label = if is_only { "" } else { &*name };
        let metrics = Arc::new(Metrics::new(families, system, label));
        let pool_metrics = Arc::new(PoolMetrics::new(families, &name, label));
        if is_only {
            let pool = (Arc::downgrade(&metrics), Arc::downgrade(&pool_metrics));
            state
                .unlabelled
                .retain(|(metrics, _)| metrics.strong_count() > 0);
            state.unlabelled.push(pool);
        } else {
            state.label_all(families);
        }
        NamedPool {
            name,
            metrics,
            pool_metrics,
        }
    }

    /// The system of the pool of this name, or of all pools if the name is not known and they have the same.
    pub(super) fn system(&self, pool: Option<&str>) -> Option<&'static str> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut named = state.taken.iter();
        if let Some(pool) = pool {
            return Some(named.find(|taken| *taken.name == *pool)?.system);
        }
        let first = named.next()?.system;
        named.all(|taken| taken.system == first).then_some(first)
    }
}

impl State {
    fn free_name(&mut self, wanted: &str, system: &'static str) -> Arc<str> {
        let wanted = match wanted.char_indices().nth(LONGEST) {
            Some((end, _)) => &wanted[..end],
            None if wanted.is_empty() => DEFAULT,
            None => wanted,
        };
        let mut candidate = wanted.to_owned();
        for number in 2.. {
            let is_full = self.taken.len() >= MOST;
            match self.taken.iter_mut().find(|taken| *taken.name == candidate) {
                Some(taken) if taken.pool.strong_count() == 0 => {
                    let name = candidate.into();
                    taken.pool = Arc::downgrade(&name);
                    taken.system = system;
                    return name;
                }
                Some(_) => {}
                None if is_full => break,
                None => {
                    let name = Arc::from(&*candidate);
                    let pool = Arc::downgrade(&name);
                    let name_taken = candidate.into();
                    self.taken.push(Taken {
                        name: name_taken,
                        system,
                        pool,
                    });
                    return name;
                }
            }
            candidate = format!("{wanted}-{number}");
        }
        OVERFLOW.into()
    }

    /// Gives the label to the pools that were opened while there was one name.
    fn label_all(&mut self, families: &DatabaseFamilies) {
        let Some(first) = self.taken.first() else {
            return;
        };
        for (metrics, pool_metrics) in self.unlabelled.drain(..) {
            if let Some(metrics) = metrics.upgrade() {
                metrics.label(families, &first.name);
            }
            if let Some(pool_metrics) = pool_metrics.upgrade() {
                pool_metrics.label(families, &first.name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
